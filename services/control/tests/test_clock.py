"""What is due happens, whatever stands beside it."""

from typing import Any

from millrace.control.clock import Clock
from millrace.control.commands import ApplyWorkflow, StartRun
from millrace.control.handlers import apply_workflow, start_run
from millrace.control.store import Store
from millrace.core.parse import parse_workflow
from millrace.runtime.testing import fresh_database
from millrace.runtime.transaction import Database, Transactions

WORKFLOW = parse_workflow({"name": "w", "tasks": {"a": {"kind": "data.x"}}})


async def test_a_run_that_cannot_be_decided_on_keeps_no_other_from_what_is_due(postgres: Any) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=WORKFLOW), tx)
            asked = StartRun(namespace="demo", principal="ada", workflow="w")
            runs = [(await start_run(asked, tx)).run.run_id for _ in range(5)]
        async with begin() as tx:
            await tx.fetch("UPDATE run SET due_at = now() - interval '1 s'")
            await tx.fetch("UPDATE run SET sha256 = 'gone' WHERE run_id = $1", runs[2])

        assert await Clock(begin, 1.0, lambda _: None).look()
        assert not await Clock(begin, 1.0, lambda _: None).look()

        async with begin() as tx:
            states = {row["run_id"]: row["state"] for row in await tx.fetch("SELECT run_id, state FROM run")}
    assert [states[run_id] for run_id in runs] == ["ending", "ending", "running", "ending", "ending"]
