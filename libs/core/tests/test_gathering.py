"""Events that wait for one another: in whatever order they come, each is used once, and none waits for ever."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.triggers import Gathered, Member, Memory, Trigger, gather, parse_trigger, slots_of
from millrace.core.triggers.gathering import MAX_BYTES

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MANY = settings(max_examples=200, deadline=None)
ABC = ("a", "b", "c")


def trigger(**fields: Any) -> Trigger:
    return parse_trigger({"name": "t", "workflow": "w", "source": {"topic": "triggers"}, **fields})


def join(of: str = "all", slots: Sequence[str] = ABC, **fields: Any) -> Trigger:
    return trigger(join={"of": of, "members": [{"name": name} for name in slots], "window_s": 60, **fields})


def event(slot: str, number: int = 0, *, time_s: float = 0, size_bytes: int = 0) -> Member:
    """An event that happened so long after NOW."""
    time = NOW + timedelta(seconds=time_s)
    return Member(time, "/s", f"{slot}{number}", at=NOW, slot=slot, size_bytes=size_bytes)


class Waiting:
    """A gathering that is told what comes and what time it is."""

    def __init__(self, made: Trigger, key: str = "") -> None:
        self.trigger = made
        self.key = key
        self.now = NOW
        self.last = Gathered((), Memory())
        self.fired: list[tuple[Member, ...]] = []
        self.missing: list[tuple[str, ...]] = []
        self.over: list[Member] = []

    def tell(self, *members: Member, after_s: float = 0) -> Gathered:
        self.now += timedelta(seconds=after_s)
        arrivals = [Member(m.time, m.source, m.id, at=self.now, slot=m.slot, size_bytes=m.size_bytes) for m in members]
        self.last = gather(self.trigger, self.key, self.last.memory, self.last.waiting, arrivals, self.now)
        for firing in self.last.firings:
            self.fired.append(firing.members)
            self.missing.append(firing.missing)
            self.over += [*firing.members, *firing.superseded]
        self.over += [older for older, _ in self.last.superseded]
        self.over += [member for member, _ in self.last.expired]
        self.over += [*self.last.late, *self.last.refused]
        return self.last

    def runs(self) -> list[list[str]]:
        """The runs that started, each as the ids of its events."""
        return [[member.id for member in members] for members in self.fired]

    def end(self) -> None:
        """Let everything happen that is still due."""
        for _ in range(1_000):
            if self.last.due_at is None:
                return
            self.tell(after_s=(self.last.due_at - self.now).total_seconds())
        raise AssertionError("it is due for ever")


@MANY
@given(st.data())
def test_members_that_come_shuffled_in_any_parts_and_repeated_start_the_same_run(data: st.DataObject) -> None:
    events = [event(slot, time_s=n) for n, slot in enumerate(ABC)]
    made = data.draw(st.sampled_from([join(), join(again="replace"), join("n_of", n=3)]))
    order = data.draw(st.permutations(events))
    repeated = [again for one in order for again in [one] * data.draw(st.integers(1, 3))]
    waiting, told = Waiting(made), list[Member]()
    for one in repeated:
        if one not in told:  # what has been used up is known to the inbox, and comes no more
            told.append(one)
            waiting.tell(one, one, after_s=data.draw(st.sampled_from([0, 0.5, 5])))
    waiting.end()

    assert waiting.runs() == [["a0", "b0", "c0"]]


@MANY
@given(st.permutations([event(slot, number, time_s=number) for slot in ABC for number in range(3)]), st.data())
def test_of_members_that_come_several_times_each_starts_a_run_with_its_likes_and_none_is_lost(
    order: list[Member], data: st.DataObject
) -> None:
    waiting = Waiting(join())
    while order:
        count = data.draw(st.integers(1, len(order)))
        waiting.tell(*order[:count], after_s=1)
        order = order[count:]

    assert len(waiting.fired) == 3
    assert sorted(one for run in waiting.runs() for one in run) == sorted(f"{s}{n}" for s in ABC for n in range(3))


@MANY
@given(st.permutations([event("a", n, time_s=n) for n in range(4)] + [event("b", n, time_s=n) for n in range(3)]))
def test_a_newer_event_stands_in_the_place_of_an_older_one_in_whatever_order_they_come(order: list[Member]) -> None:
    waiting = Waiting(join(slots=ABC, again="replace"))
    waiting.tell(*order)
    waiting.tell(event("c"))

    assert waiting.runs() == [["a3", "b2", "c0"]]
    assert Counter(member.id for member in waiting.over).most_common(1)[0][1] == 1


@MANY
@given(st.permutations(range(3)), st.permutations(ABC))
def test_a_sequence_is_one_of_the_events_times_not_of_their_arrival(times: list[int], order: list[str]) -> None:
    waiting = Waiting(join("sequence"))
    by_slot = {slot: event(slot, time_s=time) for slot, time in zip(ABC, times, strict=True)}
    waiting.tell(*(by_slot[slot] for slot in order))

    assert waiting.runs() == ([["a0", "b0", "c0"]] if times == sorted(times) else [])


@MANY
@given(st.permutations([event("a", 0, time_s=1), event("b", 0, time_s=0), event("a", 1, time_s=5)]))
def test_a_sequence_waits_for_an_event_that_is_in_order(order: list[Member]) -> None:
    waiting = Waiting(join("sequence", slots=("a", "b")))
    waiting.tell(*order)
    assert waiting.runs() == [], "the only b was before every a"

    waiting.tell(event("b", 1, time_s=2))

    assert waiting.runs() == [["a0", "b1"]]
    assert [member.id for member in waiting.last.waiting] == ["a1"], "what was after it waits for the next b"


def test_a_sequence_that_came_in_another_order_expires_and_misses_nothing() -> None:
    waiting = Waiting(join("sequence", slots=("a", "b")))
    waiting.tell(event("a", time_s=5), event("b", time_s=1))

    found = waiting.tell(after_s=60)

    assert [(member.id, missing) for member, missing in found.expired] == [("b0", ()), ("a0", ())]


def test_any_starts_a_run_by_the_first_and_the_others_of_its_window_belong_to_that() -> None:
    waiting = Waiting(join("any"))
    waiting.tell(event("b"))
    assert waiting.runs() == [["b0"]]

    assert [member.id for member in waiting.tell(event("a"), after_s=30).late] == ["a0"]
    waiting.tell(event("a", 1), after_s=1)
    assert waiting.runs() == [["b0"], ["a1"]], "a had come, so that the next one is another run's"
    waiting.tell(event("c"), after_s=61)
    assert waiting.runs()[2:] == [["c0"]], "the window is over"
    waiting.end()
    assert waiting.last.memory == Memory()


def test_n_of_starts_a_run_by_so_many_and_names_none_as_missing() -> None:
    waiting = Waiting(join("n_of", n=2))

    waiting.tell(event("c"), event("a"))

    assert waiting.runs() == [["a0", "c0"]]
    assert waiting.missing == [()]
    assert [member.id for member in waiting.tell(event("b"), after_s=1).late] == ["b0"]


@pytest.mark.parametrize("missing", ["expire", "fire_partial"])
def test_what_has_waited_for_the_whole_window_expires_or_starts_a_run_without_the_others(missing: str) -> None:
    waiting = Waiting(join(missing=missing))
    waiting.tell(event("a"))
    waiting.tell(event("b"), after_s=59)
    assert waiting.last.due_at == NOW + timedelta(seconds=60)

    found = waiting.tell(after_s=1)

    if missing == "expire":
        assert [(member.id, gone) for member, gone in found.expired] == [("a0", ("c",))]
        assert [member.id for member in found.waiting] == ["b0"], "it has waited for a second only"
        waiting.tell(event("a", 1), event("c"), after_s=58)
        assert waiting.runs() == [["a1", "b0", "c0"]]
    else:
        assert (waiting.runs(), waiting.missing) == ([["a0", "b0"]], [("c",)])


def test_what_comes_after_a_window_that_nobody_has_looked_at_belongs_to_the_next() -> None:
    waiting = Waiting(join(slots=("a", "b")))
    waiting.tell(event("a"))

    found = waiting.tell(event("b"), after_s=3600)

    assert [member.id for member, _ in found.expired] == ["a0"]
    assert [member.id for member in found.waiting] == ["b0"]


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(ABC), st.integers(0, 50)), max_size=4),
        st.sampled_from([0.0, 1.0, 20.0, 59.0, 61.0]),
    ),
    max_size=15,
)


@MANY
@given(
    STEPS,
    st.sampled_from(["all", "any", "n_of", "sequence"]),
    st.sampled_from(["expire", "fire_partial"]),
    st.sampled_from(["next", "replace", None]),
)
def test_every_event_that_comes_to_a_join_has_one_end_and_no_join_is_open_for_ever(
    steps: Any, of: str, missing: str, again: str | None
) -> None:
    more: dict[str, Any] = {"n": 2} if of == "n_of" else {}
    waiting = Waiting(join(of, missing=missing, **(more if of == "sequence" else {**more, "again": again})))
    number = 0
    for some, after_s in steps:
        events = [event(slot, number := number + 1, time_s=time_s) for slot, time_s in some]
        found = waiting.tell(*events, after_s=after_s)
        assert (found.due_at is None) <= (not found.waiting), "what waits has something that wakes it"
    waiting.end()

    assert sorted(member.id[1:] for member in waiting.over) == sorted(str(n) for n in range(1, number + 1))
    for run in waiting.fired:
        assert len({member.slot for member in run}) == len(run)


def test_a_month_waits_for_all_of_its_days_and_starts_one_run_with_the_newest_of_each() -> None:
    made = trigger(join={"partitions": {"each": "day", "per": "month"}, "window_s": 3_000_000})
    assert made.join is not None
    days = slots_of(made.join, "2024-02")
    waiting = Waiting(made, "2024-02")
    waiting.tell(*(event(day) for day in reversed(days[1:])))
    waiting.tell(event(days[3], 1, time_s=7))
    assert (len(days), waiting.runs()) == (29, [])

    waiting.tell(event(days[0]))

    (run,) = waiting.fired
    assert [member.slot for member in run] == list(days)
    assert run[3].id == f"{days[3]}1"


def test_where_no_window_is_given_the_first_day_of_a_month_waits_for_the_last() -> None:
    made = trigger(join={"partitions": {"each": "day", "per": "month"}})
    assert made.join is not None
    waiting = Waiting(made, "2026-03")

    for day in slots_of(made.join, "2026-03"):
        waiting.tell(event(day), after_s=86_400)

    assert [len(run) for run in waiting.runs()] == [31]


def test_all_of_several_upstreams_of_each_partition() -> None:
    members = [{"name": "flights"}, {"name": "weather"}]
    made = trigger(join={"members": members, "partitions": {"each": "month", "per": "year"}})
    assert made.join is not None

    assert slots_of(made.join, "eu/2026")[:2] == ("flights/2026-01", "flights/2026-02")
    assert len(slots_of(made.join, "eu/2026")) == 24


# Batches and debounces.


@MANY
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.0, 1.0, 9.0, 11.0])), max_size=20),
    st.integers(1, 5),
    st.lists(st.sampled_from([10, MAX_BYTES // 3, MAX_BYTES]), min_size=200, max_size=200),
)
def test_a_batch_holds_each_event_once_and_no_more_than_it_may(steps: Any, size: int, sizes: list[int]) -> None:
    waiting = Waiting(trigger(mode="batch", batch={"size": size, "within_s": 10}))
    number = 0
    for count, after_s in steps:
        events = [event("", n, time_s=n, size_bytes=sizes[n % len(sizes)]) for n in range(number, number + count)]
        number += count
        found = waiting.tell(*events, after_s=after_s)
        assert len(found.waiting) < size
        if found.waiting:
            assert found.due_at is not None
            assert found.due_at <= waiting.now + timedelta(seconds=10)
    waiting.end()

    assert [member.id for run in waiting.fired for member in run] == [str(n) for n in range(number)]
    assert all(len(run) <= size for run in waiting.fired)
    assert all(len(run) == 1 or sum(m.size_bytes for m in run) <= MAX_BYTES for run in waiting.fired)


def test_a_debounce_starts_a_run_with_the_newest_event_once_nothing_more_comes() -> None:
    waiting = Waiting(trigger(mode="latest", debounce={"quiet_s": 10}))
    for n in range(5):
        waiting.tell(event("", n, time_s=n), after_s=9)
    assert waiting.runs() == []

    waiting.tell(after_s=10)

    assert waiting.runs() == [["4"]]
    assert [member.id for member in waiting.over] == ["0", "1", "2", "3", "4"]


def test_a_debounce_is_put_off_no_longer_than_it_says() -> None:
    waiting = Waiting(trigger(mode="batch", debounce={"quiet_s": 10, "at_most_s": 20}))
    for n in range(5):
        waiting.tell(event("", n, time_s=n), after_s=9)

    assert waiting.runs() == [["0", "1", "2"]]


@given(st.permutations([event("", n, time_s=n) for n in range(5)]))
def test_the_newest_event_is_so_by_its_own_time(order: list[Member]) -> None:
    waiting = Waiting(trigger(mode="latest", debounce={"quiet_s": 10}))
    for one in order:
        waiting.tell(one, after_s=1)
    waiting.end()

    assert waiting.runs() == [["4"]]
