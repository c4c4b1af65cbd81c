import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.tasks import TaskFailed
from millrace.control.commands import read_data
from millrace.control.domain.events import happened_at, read_record, topics_of_patterns
from millrace.control.domain.explain import Recorded, explain
from millrace.control.domain.runs import input_of
from millrace.core.state import Failed
from millrace.core.triggers import Event, Source, parse_trigger
from millrace.runtime.errors import InvalidInput
from millrace.runtime.subscriptions import Record

CAME_AT = datetime(2026, 3, 1, tzinfo=UTC)

CLOUD = Source(topic="triggers")
PLAIN = Source(topic="orders", format="json", id="/order/id", type="order.placed")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENVELOPE = {"specversion": "1.0", "id": "e1", "source": "/airport", "type": "landed"}


def record(value: bytes | None, headers: dict[str, bytes | None] | None = None, topic: str = "triggers") -> Record:
    return Record(topic, 2, 7, b"k", value, tuple((headers or {}).items()), 1_700_000_000_000)


def binary(**headers: bytes | None) -> dict[str, bytes | None]:
    return {**{f"ce_{name}": value.encode() for name, value in ENVELOPE.items()}, **headers}


def structured(**fields: Any) -> Record:
    headers = {"content-type": b"application/cloudevents+json; charset=utf-8"}
    return record(json.dumps({**ENVELOPE, **fields}).encode(), headers)


def test_a_binary_cloud_event_is_read() -> None:
    headers = binary(ce_subject=b"2013-01", ce_time=b"2013-02-01T00:00:00Z", traceparent=TRACE.encode())

    found = read_record(record(b'{"month": 1}', headers), CLOUD)

    assert found.event == Event("e1", "/airport", "landed", "2013-01", "2013-02-01T00:00:00Z", {"month": 1})
    assert found.traceparent == TRACE


def test_a_structured_cloud_event_reads_the_same() -> None:
    found = read_record(structured(subject="2013-01", data={"month": 1}, traceparent=TRACE, extension=3), CLOUD)

    assert found.event == Event("e1", "/airport", "landed", "2013-01", "2023-11-14T22:13:20+00:00", {"month": 1})
    assert found.traceparent == TRACE


def test_plain_json_gets_its_id_by_pointer_and_its_place_otherwise() -> None:
    by_pointer = read_record(record(b'{"order": {"id": 5}}', topic="orders"), PLAIN)
    by_place = read_record(record(b"{}", topic="orders"), Source(topic="orders", format="json"))

    assert (by_pointer.event.id, by_pointer.event.source, by_pointer.event.type) == (
        "5",
        "/kafka/orders",
        "order.placed",
    )
    assert (by_place.event.id, by_place.event.type, by_place.event.subject) == ("2/7", "orders", "k")


