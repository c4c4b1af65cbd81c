from typing import Any

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.triggers import Event, match, parse_trigger

LANDED = Event(
    "e1", "/airport", "flights.month.landed", "2013-01", "2013-02-01T00:00:00Z", {"month": 1, "sha256": "ab"}
)


def trigger(**fields: Any) -> dict[str, Any]:
    return {"name": "month", "workflow": "monthly", "source": {"topic": "triggers"}, **fields}


def test_a_trigger_without_filter_takes_every_event_once_by_source_and_id() -> None:
    found = match(parse_trigger(trigger()), LANDED)

    assert found.taken
    assert found.dedupe_key == "/airport e1"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"filter": {"type": "flights.month.landed", "source": "/airport", "subject": "2013-*"}}, ""),
        (
            {"filter": {"subject": "2013-01"}, "when": "trigger.data.month < 5 && trigger.type.startsWith('flights.')"},
            "",
        ),
        ({"filter": {"type": "other"}}, "its type is 'flights.month.landed'; the trigger wants 'other'"),
        ({"filter": {"subject": "2014-*"}}, "its subject is '2013-01'; the trigger wants '2014-*'"),
        ({"when": "trigger.data.month > 5"}, "'trigger.data.month > 5' is false for it"),
        ({"when": "trigger.data.year == 1"}, "cannot be evaluated"),
        ({"dedupe": "/data/year"}, "it has no dedupe key"),
        ({"dedupe": "/data"}, "is not text, a number or a boolean"),
    ],
)
def test_a_trigger_says_why_it_does_not_take_an_event(fields: dict[str, Any], reason: str) -> None:
    found = match(parse_trigger(trigger(**fields)), LANDED)

    assert found.taken is (reason == "")
    assert reason in found.reason


def test_a_dedupe_pointer_replaces_the_events_identity() -> None:
    assert match(parse_trigger(trigger(dedupe="/data/sha256")), LANDED).dedupe_key == "ab"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"when": "outputs.a == 1"}, "unknown variable outputs"),
        ({"dedupe": "data"}, "not a JSON pointer"),
        ({"strategy": "first"}, "strategy"),
        ({"sink": {}}, "sink: unknown field; known are name, workflow"),
        ({"source": {"topic": "t", "id": "/id"}}, "for format json"),
        ({"source": {"topic": "t", "format": "avro"}}, "source.format"),
        ({"source": {"topic": "a b"}}, "source.topic"),
    ],
)
def test_a_trigger_that_cannot_work_is_refused_with_its_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        parse_trigger(trigger(**fields))
