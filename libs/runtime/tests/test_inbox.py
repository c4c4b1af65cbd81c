"""What is remembered of events, for how long, and how it is found."""

import pytest
from millrace.runtime import inbox, outbox
from millrace.runtime.database import Transactions
from millrace.runtime.housekeeping import rules
from millrace.runtime.rpc import answers
from millrace.runtime.tasks import leases
from runtime_effects import Effects


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        (inbox.CLAIM, 1),
        (inbox.FORGET, 2),
        (outbox.PAGE, 2),
        (rules.FORGET_HELD, 2),
        (rules.FORGET_REQUESTS, 2),
        (rules.FORGET_JOBS, 3),
        (rules.FORGET_STREAMS, 2),
        (leases.END, 4),
        (leases.BEAT, 3),
        (leases.CUT, 3),
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
    assert "Seq Scan" not in await plan(sql, parameters, begin)


@pytest.mark.parametrize(("sql", "parameters"), [(leases.END, 4), (leases.BEAT, 3), (leases.CARRY, 5), (leases.CUT, 3)])
async def test_an_attempt_is_found_by_its_name_and_not_among_all_that_were_ever_leased(
    sql: str, parameters: int, begin: Transactions[Effects]
) -> None:
    found = await plan(sql, parameters, begin)

    assert "job_pkey" in found
    assert "job_leased" not in found


async def plan(sql: str, parameters: int, begin: Transactions[Effects]) -> str:
    """Return how a statement is done by whoever asks for it first."""
    async with begin.database.connection() as connection:
        await connection.execute(f"PREPARE asked AS {sql}")
        given = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        found = await connection.fetch(f"EXPLAIN EXECUTE asked{given}")
        await connection.execute("DEALLOCATE asked")
    return "\n".join(row[0] for row in found)
