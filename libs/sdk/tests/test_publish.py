import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from millrace.runtime.errors import Conflict, InvalidInput, NotFound, Unavailable
from millrace.runtime.testing import create_topics
from millrace.sdk import publish as module
from millrace.sdk.publish import CloudEvent, Publisher, publish
from millrace.sdk.stack.kafka import Kafka

AT = datetime(2013, 2, 1, 5, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]


def landed(**given: Any) -> CloudEvent:
    return CloudEvent(type="flights.month.landed", source="/nyc/airports", **{"data": {"month": "2013-01"}, **given})


async def records(broker: Kafka, topic: str, partition: int = 0) -> list[Any]:
    """All records of a topic's partition."""
    async with AIOKafkaConsumer(bootstrap_servers=broker.servers, auto_offset_reset="earliest") as consumer:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        (end,) = (await consumer.end_offsets([place])).values()
        return [await consumer.getone() for _ in range(end)]


def test_in_binary_mode_the_attributes_are_headers_and_the_value_is_the_data() -> None:
    headers, value = landed(id="2013-01", subject="2013-01", time=AT, namespace="demo").binary()

    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"2013-01",
        "ce_source": b"/nyc/airports",
        "ce_type": b"flights.month.landed",
        "ce_subject": b"2013-01",
        "ce_time": b"2013-02-01T05:00:00+00:00",
        "ce_namespace": b"demo",
        "content-type": b"application/json",
    }
    assert json.loads(value) == {"month": "2013-01"}


def test_in_structured_mode_the_value_is_all_of_it() -> None:
    headers, value = landed(id="1", time=AT).structured()

    assert dict(headers) == {"content-type": b"application/cloudevents+json"}
    assert json.loads(value) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/nyc/airports",
        "type": "flights.month.landed",
        "time": "2013-02-01T05:00:00+00:00",
        "datacontenttype": "application/json",
        "data": {"month": "2013-01"},
    }


def test_the_trace_travels_as_a_header_of_its_own() -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    assert dict(landed(traceparent=traceparent).binary()[0])["traceparent"] == traceparent.encode()
    assert json.loads(landed(traceparent=traceparent).structured()[1])["traceparent"] == traceparent


def test_what_plain_kcat_sends_is_what_publish_sends() -> None:
    for text in (module.__doc__ or "", (ROOT / "docs/publish.md").read_text()):
        sent = dict(found.split("=", 1) for found in re.findall(r"-H (\S+=\S+)", text))
        (said,) = re.findall(r"echo '(.*)'", text)

        headers, _ = landed(id=sent["ce_id"], subject=sent["ce_subject"], data=json.loads(said), time=AT).binary()

        assert dict(headers).keys() == sent.keys()
        same = sent.keys() - {"ce_time"}
        assert {name: value.decode() for name, value in headers if name in same} == {name: sent[name] for name in same}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"id": ""}, "id: "),
        ({"subject": "a\nb"}, "subject: "),
        ({"time": datetime(2013, 1, 1)}, "time: "),  # noqa: DTZ001 - that it has no zone is the point
        ({"data": {"delay": float("nan")}}, "it is no JSON"),
        ({"data": {"at": AT}}, "it is no JSON"),
        ({"data": "a\0b"}, "NUL"),
        ({"data": "x" * 70_000}, "send a reference"),
    ],
)
def test_what_no_service_could_read_is_refused_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        landed(**given).binary()


async def test_an_event_is_there_under_its_source_once_publish_returns(broker: Kafka) -> None:
    await create_topics(broker.servers, {"published": 1})

    event = await publish("published", "landed", "/here", {"n": 1}, servers=broker.servers)
    await publish(
        "published", "landed", "/here", {"n": 1}, id=event.id, key="k", mode="structured", servers=broker.servers
    )

    first, again = await records(broker, "published")
    assert UUID(event.id).version == 7
    assert (first.key, dict(first.headers)["ce_id"], first.value) == (b"/here", event.id.encode(), b'{"n": 1}')
    assert (again.key, json.loads(again.value)["id"]) == (b"k", event.id)


