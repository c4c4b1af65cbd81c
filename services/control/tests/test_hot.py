"""Runs that a decision takes as this process knows them, and what becomes of it where they are others."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.contracts.tasks import TaskDispatched, TaskReport
from millrace.control.commands.operations import CancelRun
from millrace.control.domain.runs import KeptRun
from millrace.control.handlers import apply_reports, cancel_run
from millrace.control.store import Store
from millrace.control.store.hot import HotRuns
from millrace.core.parse import parse_workflow
from millrace.core.plan import compile_plan
from millrace.core.state import Run, RunState
from millrace.runtime.database import Database, Transactions
from millrace.runtime.testing import Server, fresh_database
from millrace.runtime.transaction import UnexpectedError

from .test_handlers import force, orders, started, success

Begin = Transactions[Store]
STEPS: dict[str, Any] = {f"t{n}": {"kind": "data.x", "needs": [f"t{n - 1}"] if n else []} for n in range(4)}
ITEMS: dict[str, Any] = {
    "list": {"kind": "data.list"},
    "all": {
        "needs": ["list"],
        "foreach": {"items": {"$from": "/tasks/list/output/items"}, "do": {"tasks": {"one": {"kind": "data.x"}}}},
    },
    "end": {"kind": "data.y", "needs": ["all"]},
}
PLAN = compile_plan(parse_workflow({"name": "w", "tasks": STEPS}))
NOW = datetime(2026, 11, 29, tzinfo=UTC)
# What a replica of the former version did: it locked the run, and counted nothing.
FORMER = """
WITH locked AS (SELECT run_id FROM run WHERE run_id = $1 FOR UPDATE)
UPDATE task SET attempt = 7, token = gen_random_uuid() FROM locked WHERE task.run_id = locked.run_id
"""


@pytest.fixture
async def begin(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Begin]:
    monkeypatch.setattr(Store, "hot", HotRuns())  # as of a process that has just started
    async with Database(await fresh_database(postgres, "control")) as database:
        yield Transactions(database, Store)


async def begun(begin: Begin, **tasks: Any) -> tuple[UUID, list[TaskDispatched]]:
    async with begin() as tx:
        await force(tx, **tasks)
        return await started(tx), orders(tx)


async def hoped(begin: Begin, *reports: TaskReport, after: str = "") -> tuple[list[TaskDispatched], list[str]]:
    """What is ordered after reports that were taken in hope, and the statements that this took."""
    sent: list[str] = []
    async with begin.hoping() as tx:
        tx._connection.add_query_logger(lambda record: sent.append(record.query))
        await apply_reports(reports, tx)
        if after:
            tx.write(after)
    return orders(tx), sent


async def asked(begin: Begin, *reports: TaskReport) -> list[TaskDispatched]:
    async with begin() as tx:
        await apply_reports(reports, tx)
    return orders(tx)


async def kept(begin: Begin, run_id: UUID) -> Run:
    async with begin() as tx:
        return (await tx.run("demo", run_id)).run


async def test_a_report_on_a_run_that_is_known_is_one_statement(begin: Begin) -> None:
    _, first = await begun(begin, **STEPS)

    then, sent = await hoped(begin, success(first[0], n=1))

    assert [order.name for order in then] == ["t1"]
    assert len(sent) == 1


async def test_a_run_is_known_as_it_is_kept_after_each_decision(begin: Begin) -> None:
    run_id, waiting = await begun(begin, **ITEMS)
    done = 0
    while waiting:
        order, *waiting = waiting
        output = {"items": [1, 2.5, "ä", None]} if order.name == "list" else {"b": 1.0, "a": [order.name]}
        more, _ = await hoped(begin, success(order, **output))
        waiting, done = waiting + more, done + 1
        (known,) = Store.hot.take([run_id]) or [None]
        if known is None:
            break
        assert known.run == await kept(begin, run_id)
        Store.hot.put(known)

    assert done == 6
    assert (await kept(begin, run_id)).state is RunState.SUCCEEDED


async def test_a_run_that_another_replica_has_changed_is_decided_on_anew(begin: Begin) -> None:
    run_id, first = await begun(begin, **STEPS)
    (known,) = Store.hot.take([run_id])
    told = success(first[0], n=1)
    elsewhere = await asked(begin, told)
    Store.hot.put(known)

    # It would be refused, and then accepted a second time, by what the run was before.
    for report in (success(elsewhere[0], n=2), told):
        with pytest.raises(UnexpectedError):
            await hoped(begin, report)
        Store.hot.put(known)
    assert [order.name for order in await asked(begin, success(elsewhere[0], n=2))] == ["t2"]
    assert [task.output for task in (await kept(begin, run_id)).tasks.values()] == [{"n": 1}, {"n": 2}, None]


@pytest.mark.parametrize("known", [True, False], ids=["that it knew", "that it has read"])
@pytest.mark.parametrize("row", [True, False], ids=["and its row", "but for its row"])
async def test_a_replica_of_the_former_version_may_change_a_run(begin: Begin, *, row: bool, known: bool) -> None:
    run_id, first = await begun(begin, **STEPS)
    if not known:
        Store.hot.drop(run_id)

    async with begin.hoping() as tx:
        found = await tx.runs_at_hand([run_id])
    async with begin() as tx:
        await tx.fetch(FORMER, run_id)
        if row:  # an UPDATE of what the same transaction has locked
            await tx.fetch("UPDATE run SET cause = 'so' WHERE run_id = $1", run_id)
    Store.hot.put(found[0])

    with pytest.raises(UnexpectedError):
        await hoped(begin, success(first[0]))
    assert (await kept(begin, run_id)).tasks["t0"].attempt == 7


async def test_a_call_that_changes_a_run_makes_it_unknown(begin: Begin) -> None:
    run_id, first = await begun(begin, **STEPS)
    async with begin() as tx:
        await cancel_run(CancelRun(namespace="demo", principal="ada", run_id=run_id, reason="enough"), tx)

    assert Store.hot.take([run_id]) == []
    then, _ = await hoped(begin, success(first[0]))
    assert then == []
    assert (await kept(begin, run_id)).state is RunState.CANCELLED


async def test_what_is_rolled_back_is_not_known(begin: Begin) -> None:
    run_id, first = await begun(begin, **STEPS)

    with pytest.raises(asyncpg.DivisionByZeroError):
        await hoped(begin, success(first[0]), after="SELECT 1 / 0")

    assert Store.hot.take([run_id]) == []
    assert [order.name for order in (await hoped(begin, success(first[0])))[0]] == ["t1"]


async def test_where_another_replica_changes_runs_none_is_taken_for_known_for_a_while(begin: Begin) -> None:
    hot = HotRuns()
    hot.put(a_run(1))
    (known,) = hot.take([UUID(int=1)])
    hot.compare([replace(known, version=known.version + 1)])
    hot.put(a_run(1))

    assert hot.take([UUID(int=1)]) == []


@given(
    st.lists(st.tuples(st.sampled_from(["put", "take", "drop"]), st.integers(0, 9), st.integers(1, 30)), max_size=60)
)
def test_known_runs_are_the_last_ones_and_take_no_more_than_they_may(steps: Sequence[tuple[str, int, int]]) -> None:
    hot, known = HotRuns(most_bytes=100), dict[int, int]()
    for what, n, size in steps:
        known.pop(n, None)
        if what == "put":
            hot.put(a_run(n, size))
            if size <= 25:
                known[n] = size
            while sum(known.values()) > 100:
                del known[next(iter(known))]
        elif what == "take":
            hot.take([UUID(int=n)])
        else:
            hot.drop(UUID(int=n))

    assert {kept.run.run_id.int: kept.size_bytes for kept in hot.take(UUID(int=n) for n in range(10))} == known


def a_run(n: int, size_bytes: int = 1) -> KeptRun:
    run = Run(UUID(int=n), RunState.RUNNING, {})
    return KeptRun(run, PLAN, "demo", "w", "", "ada", "", None, "", NOW, size_bytes=size_bytes)
