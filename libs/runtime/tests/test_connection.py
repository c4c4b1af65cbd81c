"""Where connections lead, and what is done when a server no longer takes writes."""

import asyncpg
import pytest
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.connection import Connector, one_host_each
from millrace.runtime.errors import Unavailable
from millrace.runtime.transaction import Database, Transactions
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
