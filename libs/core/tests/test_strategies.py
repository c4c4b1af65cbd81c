"""Which runs of one trigger begin: never more together or faster than it says, and in the end all."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.triggers import Arrival, OpenRun, Throttle, admit, arrive, looks_at_open, width_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BEGUN, WAITS = OpenRun(UUID(int=1), waits=False), OpenRun(UUID(int=2), waits=True)


@pytest.mark.parametrize(
    ("strategy", "there", "becomes"),
    [
        ("parallel", [BEGUN, WAITS], Arrival((0, 1, 2))),
        ("queue", [BEGUN, WAITS], Arrival((0, 1, 2))),
        ("strict_sequence", [BEGUN], Arrival((0, 1, 2))),
        ("first_only", [BEGUN], Arrival(())),
        ("first_only", [WAITS], Arrival(())),
        ("first_only", [], Arrival((0,))),
        ("latest_only", [BEGUN, WAITS], Arrival((2,), (WAITS.run_id,))),
        ("latest_only", [], Arrival((2,))),
        ("cancel_in_progress", [BEGUN, WAITS], Arrival((2,), (BEGUN.run_id, WAITS.run_id))),
    ],
)
def test_what_becomes_of_three_new_runs(strategy: Any, there: list[OpenRun], becomes: Arrival) -> None:
    assert arrive(strategy, 3, there) == becomes


def test_with_mode_latest_only_the_newest_waits_whatever_the_strategy() -> None:
    assert arrive("parallel", 3, [BEGUN, WAITS], latest=True) == Arrival((2,), (WAITS.run_id,))
    assert looks_at_open("parallel", latest=True)
    assert not looks_at_open("parallel", latest=False)


def test_only_parallel_runs_more_than_one_at_a_time() -> None:
    assert width_of("parallel", None) is None
    assert width_of("parallel", 4) == 4
    assert {width_of(name, None) for name in ("queue", "first_only", "strict_sequence")} == {1}


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 20))
def test_no_more_are_under_way_than_may_be(under_way: int, waiting: int, width: int) -> None:
    count = admit(None, width, under_way, waiting, None, NOW).count

    assert count <= waiting
    assert under_way + count <= max(width, under_way)
    assert count == waiting or under_way + count >= width, "a free place is not left to nobody"


@given(
    throttle=st.builds(
        Throttle,
        runs=st.integers(1, 50),
        per_s=st.sampled_from([0.5, 1.0, 60.0]),
        burst=st.one_of(st.none(), st.integers(1, 100)),
    ),
    waiting=st.integers(1, 300),
    late_s=st.lists(st.sampled_from([0.0, 0.001, 0.7]), min_size=1, max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_a_storm_is_admitted_at_the_rate_of_its_throttle_and_whole(
    throttle: Throttle, waiting: int, late_s: list[float]
) -> None:
    now, full_at, begun = NOW, None, list[datetime]()
    for turn in range(10_000):
        admission = admit(throttle, None, len(begun), waiting, full_at, now)
        begun += [now] * admission.count
        waiting, full_at = waiting - admission.count, admission.full_at
        if not waiting:
            break
        assert admission.next_at is not None
        assert admission.next_at > now
        assert not admit(throttle, None, 0, waiting, full_at, now).count, "what was let in is counted"
        now = admission.next_at + timedelta(seconds=late_s[turn % len(late_s)])

    assert waiting == 0
    window = timedelta(seconds=throttle.per_s)
    for first in begun[:: max(1, len(begun) // 20)]:
        inside = sum(first <= at < first + window for at in begun)
        assert inside <= throttle.runs + (throttle.burst or throttle.runs)
