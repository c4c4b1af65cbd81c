"""Where connections lead, and what is done when a server no longer takes writes."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.connection import Connector, one_host_each
from millrace.runtime.database import HEALTH, TIME_S, Database, Transactions
from millrace.runtime.errors import Unavailable
from runtime_effects import Effects


@pytest.mark.parametrize(
    ("dsn", "addresses"),
    [
        ("postgresql://a:b@one:1,two:2/d?x=y", ["postgresql://a:b@one:1/d?x=y", "postgresql://a:b@two:2/d?x=y"]),
        ("postgresql://a@/d?host=%2Frun%2Fsocket", ["postgresql://a@/d?host=%2Frun%2Fsocket"]),
        ("postgresql://one/d", ["postgresql://one/d"]),
    ],
)
def test_a_dsn_of_several_hosts_is_an_address_of_each(dsn: str, addresses: list[str]) -> None:
    assert one_host_each(dsn) == addresses


async def test_a_host_that_is_gone_is_passed_over(dsn: str) -> None:
    connector = Connector(dsn)
    connector._addresses.insert(0, "postgresql://nobody@127.0.0.1:1/none")

    connection = await connector.open()

    assert await connection.fetchval("SELECT 1") == 1
    assert connector._addresses[0] == dsn  # asked first from now on
    await connection.close()


async def test_a_server_that_became_read_only_is_left_and_nothing_is_held_against_an_event(dsn: str) -> None:
    owner = await asyncpg.connect(dsn)
    name = await owner.fetchval("SELECT current_database()")
    blamed = []

    async def blame(item: str, error: Exception) -> None:
        blamed.append(item)

    await owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    async with Database(dsn, pool_size=2) as database:
        begin = Transactions(database, Effects)

        async def write(_: object) -> None:
            async with begin() as tx:
                tx.write("INSERT INTO effect (name) VALUES ($1)", "x")

        with pytest.raises(Unavailable, match="ReadOnlySQLTransactionError"):
            await write("x")
        with pytest.raises(OutageError):
            await settle(["x"], write, blame, database)
        assert not await database.healthy()
        # The sessions that are open stay as they began; only a new one can write.
        await owner.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await write("x")
        assert await database.healthy()

    assert blamed == []
    await owner.close()


async def test_a_server_that_refused_a_write_is_asked_though_it_answers_reads(dsn: str) -> None:
    owner = await asyncpg.connect(dsn)
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await owner.close()
    async with Database(dsn, pool_size=1) as database:
        begin = Transactions(database, Effects)
        database.wrote()  # as it did until just now
        with pytest.raises(Unavailable, match="ReadOnlySQLTransactionError"):
            async with begin() as tx:
                tx.write("INSERT INTO effect (name) VALUES ($1)", "x")
        async with begin():
            pass

        assert not await database.healthy()


async def test_who_announces_by_a_session_that_is_lost_learns_that_the_database_is_unavailable(
    dsn: str, postgres: Any
) -> None:
    async with Database(dsn, pool_size=1) as database:
        async with database.connection() as connection:
            session = connection.get_server_pid()
        # The loop stands meanwhile, so that nothing here notices.
        postgres.execute("postgres", f"SELECT pg_terminate_backend({session}, 5000)")

        with pytest.raises(Unavailable):
            await database.announce()
        await database.announce()


LAST = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def test_a_database_of_which_all_is_known_but_its_time_is_asked_for_that(dsn: str) -> None:
    async with Database(dsn) as database:
        assert await database.healthy()
        seen_at = database.clock.seen_at
        assert await database.healthy()
        assert database.clock.seen_at == seen_at

        database.clock.saw(datetime.now(UTC), seen_at - TIME_S)
        assert await database.healthy()
        assert database.clock.seen_at > seen_at


async def test_health_is_known_from_what_was_asked_anyway_and_asked_for_once_anything_failed(dsn: str) -> None:
    observer = await asyncpg.connect(dsn)
    async with Database(dsn, pool_size=1) as database:
        begin = Transactions(database, Effects)
        assert await database.healthy()
        async with begin():
            pass
        assert await database.healthy()
        before = await observer.fetchval(LAST)

        with pytest.raises(OSError, match="a handler's own"):
            async with begin():
                raise OSError("a handler's own")
        assert await database.healthy()
        after = await observer.fetchval(LAST)

    await observer.close()
    assert (before, after) == ("COMMIT", HEALTH)


async def test_a_look_is_one_statement_that_tells_the_time(dsn: str) -> None:
    observer = await asyncpg.connect(dsn)
    async with Database(dsn, pool_size=1) as database:
        found = await Transactions(database, Effects).look("SELECT now(), $1::int AS n", 7)
        told = abs(database.clock.time() - found["now"].timestamp())
        last = await observer.fetchval(LAST)

    await observer.close()
    assert found["n"] == 7
    assert database.clock.seen
    assert told < 5
    assert last == "SELECT now(), $1::int AS n"