@pytest.mark.parametrize(
    ("given", "source", "said"),
    [
        (record(b"{}"), CLOUD, "attributes missing: specversion, id, source, type"),
        (record(b"{}", binary(ce_id=b"")), CLOUD, "attributes missing: id"),
        (record(b"{}", binary(ce_id=None)), CLOUD, "attributes missing: id"),
        (record(b"{}", binary(ce_specversion=b"0.3")), CLOUD, "specversion is '0.3'"),
        (record(b"{}", binary(ce_type=b"\xff")), CLOUD, "header ce_type is not UTF-8"),
        (record(b"{", binary()), CLOUD, "not JSON"),
        (record(b"\xff", binary()), CLOUD, "not UTF-8"),
        (record(b"NaN", binary()), CLOUD, "Out of range float values are not JSON"),
        (record(b'"\\u0000"', binary()), CLOUD, "NUL"),
        (record(json.dumps("x" * 65536).encode(), binary()), CLOUD, "more than 65536: send a reference"),
        (record(b"{}", binary(ce_subject=b"s" * 2000)), CLOUD, "2000 characters"),
        (record(b"[" * 100_000, binary()), CLOUD, "not JSON"),
        (structured(data_base64="AA=="), CLOUD, "data_base64 is not read"),
        (structured(type=["x"]), CLOUD, "attribute type is not text"),
        (record(b"[]", {"content-type": b"application/cloudevents+json"}), CLOUD, "a JSON object"),
        (record(b"[1]", topic="orders"), PLAIN, "not a JSON object"),
        (record(b"{}", topic="orders"), PLAIN, "the value has no id"),
        (record(b'{"order": {"id": {}}}', topic="orders"), PLAIN, "not text or a number"),
        (record(None, topic="orders"), PLAIN, "not JSON"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(given: Record, source: Source, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_record(given, source)


def test_an_explanation_tells_what_was_decided_and_what_triggers_said_then() -> None:
    event, came_at = Event("e1", "/airport", "landed", "", "", {}), datetime(2026, 3, 1, tzinfo=UTC)
    triggers = [
        (parse_trigger({"name": name, "workflow": "w", "source": {"topic": "triggers"}, **fields}), since)
        for name, (since, fields) in {
            "started": (came_at, {}),
            "filtered": (came_at, {"filter": {"type": "other"}}),
            "later": (came_at + timedelta(seconds=1), {}),
            "elsewhere": (came_at, {"source": {"topic": "other"}}),
        }.items()
    ]
    recorded = [
        Recorded("started", "started", "k", UUID(int=1)),
        Recorded("again", "duplicate", "k", UUID(int=1)),
        Recorded("turned_away", "skipped", "k", UUID(int=1), reason="run 1 is under way"),
    ]

    found = explain(event, "triggers", came_at, triggers, recorded)

    assert {told.trigger: (told.disposition, told.reason) for told in found} == {
        "started": ("started", ""),
        "again": ("duplicate", "an event with the same key 'k' came before"),
        "turned_away": ("skipped", "run 1 is under way"),
        "filtered": ("filtered", "its type is 'landed'; the trigger wants 'other'"),
        "later": ("unseen", "it was put in force at 2026-03-01 00:00:01 UTC, after the event came"),
    }


def test_patterns_name_topics_that_are_there_but_neither_tasks_nor_the_brokers_own() -> None:
    there = ["orders.eu", "orders.us", "orders.tasks", "control.tasks.orders.x", "__orders.x", "stock"]

    assert topics_of_patterns({"orders.*": False, "stock": True, "*us": True}, there) == {
        "orders.eu": False,
        "orders.us": True,
    }


@pytest.mark.parametrize(
    ("time", "read"),
    [
        ("2026-03-01T12:00:00+01:00", datetime(2026, 3, 1, 11, tzinfo=UTC)),
        ("2026-03-01T12:00:00", CAME_AT),
        ("yesterday", CAME_AT),
        ("0001-01-01T00:00:00+14:00", CAME_AT),
    ],
)
def test_an_events_own_time_is_read_where_it_is_one(time: str, read: datetime) -> None:
    assert happened_at(Event("e1", "/s", "t", "", time, None), CAME_AT) == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NaN", "data_json cannot be taken: it is no JSON"),
        ("[1e999]", "data_json cannot be taken: it is no JSON"),
        (r'{"a": "\ud800"}', "data_json cannot be taken: it holds half a character"),
        (r'{"a": "\u0000"}', "data_json cannot be taken: it holds a NUL character"),
        ("{", "data_json is not JSON"),
        ("[" * 102 + "]" * 102, "data_json cannot be taken: it has lists and objects more than 100 levels down"),
    ],
)
def test_data_that_cannot_be_stored_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_data(text)


@pytest.mark.parametrize(
    ("error", "blameless"),
    [("lost", True), ("preempted", True), ("Unavailable", True), ("Overloaded", True), ("NotFound", False)],
)
def test_an_attempt_that_something_else_ended_is_not_held_against_its_work(error: str, blameless: bool) -> None:
    report = TaskFailed(
        namespace="demo",
        service="data",
        task_id=UUID(int=1),
        attempt=1,
        token=UUID(int=2),
        run_id=UUID(int=3),
        kind="data.ingest",
        name="ingest",
        workflow="w",
        error=error,
        message="it happened",
        retryable=True,
    )

    told = input_of(report)

    assert isinstance(told, Failed)
    assert told.failure.lost is blameless
