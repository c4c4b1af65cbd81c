"""Events for tasks: each is given once, to whoever waits, or kept until its time is over."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.errors import InvalidDocument
from millrace.core.triggers import Member, hand_out, parse_trigger
from millrace.core.triggers.ir import MAX_MEMBERS

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEEP_S = 10.0


def event(number: int, at_s: float = 0) -> Member:
    return Member(NOW, "/s", f"e{number}", at=NOW + timedelta(seconds=at_s), slot="", size_bytes=0)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), st.booleans()), max_size=40))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_each_event_is_given_once_or_expires_once_and_none_that_is_kept_is_withheld(
    steps: list[tuple[int, int, bool]],
) -> None:
    clock, number = 0, 0
    kept: list[Member] = []
    over: list[str] = []
    for after_s, coming, waited_for in steps:
        clock += after_s
        arrivals = [event(number + n, clock) for n in range(coming)]
        number += coming
        now = NOW + timedelta(seconds=clock)

        found = hand_out(KEEP_S, kept, arrivals, now, waited_for=waited_for)

        live = [one for one in (*kept, *arrivals) if (now - one.at).total_seconds() < KEEP_S]
        assert (found.given is not None) == (waited_for and bool(live)), "what is there is given to whoever waits"
        if found.given is not None:
            assert found.given.at == min(one.at for one in live), "the oldest first"
            over.append(found.given.id)
        over += [one.id for one in found.expired]
        kept = [*found.waiting]
        assert found.due_at == (min(one.at for one in kept) + timedelta(seconds=KEEP_S) if kept else None)
        assert not found.refused
    assert sorted([*over, *(one.id for one in kept)]) == sorted(f"e{n}" for n in range(number))


def test_no_more_are_kept_than_may_be_and_the_first_are() -> None:
    found = hand_out(KEEP_S, [], [event(n, n / 1e6) for n in range(MAX_MEMBERS + 3)], NOW, waited_for=True)

    assert found.given == event(0)
    assert len(found.waiting) == MAX_MEMBERS
    assert [one.id for one in found.refused] == [f"e{MAX_MEMBERS + n}" for n in (1, 2)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workflow": "w", "key": "/data/x"}, "or for a trigger without a `workflow`"),
        ({"workflow": "w", "keep_s": 1}, "`keep_s` is for a trigger without a `workflow`"),
        ({"strategy": "queue"}, "strategy: a trigger without a `workflow` hands each event to tasks"),
        ({"mode": "batch", "throttle": {"runs": 1}}, "mode, throttle: a trigger without a `workflow`"),
    ],
)
def test_what_a_trigger_for_tasks_has_not_is_refused_and_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        parse_trigger({"name": "t", "source": {"topic": "x"}, **fields})
