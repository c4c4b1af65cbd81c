"""Generations that are not online go bit by bit; what is online, or on its way there, stays whole."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.feature.domain import Generation, OnlineRow
from millrace.feature.store import Store
from millrace.runtime.database import Database, Transactions
from millrace.runtime.testing import Server, fresh_database

SOON = timedelta(minutes=1)


@pytest.fixture
async def begin(postgres: Server) -> AsyncIterator[Transactions[Store]]:
    async with Database(await fresh_database(postgres, "feature")) as database:
        yield Transactions(database, Store)


async def generation(tx: Store, name: str, rows: int, view: str = "site") -> Generation:
    """Return a generation all of whose rows are there."""
    begun = await tx.begin_generation("demo", Generation(view, name, "h", ("v",), ("shop",), ("seats",), tx.now))
    tx.add_online_rows("demo", begun, [OnlineRow((str(number),), (1.0,)) for number in range(rows)])
    tx.complete_generation("demo", begun, rows)
    return replace(begun, entities=rows)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), online=st.integers(0, 4), limit=st.integers(1, 5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_all_go_but_the_one_online_at_most_so_many_rows_at_a_time(
    sizes: list[int], online: int, limit: int, tx: Store
) -> None:
    made = [await generation(tx, f"g{place}", rows) for place, rows in enumerate(sizes)]
    points_at = made[online % len(made)]
    tx.point("demo", points_at)
    rows = [sum(sizes)]

    while await tx.forget_generations(tx.now + SOON, limit):
        rows.append((await tx.fetch("SELECT count(*) FROM online_row"))[0][0])

    assert max((before - after for before, after in pairwise(rows)), default=0) <= limit
    assert await tx.online_entities("demo", points_at) == points_at.entities == rows[-1]
    assert [row[0] for row in await tx.fetch("SELECT generation FROM generation")] == [points_at.generation]
    for table in ("online_pointer", "online_row", "generation"):
        await tx.fetch(f"DELETE FROM {table}")


async def test_what_was_begun_within_the_grace_stays(tx: Store) -> None:
    made = await generation(tx, "g", 3)

    assert await tx.forget_generations(tx.now - SOON, 10) == 0
    assert await tx.online_entities("demo", made) == 3


async def test_what_has_lost_rows_is_computed_anew_and_whole_when_it_is_wanted_again(tx: Store) -> None:
    made = await generation(tx, "g", 5)
    await tx.forget_generations(tx.now + SOON, 2)  # and then whoever keeps house is killed

    again = await tx.begin_generation("demo", made)
    assert again.entities is None
    assert (await generation(tx, "g", 5)).entities == await tx.online_entities("demo", made)


async def test_what_is_on_its_way_online_is_not_taken_apart(begin: Transactions[Store]) -> None:
    async with begin() as tx:
        made = await generation(tx, "g", 3)

    async with begin() as tx:
        assert await tx.online_entities("demo", made) == 3
        async with begin() as keeper:
            assert await keeper.forget_generations(keeper.now + SOON, 10) == 0
        tx.point("demo", made)

    async with begin() as tx:
        assert await tx.forget_generations(tx.now + SOON, 10) == 0
        assert await tx.online_entities("demo", made) == 3


async def test_what_is_being_taken_apart_is_waited_for_and_found_incomplete(begin: Transactions[Store]) -> None:
    async with begin() as tx:
        made = await generation(tx, "g", 3)

    async def count() -> int:
        async with begin() as tx:
            return await tx.online_entities("demo", made)

    async with begin() as keeper:
        await keeper.forget_generations(keeper.now + SOON, 2)
        counting = asyncio.create_task(count())
        await asyncio.wait([counting], timeout=0.2)
        assert not counting.done()
    assert await asyncio.wait_for(counting, 10) == 1
