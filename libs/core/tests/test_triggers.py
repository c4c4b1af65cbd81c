from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.core.errors import InvalidDocument
from millrace.core.triggers import Event, Index, Match, Source, Trigger, match, parse_trigger, reader_of
from millrace.core.triggers.partitions import MOST_PARTS, parts_of, period_of
from millrace.core.triggers.sources import Filter

MEMBERS = [{"name": "a"}, {"name": "b"}]
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


@pytest.mark.parametrize(
    "fields",
    [
        {"when": "trigger.data.year == 1"},
        {"when": "trigger.data"},
        {"dedupe": "/data/year"},
        {"key": "/data", "mode": "batch"},
        {"join": {"partitions": {"each": "day", "per": "month"}}},
    ],
)
def test_e3_what_cannot_be_told_of_an_event_is_an_error(fields: dict[str, Any]) -> None:
    found = match(parse_trigger(trigger(**fields)), LANDED)

    assert (found.taken, found.error) == (False, found.reason)


@pytest.mark.parametrize("fields", [{"filter": {"type": "other"}}, {"when": "trigger.data.month > 5"}])
def test_an_event_that_a_trigger_does_not_want_is_no_error(fields: dict[str, Any]) -> None:
    assert match(parse_trigger(trigger(**fields)), LANDED).error == ""


