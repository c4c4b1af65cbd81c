"""How many records a round takes, when it begins, and in which parts it is settled."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.contracts.data import VersionPublished
from millrace.runtime.consume.items import Readers
from millrace.runtime.consume.pace import BACKLOG, PART, Pace, in_parts
from millrace.runtime.consume.settlement import ATTEMPTS, Settlement
from millrace.runtime.database import Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.errors import InvalidInput
from millrace.runtime.ids import new_id
from millrace.runtime.subscriptions import Record, on_batch
from runtime_effects import Effects, effects, version


def test_a_round_takes_half_of_one_that_was_slow_and_more_again_after_quick_ones() -> None:
    pace, taken = Pace(), []
    for seconds in (0.1, 0.1, 0.1, 25.0, 10.0, 25.0, 25.0, 25.0, 0.1):
        taken.append(pace.most)
        pace.took(pace.most, 0.0, seconds)

    assert taken == [1, 2, 4, 8, 4, 4, 2, 1, 1]
    assert pace.most == 2


def test_a_few_records_are_waited_for_only_where_they_come_in_a_moment() -> None:
    def next_after(per_s: float, records: int) -> float:
        pace, rounds = Pace(), 400
        for n in range(rounds):
            began = n * records / per_s
            pace.took(records, began, began + 0.003)
        return pace.next_at - began

    assert next_after(per_s=20, records=1) == pytest.approx(0.003)
    assert next_after(per_s=150, records=1) == pytest.approx(0.003)
    assert next_after(per_s=250, records=3) == pytest.approx(0.015)
    assert next_after(per_s=1000, records=8) == pytest.approx(0.003)


@given(count=st.integers(0, 2 * BACKLOG))
def test_a_round_is_settled_in_order_in_parts_that_are_about_equal_and_a_backlog_whole(count: int) -> None:
    records = list(range(count))
    parts = in_parts(records)
    sizes = {len(part) for part in parts}

    assert [one for part in parts for one in part] == records
    assert parts == [records] if count > BACKLOG else max(sizes) <= PART
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.booleans(), max_size=4 * BACKLOG))
def test_what_nobody_waits_for_goes_with_what_comes_after_it(counts: list[bool]) -> None:
    records = list(enumerate(counts))
    parts = in_parts(records, lambda record: record[1])
    sizes = {sum(counts for _, counts in part) for part in parts}

    assert [one for part in parts for one in part] == records
    assert parts == [records] if sum(counts) > BACKLOG else max(sizes) <= PART
    assert max(sizes) - min(sizes) <= 1
    assert all(part[-1][1] for part in parts[:-1])


class Rounds:
    """Settles rounds of new events as a consumer does, and notes what was committed when each transaction began.

    Args:
        begin: Opens transactions.
        name: Whose events: keys begin with it.
        failing: How often each event fails by itself before it does not, by its place.
        bad: Which fail for ever.
    """

    def __init__(self, begin: Transactions[Effects], name: str, failing: dict[int, int], bad: frozenset[int]) -> None:
        self.seen: list[int] = []
        self._begin = begin
        self._name = name
        self._failing = dict(failing)
        self._bad = bad
        self._readers = Readers()
        self._readers.subscribe(on_batch(VersionPublished, self._take, start="earliest"))
        self._settlement = Settlement("data", begin, one_by_one=False)

    async def settle(self, keys: Sequence[int]) -> None:
        """Settle a round of one event for each key, again from wherever it is sought back to."""
        records, first = [self._record(n, key) for n, key in enumerate(keys)], 0
        for _ in range(3 * len(keys) + 1):
            back = await self._settlement.settle([self._readers.read(record) for record in records[first:]])
            if not back:
                return
            (first,) = back.values()
        raise AssertionError(f"{self._name} does not get on from {first}")

    async def _take(self, events: Sequence[VersionPublished], tx: Effects) -> None:
        self.seen.append(len(await effects(self._begin, self._name)))
        for event in events:
            place = int(event.partition)
            if place in self._bad:
                raise InvalidInput("it is bad")
            if self._failing.get(place):
                self._failing[place] -= len(events) == 1
                raise ConnectionResetError
            tx.add(f"{event.dataset}/{place:02}")

    def _record(self, n: int, key: int) -> Record:
        event = version(f"{self._name}-{key}", str(n))
        headers = headers_of(event, new_id(), datetime.now(UTC), None, "").items()
        value = event.model_dump_json().encode()
        sent = tuple((name, text.encode()) for name, text in headers)
        return Record("data.versions", 0, n, event.dataset.encode(), value, sent, 0)


async def test_the_first_part_of_a_round_is_committed_before_the_second_begins(
    service_name: str, begin: Transactions[Effects]
) -> None:
    rounds = Rounds(begin, service_name, {}, frozenset())
    await rounds.settle(range(PART + 1))

    assert rounds.seen == [0, PART // 2]
    assert len(await effects(begin, service_name)) == PART + 1


@given(
    keys=st.lists(st.integers(0, 5), min_size=PART, max_size=BACKLOG),
    failing=st.dictionaries(st.integers(0, BACKLOG - 1), st.integers(1, ATTEMPTS - 1), max_size=4),
    bad=st.frozensets(st.integers(0, BACKLOG - 1), max_size=3),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_fails_in_a_round_of_parts_each_key_keeps_its_order_and_each_event_has_its_effect_once(
    begin: Transactions[Effects], keys: list[int], failing: dict[int, int], bad: frozenset[int]
) -> None:
    name = f"round-{new_id()}"
    await Rounds(begin, name, failing, bad).settle(keys)

    done: dict[str, list[int]] = {}
    for effect in await effects(begin, name):
        key, _, place = effect.rpartition("/")
        done.setdefault(key, []).append(int(place))
    expected: dict[str, list[int]] = {}
    for n, key in enumerate(keys):
        if n not in bad:
            expected.setdefault(f"{name}-{key}", []).append(n)
    assert done == expected
