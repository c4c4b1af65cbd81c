"""How many records a round takes, when it begins, and in which parts it is settled."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.contracts.data import VersionPublished
from millrace.runtime.consume.items import Item, Readers
from millrace.runtime.consume.pace import BACKLOG, PART, Pace, in_parts
from millrace.runtime.consume.settlement import Settlement
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


def test_a_few_records_are_waited_for_only_where_they_come_in_a_moment_and_no_round_brings_them() -> None:
    def next_after(per_s: float, records: int) -> float:
        pace, rounds = Pace(), 400
        for n in range(rounds):
            began = n * records / per_s
            pace.took(records, began, began + 0.003)
        return pace.next_at - began

    assert next_after(per_s=20, records=1) == pytest.approx(0.003)
    assert next_after(per_s=150, records=1) == pytest.approx(0.003)
    assert next_after(per_s=250, records=3) == pytest.approx(0.03)
    assert next_after(per_s=1000, records=20) == pytest.approx(0.003)


@given(count=st.integers(0, 2 * BACKLOG))
def test_a_round_is_settled_in_order_in_parts_that_are_about_equal_and_a_backlog_whole(count: int) -> None:
    records = list(range(count))
    parts = in_parts(records)
    sizes = {len(part) for part in parts}

    assert [one for part in parts for one in part] == records
    assert parts == [records] if count > BACKLOG else max(sizes) <= PART
    assert max(sizes) - min(sizes) <= 1


class Rounds:
    """Settles rounds of new events, and notes what was committed when each of their transactions began."""

    def __init__(self, begin: Transactions[Effects], name: str) -> None:
        self.seen: list[int] = []
        self._begin = begin
        self._name = name
        self._readers = Readers()
        self._readers.subscribe(on_batch(VersionPublished, self._take, start="earliest"))
        self._settlement = Settlement("data", begin, one_by_one=False)

    async def settle(self, count: int) -> dict[object, int]:
        return await self._settlement.settle([self._item(n) for n in range(count)])

    async def _take(self, events: Sequence[VersionPublished], tx: Effects) -> None:
        self.seen.append(len(await effects(self._begin, self._name)))
        for event in events:
            if event.partition == "bad":
                raise InvalidInput("it is bad")
            tx.add(event.dataset)

    def _item(self, n: int) -> Item:
        event = version(f"{self._name}-{n:02}", "bad" if n == PART else "good")
        headers = headers_of(event, new_id(), datetime.now(UTC), None, "").items()
        value = event.model_dump_json().encode()
        sent = tuple((name, text.encode()) for name, text in headers)
        return self._readers.read(Record("data.versions", 0, n, event.key().encode(), value, sent, 0))


async def test_the_first_part_of_a_round_is_committed_before_the_second_begins(
    service_name: str, begin: Transactions[Effects]
) -> None:
    rounds = Rounds(begin, service_name)

    assert await rounds.settle(PART) == {}
    assert rounds.seen == [0]
    rounds = Rounds(begin, other := f"{service_name}-other")
    await rounds.settle(PART + 1)
    assert rounds.seen[:2] == [0, PART // 2]
    # The last one is bad: it is held, and what was with it has its effect.
    assert await effects(begin, other) == [f"{other}-{n:02}" for n in range(PART)]