def test_what_one_member_cannot_tell_of_an_event_that_another_takes_is_no_error() -> None:
    members = [{"name": "a", "when": "trigger.data.year == 1"}, {"name": "b", "when": "trigger.data.month == 1"}]
    joined = parse_trigger(trigger(join={"members": members}))

    taken, refused = match(joined, LANDED), match(joined, replace(LANDED, data={"month": 2}))

    assert (taken.slot, taken.error) == ("b", "")
    assert (refused.error, "b: " in refused.reason) == (refused.reason.split("; ")[0], True)


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


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"join": {"members": [{"name": "a"}]}}, "at least two `members`, or `partitions`"),
        ({"join": {"members": [{"name": "a"}, {"name": "a"}]}}, "two members have the same name"),
        ({"join": {"of": "n_of", "members": MEMBERS}}, "`n` is for `of: n_of`, which needs it"),
        ({"join": {"of": "n_of", "n": 3, "members": MEMBERS}}, "n is 3, more than the 2 that may come"),
        ({"join": {"of": "n_of", "n": 8, "partitions": {"each": "day", "per": "week"}}}, "more than the 7 that may"),
        ({"join": {"of": "sequence", "members": MEMBERS, "again": "next"}}, "neither `partitions` nor `again`"),
        ({"join": {"members": MEMBERS}, "when": "true"}, "stand with each member"),
        ({"join": {"members": MEMBERS}, "mode": "latest"}, "a join has no `mode`"),
        ({"join": {"partitions": {"each": "day", "per": "day"}}}, "they are to a week, month, year"),
        ({"join": {"members": MEMBERS, "partitions": {"each": "hour", "per": "month"}}}, "more than 1000"),
        ({"debounce": {"quiet_s": 1}}, "say mode latest or batch"),
        ({"batch": {"size": 2}}, "`batch` is for mode batch"),
        ({"key": "/data/x"}, "`key` is for a join, a batch or a debounce"),
        ({"strategy": "queue", "limit": 2}, "`limit` is for strategy parallel"),
        ({"throttle": {"runs": 0}}, "throttle.runs"),
        ({"on_paused": "keep"}, "on_paused"),
        ({"source": None}, "source: is missing"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_with_what_would_be_right(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        parse_trigger(trigger(**fields))


def test_a_join_whose_members_have_sources_needs_none_of_its_own() -> None:
    members = [{"name": name, "source": {"topic": name}} for name in ("a", "b")]
    made = parse_trigger({"name": "t", "workflow": "w", "join": {"members": members}})

    assert [source.topic for source in made.sources()] == ["a", "b"]


def test_an_event_is_of_the_first_member_that_takes_it_and_told_what_each_wants() -> None:
    members = [{"name": "a", "filter": {"type": "x"}}, {"name": "b", "when": "trigger.data.month == 1"}]
    made = parse_trigger(trigger(join={"members": members}, key="/data/month"))

    assert match(made, LANDED) == Match(taken=True, dedupe_key="/airport e1", key="1", slot="b")
    refused = match(made, replace(LANDED, data={"month": 2}))
    assert refused.reason.startswith("a: its type is 'flights.month.landed'; the trigger wants 'x'; b: 'trigger.data")


@pytest.mark.parametrize(
    ("each", "per", "partition", "period", "count", "first"),
    [
        ("day", "month", "2024-02-29", "2024-02", 29, "2024-02-01"),
        ("day", "week", "2026-01-01", "2026-W01", 7, "2025-12-29"),
        ("day", "year", "2023-07-04", "2023", 365, "2023-01-01"),
        ("hour", "day", "2026-03-29T02", "2026-03-29", 24, "2026-03-29T00"),
        ("hour", "week", "2026-03-29T02", "2026-W13", 168, "2026-03-23T00"),
        ("month", "year", "2026-03", "2026", 12, "2026-01"),
    ],
)
def test_a_partition_belongs_to_a_period_that_all_of_its_parts_make_up(
    each: str, per: str, partition: str, period: str, count: int, first: str
) -> None:
    parts = parts_of(period, each, per)

    assert period_of(partition, each, per) == period
    assert (len(parts), parts[0]) == (count, first)
    assert partition in parts
    assert {period_of(part, each, per) for part in parts} == {period}
    assert count <= MOST_PARTS[each, per]


@pytest.mark.parametrize("partition", ["2024-02-30", "2024-13-01", "2024-2-1", "x", "2024-02"])
def test_what_is_no_partition_is_not_taken_and_said_so(partition: str) -> None:
    made = parse_trigger(trigger(join={"partitions": {"each": "day", "per": "month"}}))

    found = match(made, replace(LANDED, data={"partition": partition}))

    assert f"{partition!r} is no day" in found.reason


@dataclass(frozen=True)
class Rule:
    namespace: str
    trigger: Trigger


@dataclass(frozen=True)
class Looked(Event):
    """An event that counts how many triggers look at it."""

    seen: list[int] = field(default_factory=list, compare=False)

    def document(self) -> dict[str, Any]:
        self.seen.append(1)
        return replace(LANDED, id=self.id).document()


def rules(count: int, **filters: str) -> list[Rule]:
    """Triggers of which one takes LANDED, and the others want something else in one respect each."""
    wanted = {"type": LANDED.type, "source": LANDED.source, "subject": "2013-*"}
    made = [Rule("demo", parse_trigger(trigger(filter=wanted, when="trigger.data.month == 1")))]
    for n in range(1, count):
        name = ("type", "source", "subject")[n % 3]
        other = {**wanted, name: f"other{n}*" if n % 2 else f"other{n}"}
        namespace, topic = ("another", "triggers") if n % 7 == 0 else ("demo", f"t{n}" if n % 11 == 0 else "triggers")
        made.append(
            Rule(
                namespace,
                parse_trigger(trigger(filter=other, source={"topic": topic}, when="true") | {"name": f"t{n}"}),
            )
        )
    return made


@pytest.mark.parametrize("count", [1, 1_000])
def test_e4_an_event_is_looked_at_by_as_many_triggers_of_a_thousand_as_of_one(count: int) -> None:
    event = Looked(LANDED.id, LANDED.source, LANDED.type, LANDED.subject, LANDED.time, LANDED.data)
    index = Index(rules(count))

    found = [match(rule.trigger, event, "triggers") for rule in index.candidates("demo", "triggers", event)]

    assert [one.taken for one in found] == [True]
    assert len(event.seen) == 1, "expressions that were evaluated"


@given(
    st.lists(
        st.builds(
            Filter,
            type=st.sampled_from([None, "a.b", "a.*", "*", "c"]),
            source=st.sampled_from([None, "/s", "/s*", "/t"]),
            subject=st.sampled_from([None, "x", "x*", ""]),
        ),
        max_size=12,
    ),
    st.lists(st.sampled_from(["triggers", "trig*", "other", "*"]), min_size=12, max_size=12),
    st.tuples(*(st.sampled_from(some) for some in (["a.b", "a.", "c"], ["/s", "/s/t"], ["x", "xy", ""]))),
)
def test_the_index_finds_exactly_the_triggers_that_a_look_at_each_would(
    filters: list[Filter], topics: list[str], parts: tuple[str, str, str]
) -> None:
    event = replace(LANDED, type=parts[0], source=parts[1], subject=parts[2])
    all_rules = [
        Rule("demo", parse_trigger(trigger(filter=one.model_dump(), source={"topic": topic}) | {"name": f"t{n:02}"}))
        for n, (one, topic) in enumerate(zip(filters, topics, strict=False))
    ]

    found = Index(all_rules).candidates("demo", "triggers", event)

    assert found == [rule for rule in all_rules if match(rule.trigger, event, "triggers").taken]


def test_a_topic_is_read_as_what_names_it_says_else_as_the_longest_pattern_does() -> None:
    sources = [Source(topic="*"), Source(topic="orders.*", format="json"), Source(topic="orders.eu", start="now")]

    assert reader_of("orders.eu", sources) == sources[2]
    assert reader_of("orders.us", sources) == sources[1]
    assert reader_of("x", sources) == sources[0]
    assert reader_of("x", sources[1:]) is None
