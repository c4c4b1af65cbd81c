"""What a broker remembers of a consumer's fetches."""

from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4, FetchRequest_v11, FetchResponse_v11
from millrace.runtime.consume.reader import BoundedConsumer
from millrace.runtime.consume.sessions import FetchSession, SessionRequest
from millrace.runtime.testing import create_topics
from runtime_effects import settings_of

FORGOTTEN_BY_BROKER = 70


def whole(**offsets: int) -> FetchRequest:
    return FetchRequest(500, 1, 1000, 0, [(topic, [(0, offset, 100)]) for topic, offset in offsets.items()])


def named(request: SessionRequest) -> tuple[int, int, list[str], list[str]]:
    """Return session, epoch, and the topics that are told and forgotten."""
    made = request.build(FetchRequest_v11)
    told, forgotten = ([topic for topic, _ in what] for what in (made.topics, made.forgotten_topics_data))
    return made.session_id, made.session_epoch, sorted(told), forgotten


def answer(session: int, error_code: int = 0) -> FetchResponse_v11:
    return FetchResponse_v11(0, error_code, session, [])


def begun(**offsets: int) -> FetchSession:
    session = FetchSession()
    assert session.answered(session.request(whole(**offsets)), answer(7))
    return session


def test_after_the_first_request_only_what_changed_is_told() -> None:
    session = FetchSession()
    first = session.request(whole(a=0, b=0, c=0))
    assert named(first) == (0, 0, ["a", "b", "c"], [])
    session.answered(first, answer(7))

    second = session.request(whole(a=0, b=3, d=0))

    assert named(second) == (7, 1, ["b", "d"], ["c"])
    session.answered(second, answer(7))
    assert named(session.request(whole(a=0, b=3, d=0))) == (7, 2, [], [])


def test_after_a_request_without_an_answer_everything_is_told_again() -> None:
    session = begun(a=0, b=0)
    session.request(whole(a=1, b=0))

    # Under its id, so that the broker ends it.
    assert named(session.request(whole(a=1, b=0))) == (7, 0, ["a", "b"], [])


def test_a_broker_that_has_forgotten_is_told_everything() -> None:
    session = begun(a=0)
    request = session.request(whole(a=0))

    assert not session.answered(request, answer(0, FORGOTTEN_BY_BROKER))
    assert named(session.request(whole(a=0))) == (7, 0, ["a"], [])


def test_a_broker_without_room_for_a_session_is_told_everything_each_time() -> None:
    session = FetchSession()
    session.answered(session.request(whole(a=0)), answer(0))

    assert named(session.request(whole(a=0))) == (0, 0, ["a"], [])


def test_a_broker_that_knows_no_sessions_is_asked_without() -> None:
    session = begun(a=0)
    request = session.request(whole(a=0, b=0))

    assert [topic for topic, _ in request.build(FetchRequest_v4).topics] == ["a", "b"]


@pytest.mark.parametrize("forgets", [False, True])
async def test_all_partitions_are_read_whether_the_broker_remembers_or_not(
    service_name: str, broker: Any, tmp_path: Any, *, forgets: bool
) -> None:
    await create_topics(broker.servers, {service_name: 3})
    places = [TopicPartition(service_name, n) for n in range(3)]
    consumer = BoundedConsumer(settings_of("postgresql://", broker.servers, tmp_path))
    await consumer.start()
    send, epochs = consumer._patiently, []

    async def sent(node_id: int, request: Any, options: Any) -> Any:
        if isinstance(request, SessionRequest):
            epochs.append(request.epoch)
            # What a broker that has forgotten the session would find.
            request._session += forgets and request.epoch > 1
        return await send(node_id, request, options)

    consumer._patiently = sent
    found: list[tuple[int, bytes]] = []
    try:
        consumer.assign(places)
        await consumer.seek_to_beginning()
        async with AIOKafkaProducer(bootstrap_servers=broker.servers) as producer:
            for n in range(9):
                await producer.send_and_wait(service_name, b"%d" % n, partition=n % 3)
                while len(found) <= n:
                    records = await consumer.getmany(timeout_ms=1000)
                    found += [(r.partition, r.value) for some in records.values() for r in some]
    finally:
        await consumer.stop()

    assert found == [(n % 3, b"%d" % n) for n in range(9)]
    assert epochs[:2] == [0, 1]
    assert max(epochs) == 2 if forgets else max(epochs) >= len(found)
