"""A table that others use can be migrated: they go on, and what is begun is ended."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from millrace.runtime.errors import Unavailable
from millrace.runtime.migrate import OUTSIDE, apply, migrate, migrations

INDEX = OUTSIDE + "-- Found by name; often.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS effect_name ON effect (name);\n"
COLUMN = "ALTER TABLE effect ADD COLUMN more text"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('effect_name')"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
WRITE = "INSERT INTO effect (name) VALUES ('written meanwhile')"
WAIT_S = 15


@pytest.fixture
async def connections(dsn: str) -> AsyncIterator[list[asyncpg.Connection]]:
    async with AsyncExitStack() as stack:
        made = [await asyncpg.connect(dsn) for _ in range(3)]
        for connection in made:
            stack.push_async_callback(connection.close)
        yield made


@pytest.mark.parametrize("sql", [INDEX, COLUMN], ids=["an index", "a column"])
async def test_others_write_to_a_table_while_it_is_migrated(connections: list[asyncpg.Connection], sql: str) -> None:
    migrating, busy, writing = connections
    async with busy.transaction():
        await busy.execute(WRITE)
        task = asyncio.create_task(apply(migrating, "p", "n", sql))
        while not await writing.fetchval(WAITING):
            await asyncio.sleep(0.02)
        for _ in range(3):
            await writing.execute(WRITE, timeout=WAIT_S)
        assert not task.done()

    await asyncio.wait_for(task, WAIT_S)
    assert await writing.fetchval("SELECT count(*) FROM schema_version WHERE migration = 'n'") == 1
    assert await writing.fetchval("SELECT count(*) FROM effect") == 4


async def test_a_table_that_others_do_not_let_go_of_is_left_as_it_was(connections: list[asyncpg.Connection]) -> None:
    migrating, busy, writing = connections
    async with busy.transaction():
        await busy.execute(WRITE)
        with pytest.raises(Unavailable, match="n cannot be applied"):
            await asyncio.wait_for(apply(migrating, "p", "n", COLUMN, wait_s=0), WAIT_S)

    assert await writing.fetchval("SELECT count(*) FROM schema_version WHERE migration = 'n'") == 0
    await apply(migrating, "p", "n", COLUMN)


async def test_an_index_whose_build_was_cut_short_is_built_again(connections: list[asyncpg.Connection]) -> None:
    connection = connections[0]
    await connection.execute("INSERT INTO effect (name) VALUES ('twice'), ('twice')")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY effect_name ON effect (name)")
    assert await connection.fetchval(VALID) is False

    await apply(connection, "p", "n", INDEX)

    assert await connection.fetchval(VALID) is True


async def test_replicas_that_start_together_apply_every_migration_once(postgres: Any) -> None:
    postgres.create_database("started_together")
    dsn = postgres.dsn("started_together")

    applied = await asyncio.wait_for(asyncio.gather(*(migrate(dsn, "control") for _ in range(3))), 60)

    assert sorted(itertools.chain(*applied)) == sorted(name for _, name, _ in migrations("control"))
