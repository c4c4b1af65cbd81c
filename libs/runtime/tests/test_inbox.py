"""What is remembered of events, for how long, and how it is found."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from millrace.runtime import inbox, outbox
from millrace.runtime.rpc import answers
from millrace.runtime.tasks import leases
from millrace.runtime.transaction import Transactions
from runtime_effects import Effects


def _id(age: timedelta, number: int = 0) -> UUID:
    ms = int((datetime.now(UTC) - age).timestamp() * 1000)
    return UUID(int=ms << 80 | 0x7 << 76 | 0x2 << 62 | number)


async def test_what_is_older_than_the_horizon_is_forgotten_and_nothing_else(begin: Transactions[Effects]) -> None:
    old = [_id(inbox.HORIZON + timedelta(minutes=1), n) for n in range(2 * inbox.PAGE_ROWS + 1)]
    young = _id(inbox.HORIZON - timedelta(minutes=1))
    async with begin() as tx:
        await inbox.claim(tx, [*old, young])

    await inbox.prune(begin)

    async with begin() as tx:
        assert await tx.fetch("SELECT event_id FROM inbox") == [(young,)]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        (inbox.CLAIM, 1),
        (inbox.PRUNE, 1),
        (outbox.NEXT_PAGE, 1),
        (leases.END, 4),
        (leases.BEAT, 3),
        (leases.END_LAPSED, 0),
        (leases.END_FORMER_LIFE, 1),
        (leases.WAS_CANCELLED, 2),
        (answers.FIND, 4),
        (answers.KEEP, 5),
    ],
)
async def test_no_table_is_read_whole_on_the_way_of_an_event_a_task_or_a_call(
    sql: str, parameters: int, begin: Transactions[Effects]
) -> None:
    async with begin.database.connection() as connection:
        await connection.execute(f"PREPARE asked AS {sql}")
        given = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE asked{given}"))
        await connection.execute("DEALLOCATE asked")

    assert "Seq Scan" not in plan