async def test_what_was_given_while_the_broker_was_frozen_is_there_once_it_answers(
    lone_broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 1.0)
    await create_topics(lone_broker.servers, {"frozen": 1})
    # Together more than a batch of Kafka's client takes: for some there is no room while others wait for an answer.
    events = [landed(data={"text": f"{n}".ljust(10_000, "x")}) for n in range(6)]
    async with Publisher(lone_broker.servers) as publisher:
        await publisher.send("frozen", events[0])
        frozen = psutil.Process(lone_broker.pid)
        frozen.suspend()
        try:
            sending = [asyncio.create_task(publisher.send("frozen", event)) for event in events[1:]]
            await asyncio.wait(sending, timeout=3)
        finally:
            frozen.resume()
        await asyncio.gather(*sending)

    found = [dict(record.headers)["ce_id"].decode() for record in await records(lone_broker, "frozen")]
    assert sorted(found) == sorted(event.id for event in events)


async def test_a_publisher_whose_client_has_given_up_an_event_goes_on_with_the_next_in_order(broker: Kafka) -> None:
    await create_topics(broker.servers, {"numbered": 1})
    events = [landed() for _ in range(7)]
    async with Publisher(broker.servers) as publisher:
        await publisher.send("numbered", events[0])
        # As where a partition has no leader for so long that aiokafka gives up what it had numbered.
        publisher._producer._txn_manager.increment_sequence_number(TopicPartition("numbered", 0), 1)  # type: ignore[union-attr]
        await publisher.send("numbered", events[1])
        await asyncio.gather(*[publisher.send("numbered", event) for event in events[2:]])

    found = [dict(record.headers)["ce_id"].decode() for record in await records(broker, "numbered")]
    assert found == [event.id for event in events]


async def test_a_publisher_is_left_though_its_broker_is_frozen(lone_broker: Kafka) -> None:
    await create_topics(lone_broker.servers, {"left": 1})
    frozen = psutil.Process(lone_broker.pid)
    try:
        async with asyncio.timeout(20), Publisher(lone_broker.servers, timeout_s=2.0) as publisher:
            await publisher.send("left", landed())
            frozen.suspend()
            with pytest.raises(Unavailable, match="send it again with the same id"):
                await publisher.send("left", landed())
    finally:
        frozen.resume()


async def test_a_topic_that_is_not_there_is_told_at_once(broker: Kafka) -> None:
    async with Publisher(broker.servers) as publisher:
        with pytest.raises(NotFound, match="topic nowhere does not exist"):
            await publisher.send("nowhere", landed())


async def test_without_a_broker_it_says_where_it_looked() -> None:
    with pytest.raises(Unavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1:"):
        await publish("triggers", "landed", "/here", {}, servers="127.0.0.1:1")


async def test_a_publisher_that_is_not_connected_says_how_it_is_used() -> None:
    with pytest.raises(Conflict, match="async with"):
        await Publisher("127.0.0.1:1").send("triggers", landed())


async def test_a_publisher_that_was_left_connects_to_nothing_again(broker: Kafka) -> None:
    await create_topics(broker.servers, {"once": 1})
    async with Publisher(broker.servers) as publisher:
        await publisher.send("once", landed())

    for _ in range(2):
        with pytest.raises(Conflict, match="async with"):
            await publisher.send("once", landed())
    assert len(await records(broker, "once")) == 1


async def test_the_snippets_of_the_page_on_publishing_publish(broker: Kafka) -> None:
    await create_topics(broker.servers, {"triggers": 4})
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs/publish.md").read_text(), re.DOTALL)

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "\n".join(snippets)],
        env=os.environ | {"MILLRACE_KAFKA_SERVERS": broker.servers},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "published 2013-01\n"), done.stderr
    sent = [record for partition in range(4) for record in await records(broker, "triggers", partition)]
    assert {b"2013-01", b"2013-02", b"2013-03"} <= {dict(record.headers).get("ce_id") for record in sent}
