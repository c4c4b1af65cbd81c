"""Who has slots of pools next."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lines import Lines
from millrace.core.admission import Admission, Flow, Line, Pool, Rate, Waiter, admit, in_order
from millrace.core.bucket import draw
from millrace.core.state import AskSlots

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def asked(number: int, pool: str = "p", weight: int = 1, priority: int = 0, key: str = "") -> AskSlots:
    return AskSlots("fit", UUID(int=0), UUID(int=number), pool, weight, priority, key)


def served(lines: Lines, rounds: int) -> str:
    """Serve a pool of one slot for so many rounds; return whose turns they were."""
    keys = {ticket: one.fairness_key for ticket, (_, one) in lines.waiters.items()}
    order = ""
    for _ in range(rounds):
        lines.let_in(NOW)
        order += "".join(keys[ticket] for ticket in lines.leases)
        for ticket in [*lines.leases]:
            lines.free(ticket)
    return order


class Admitting(RuleBasedStateMachine):
    """Tasks that ask, give back and go away, while pools and the quota are made larger and smaller."""

    @initialize(slots=st.integers(0, 5), quota=st.none() | st.integers(0, 4))
    def begin(self, slots: int, quota: int | None) -> None:
        self.lines = Lines({"p": slots, "q": 2}, shares={"a": 3}, quota=quota)
        self.now, self.numbers = NOW, count(1)
        self.before = Counter[str]()

    @rule(
        pool=st.sampled_from("pq"),
        weight=st.integers(1, 4),
        priority=st.integers(0, 2),
        key=st.sampled_from(["", "a", "b"]),
    )
    def ask(self, pool: str, weight: int, priority: int, key: str) -> None:
        self.lines.ask(asked(next(self.numbers), pool, weight, priority, key))
        self.let_in()

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        if there := [*self.lines.leases, *self.lines.waiters]:
            self.lines.free(data.draw(st.sampled_from(there)))
        self.let_in()

    @rule(slots=st.integers(0, 5), quota=st.none() | st.integers(0, 4))
    def resize(self, slots: int, quota: int | None) -> None:
        self.lines.slots["p"], self.lines.quota = slots, quota
        self.let_in()

    @rule(rate=st.none() | st.builds(Rate, count=st.integers(1, 3)), seconds=st.floats(0, 3))
    def rated(self, rate: Rate | None, seconds: float) -> None:
        self.lines.rate = rate
        self.now += timedelta(seconds=seconds)
        self.let_in()

    def let_in(self) -> None:
        lines, had = self.lines, dict(self.lines.leases)
        before = {ticket: one for ticket, (_, one) in lines.waiters.items()}
        decided = lines.let_in(self.now)
        for pool, slots in lines.slots.items():
            mine = [grant for grant in decided.grants if grant.pool == pool]
            assert not mine or lines.taken(pool) <= slots, "never more than there are"
            left = [one for _, one in lines.waiters.values() if one.pool == pool]
            lowest = min((before[grant.ticket].priority for grant in mine), default=None)
            assert lowest is None or all(one.priority <= lowest for one in left), "no priority is passed by"
        assert not decided.grants or lines.quota is None or len(lines.leases) <= lines.quota
        assert had.keys() <= lines.leases.keys(), "nobody loses what it has"
        self._nobody_waits_for_nothing(decided)

    def _nobody_waits_for_nothing(self, decided: Admission) -> None:
        for line in self.lines.lines():
            first = next(in_order(line), None)
            if first is None or (self.lines.quota is not None and len(self.lines.leases) >= self.lines.quota):
                continue
            takes, pool = min(first.weight, line.pool.slots), line.pool
            fits = pool.slots > 0 and pool.taken + takes <= pool.slots
            assert not fits or (pool.rate is not None and decided.due_at is not None and decided.due_at > self.now)

    @invariant()
    def what_is_kept_is_of_those_that_are_there(self) -> None:
        if hasattr(self, "lines"):
            assert not self.lines.leases.keys() & self.lines.waiters.keys()


TestAdmitting = Admitting.TestCase
TestAdmitting.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=2), st.integers(10, 60))
def test_keys_that_all_have_somebody_waiting_are_served_by_their_shares(shares: dict[str, int], rounds: int) -> None:
    lines = Lines({"p": 1}, shares=shares)
    numbers = count(1)
    for key in shares:
        for _ in range(rounds):
            lines.ask(asked(next(numbers), key=key))

    order = served(lines, rounds)

    for before in range(1, rounds + 1):
        had = Counter(order[:before])
        normed = [had[key] / share for key, share in shares.items()]
        assert max(normed) - min(normed) <= 1.0, "at no time is one ahead of another by more than one turn"


@given(st.integers(1, 30), st.integers(1, 4))
def test_who_comes_last_with_a_key_of_its_own_waits_for_one_turn_of_each_other_key(backlog: int, others: int) -> None:
    lines = Lines({"p": 1})
    numbers = count(1)
    for key in "bcde"[:others]:
        for _ in range(backlog):
            lines.ask(asked(next(numbers), key=key))
    served(lines, others * backlog // 2)
    lines.ask(asked(next(numbers), key="a"))

    order = served(lines, others + 1)

    assert "a" in order


def test_a_key_gains_nothing_by_coming_back_one_task_at_a_time() -> None:
    lines, numbers = Lines({"p": 1}, shares={"b": 3}), count(100)
    for number in range(1, 40):
        lines.ask(asked(number, key="b"))
    order = ""
    for _ in range(20):
        if not any(one.fairness_key == "a" for _, one in lines.waiters.values()):
            lines.ask(asked(next(numbers), key="a"))
        order += served(lines, 1)

    assert order.count("b") == 15


@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.integers(1, 4))
def test_who_is_first_is_let_in_before_all_behind_it_however_many_slots_it_takes(
    weights: Sequence[int], slots: int
) -> None:
    lines = Lines({"p": slots})
    for number, weight in enumerate(weights, 1):
        lines.ask(asked(number, weight=weight))

    came = []
    while lines.waiters:
        came += [grant.ticket.int for grant in lines.let_in(NOW).grants]
        lines.free(next(iter(lines.leases)))

    assert came == [*range(1, len(weights) + 1)]


def test_with_room_for_one_more_the_highest_priority_of_all_pools_goes_first_and_then_the_oldest() -> None:
    lines = Lines({"p": 9, "q": 9}, quota=0)
    for number, (pool, priority) in enumerate([("p", 0), ("q", 1), ("p", 1), ("q", 0)], 1):
        lines.ask(asked(number, pool, priority=priority))

    came = []
    for quota in (1, 2, 3, 4):
        lines.quota = quota
        came += [grant.ticket.int for grant in lines.let_in(NOW).grants]

    assert came == [2, 3, 1, 4]


@given(st.integers(1, 5), st.floats(0.1, 10), st.integers(1, 10), st.lists(st.floats(0, 5), max_size=30))
def test_a_rate_lets_in_no_more_than_its_burst_and_what_was_refilled(
    number: int, per_s: float, burst: int, pauses: Sequence[float]
) -> None:
    now, full_at, began = NOW, None, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        drawn = draw(number, per_s, burst, 3, full_at, now)
        began += [now] * drawn.drawn
        full_at = drawn.full_at
        assert drawn.next_at is None or drawn.next_at > now

    for first, start in enumerate(began):
        for last, end in enumerate(began[first:], first):
            refilled = (end - start).total_seconds() * number / per_s
            assert last - first + 1 <= burst + refilled + 1e-3


def test_what_the_rate_keeps_is_looked_at_again_when_it_may_begin() -> None:
    lines = Lines({"p": 9}, rate=Rate(count=1, per_s=10))
    lines.ask(asked(1))
    lines.ask(asked(2))

    first, again = lines.let_in(NOW), lines.let_in(NOW + timedelta(seconds=10))

    assert [grant.ticket.int for grant in first.grants] == [1]
    assert first.due_at == NOW + timedelta(seconds=10)
    assert [grant.ticket.int for grant in again.grants] == [2]
    assert again.due_at is None


@given(st.integers(0, 8), st.integers(1, 8))
def test_more_than_are_let_in_at_once_are_to_be_looked_at_again_at_once(waiting: int, most: int) -> None:
    waiters = [Waiter(UUID(int=number), 1, number) for number in range(1, waiting + 1)]

    decided = admit([Line(Pool("p", 100), [Flow(0, "", 0.0, waiters[: most + 1])])], None, NOW, most)

    assert len(decided.grants) == min(waiting, most)
    assert decided.due_at == (NOW if waiting > most else None)


def test_the_order_that_is_shown_is_the_order_in_which_they_are_let_in() -> None:
    lines = Lines({"p": 1}, shares={"a": 2})
    for number, key in enumerate("aaaabbbcc", 1):
        lines.ask(asked(number, key=key, priority=int(key == "c")))
    (line,) = lines.lines()

    shown = [waiter.ticket.int for waiter in in_order(line)]

    came = []
    while lines.waiters:
        came += [grant.ticket.int for grant in lines.let_in(NOW).grants]
        lines.free(next(iter(lines.leases)))
    assert shown == came
    assert all(earlier != later for earlier, later in pairwise(came))
