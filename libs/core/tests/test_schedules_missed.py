"""What of a schedule is started when nobody has looked for a while, and that nothing is forgotten or done twice."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.schedules import Due, Schedule, due, fires, fires_between, next_due, parse_schedule

BEGIN = datetime(2026, 3, 28, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def schedule(**fields: Any) -> Schedule:
    return parse_schedule({"name": "n", "workflow": "w", "cron": "*/10 * * * *", "zone": "Europe/Berlin"} | fields)


def looked_at(made: Schedule, after_s: Sequence[float], limit: int) -> tuple[list[tuple[datetime, Due]], datetime]:
    """Return what was decided at each look, some seconds after the one before; each goes on while more is due."""
    until, now, found = BEGIN, BEGIN, []
    for passed_s in after_s:
        now += timedelta(seconds=passed_s)
        next_at = next_due(made, until)
        while next_at is not None and next_at <= now:
            decided = due(made, until, now, limit)
            assert (decided.decided_until, decided.next_at) != (until, next_at), "it goes nowhere"
            found.append((now, decided))
            until, next_at = decided.decided_until, decided.next_at
    return found, now


LOOKS = st.lists(st.floats(0.1, 12_000), min_size=1, max_size=5)
FIELDS = st.fixed_dictionaries(
    {
        "catch_up": st.sampled_from(["all", "latest", "none"]),
        "late_after_s": st.sampled_from([1, 60, 1_000]),
        "catch_up_window_s": st.sampled_from([0, 3_000, 10_000, 1_000_000]),
        "jitter_s": st.sampled_from([0, 200, 5_000]),
    }
)


@given(FIELDS, LOOKS, st.integers(2, 30))
@settings(max_examples=60, deadline=None)
def test_each_moment_is_started_once_or_passed_over_once_in_order(
    fields: dict[str, Any], looks: list[float], limit: int
) -> None:
    made = schedule(**fields)
    found, now = looked_at(made, looks, limit)

    settled: list[datetime] = []
    for at, one in found:
        assert len(one.starts) <= limit
        if one.passed is not None:
            settled += fires_between(made, one.passed.first_at, one.passed.last_at + MINUTE, 100_000)
        for fire, kind in one.starts:
            assert fire.due_at <= at
            assert kind == ("catch_up" if at - fire.due_at > timedelta(seconds=made.late_after_s) else "scheduled")
        settled += [fire.logical_at for fire, _ in one.starts]
    wanted = [one.logical_at for one in fires(made, BEGIN, 200) if one.due_at <= now]
    # What is passed over has come due too, but for what was so long ago that nobody looks.
    assert settled == wanted[: len(settled)]
    assert all(now - one <= timedelta(seconds=max(looks) + 600 + made.jitter_s) for one in wanted[len(settled) :])
    last = found[-1][1].next_at if found else next_due(made, BEGIN)
    assert last is None or last > now


@given(LOOKS, st.integers(2, 30), st.sampled_from([0, 200]))
@settings(max_examples=30, deadline=None)
def test_all_that_was_missed_is_caught_up_however_seldom_one_looks(
    looks: list[float], limit: int, jitter_s: float
) -> None:
    made = schedule(catch_up="all", catch_up_window_s=10_000_000, jitter_s=jitter_s)
    found, now = looked_at(made, looks, limit)

    started = [fire for _, one in found for fire, _ in one.starts]

    assert started == [one for one in fires(made, BEGIN, 200) if one.due_at <= now]
    assert all(one.passed is None for _, one in found)


@pytest.mark.parametrize(
    ("catch_up", "started", "passed"), [("all", 7, 0), ("latest", 1, 6), ("none", 0, 7)]
)  # fmt: skip
def test_after_an_interruption_is_started_what_the_schedule_says(catch_up: str, started: int, passed: int) -> None:
    made = schedule(catch_up=catch_up)

    found = due(made, BEGIN, BEGIN + timedelta(minutes=75), 100)

    assert [kind for _, kind in found.starts] == ["catch_up"] * started
    if found.passed is not None:
        assert len(fires_between(made, found.passed.first_at, found.passed.last_at + MINUTE, 100)) == passed
    assert (found.passed is None) == (passed == 0)
    assert found.decided_until == BEGIN + timedelta(minutes=70)
    assert found.next_at == BEGIN + timedelta(minutes=80)


def test_a_moment_that_is_on_time_is_started_whatever_is_caught_up() -> None:
    for catch_up in ("all", "latest", "none"):
        found = due(schedule(catch_up=catch_up), BEGIN, BEGIN + timedelta(minutes=10, seconds=5), 100)
        assert [kind for _, kind in found.starts] == ["scheduled"]


def test_years_of_missed_moments_are_passed_over_without_looking_at_each() -> None:
    made = parse_schedule({"name": "n", "workflow": "w", "interval": {"every_s": 1}, "catch_up": "latest"})

    found = due(made, BEGIN, BEGIN + timedelta(days=3_000), 100)

    assert [one.logical_at for one, _ in found.starts] == [BEGIN + timedelta(days=3_000)]
    assert found.passed is not None
    assert found.passed.first_at == BEGIN + timedelta(seconds=1)


def test_a_schedule_that_is_over_is_never_due_again() -> None:
    made = schedule(end=(BEGIN + timedelta(minutes=15)).isoformat())

    found = due(made, BEGIN, BEGIN + timedelta(minutes=10), 100)

    assert len(found.starts) == 1
    assert found.next_at is None
