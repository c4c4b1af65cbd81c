"""Events that tasks wait for: each is for those that wait when it comes, or for those that do so first afterwards."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from millrace.control.api.messages import run_message
from millrace.control.commands import ApplyTrigger, ApplyWorkflow, DeleteTrigger, GetRun, PauseTrigger, ResumeTrigger
from millrace.control.commands.operations import CancelRun
from millrace.control.handlers import (
    apply_trigger,
    apply_workflow,
    cancel_run,
    delete_trigger,
    explain_run,
    fire_due,
    look_at_triggers,
    pause_trigger,
    resume_trigger,
    take_records,
)
from millrace.control.store import Store
from millrace.core.parse import parse_workflow
from millrace.core.triggers import parse_trigger
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, InvalidInput, MillraceError
from millrace.runtime.subscriptions import Record
from millrace.runtime.testing import Server, fresh_database

from .test_handlers import force, orders, report, started, success
from .test_triggers import explained, later, look

KEYED = {"$from": "/trigger/data/uri"}
ADA = {"namespace": "demo", "principal": "ada"}


async def handing(tx: Store, name: str = "t", **fields: Any) -> bool:
    """A trigger that hands its events to tasks."""
    made = parse_trigger({"name": name, "source": {"topic": "triggers"}, "key": "/data/job"} | fields)
    return await apply_trigger(ApplyTrigger(namespace="demo", principal="bob", trigger=made), tx)


def waits(key: Any = "j1", **more: Any) -> dict[str, Any]:
    return {"a": {"wait": {"event": "t", "key": key}, **more}}


async def settle(tx: Store) -> None:
    """Let the clock do all that is due."""
    for _ in range(100):
        due, turns = await tx.due()
        if not due and not turns:
            return
        await look_at_triggers(turns, tx)
        await fire_due(due, tx)
    raise AssertionError("something is due for ever")


async def task(tx: Store, run_id: UUID, name: str = "a") -> Any:
    return (await tx.run("demo", run_id)).run.tasks[name]


async def told(tx: Store, run_id: UUID) -> str:
    return " ".join((await explain_run(GetRun(namespace="demo", run_id=run_id), tx))[1])


async def rows(tx: Store) -> int:
    return int((await tx.fetch("SELECT count(*) AS n FROM awaited"))[0]["n"])


async def test_a_task_gets_the_event_of_its_key_whole_and_the_event_names_its_run(tx: Store, landed: Any) -> None:
    await handing(tx, when="trigger.data.ok")
    then = {"kind": "data.do", "needs": ["a"], "input": {"x": {"$from": "/tasks/a/output/data/x"}}}
    await force(tx, **waits(KEYED), b=then)
    run_id = await started(tx)
    await settle(tx)
    assert f"task a waits for an event that trigger t takes under key '{'file:///x'}'" in await told(tx, run_id)

    others = [landed("e1", {"job": "another", "ok": True}), landed("e2", {"job": "file:///x", "ok": False}, offset=1)]
    await take_records([*others, landed("e3", {"job": "file:///x", "ok": True, "x": 7}, offset=2)], tx)
    await settle(tx)

    ended = await task(tx, run_id)
    assert (ended.state, ended.output["id"], ended.output["type"]) == ("succeeded", "e3", "month.landed")
    assert orders(tx)[-1].input == {"x": 7}
    found = await explained(tx, "e3")
    assert (found.disposition, found.run_id) == ("delivered", run_id)
    assert found.reason == f"task a of run {run_id} waited for it"
    assert (await explained(tx, "e1")).disposition == "waiting"
    assert (await explained(tx, "e2")).disposition == "filtered"
    assert await rows(tx) == 0


async def test_a_run_tells_what_its_tasks_wait_for(tx: Store) -> None:
    await handing(tx)
    await force(tx, **waits(), b={"wait": {"signal": "go"}})
    run = run_message(await tx.run("demo", await started(tx)))

    assert [task.waits_for for task in run.tasks] == [
        "waits for an event that trigger t takes under key 'j1'",
        "waits for the signal go",
    ]


async def test_an_event_that_came_before_its_task_waits_is_kept_for_it(tx: Store, landed: Any) -> None:
    await handing(tx)
    await force(tx, first={"kind": "data.do"}, **waits(needs=["first"]))
    run_id = await started(tx)
    await take_records([landed(f"e{n}", {"job": "j1", "n": n}, offset=n) for n in range(2)], tx)
    await settle(tx)
    assert "no task waits for it under key 'j1' yet, until" in (await explained(tx, "e0")).reason

    await report(tx, success(orders(tx)[-1]))
    await settle(tx)

    assert (await task(tx, run_id)).output["data"] == {"job": "j1", "n": 0}
    assert [(await explained(tx, f"e{n}")).disposition for n in range(2)] == ["delivered", "waiting"]


async def test_all_that_wait_get_an_event_and_those_that_come_later_the_next(tx: Store, landed: Any) -> None:
    await handing(tx)
    await force(tx, **waits())
    first = [await started(tx) for _ in range(3)]
    await settle(tx)
    await take_records([landed("e1", {"job": "j1"})], tx)
    last = await started(tx)
    await settle(tx)

    assert [(await task(tx, run_id)).state for run_id in (*first, last)] == ["succeeded"] * 3 + ["waiting"]
    assert len((await explained(tx, "e1")).reason.split(", ")) == 3
    await take_records([landed("e2", {"job": "j1"}, offset=1)], tx)
    await settle(tx)
    assert (await task(tx, last)).output["id"] == "e2"


async def test_an_event_that_comes_leaves_those_that_are_kept_as_they_are(tx: Store, landed: Any) -> None:
    await handing(tx)
    await take_records([landed(f"e{n}", {"job": "j1"}, offset=n) for n in range(20)], tx)
    await tx.settle()
    before = await tx.fetch("SELECT event_id, xmin, ctid FROM trigger_match ORDER BY event_id")
    await take_records([landed("e99", {"job": "j1"}, offset=99)], tx)
    await tx.settle()

    after = await tx.fetch("SELECT event_id, xmin, ctid FROM trigger_match WHERE event_id <> 'e99' ORDER BY event_id")
    assert after == before


async def test_a_run_is_told_once_of_an_event_for_many_of_its_tasks(tx: Store, landed: Any) -> None:
    await handing(tx)
    body = {"tasks": {"one": {"wait": {"event": "t", "key": "j1"}}}}
    await force(tx, each={"foreach": {"items": [*range(50)], "concurrency": 50, "do": body}})
    run_id = await started(tx)
    await settle(tx)
    await take_records([landed("e1", {"job": "j1"})], tx)
    await tx.settle()

    assert len(await tx.fetch("SELECT FROM mail")) == 1
    await settle(tx)
    assert (await tx.run("demo", run_id)).run.state == "succeeded"


async def test_an_event_that_nobody_waits_for_expires_and_is_given_to_nobody_afterwards(tx: Store, landed: Any) -> None:
    await handing(tx, keep_s=60)
    await force(tx, **waits())
    await take_records([landed("e1", {"job": "j1"})], tx)

    await later(tx, 60)
    run_id = await started(tx)
    await settle(tx)

    found = await explained(tx, "e1")
    assert (found.disposition, found.reason) == ("expired", "no task waited for it under key 'j1' within 60 s")
    assert (await task(tx, run_id)).state == "waiting"


async def test_a_task_that_was_cancelled_takes_no_event_from_another(tx: Store, landed: Any) -> None:
    await handing(tx)
    await force(tx, **waits())
    gone = await started(tx)
    await settle(tx)
    await cancel_run(CancelRun(**ADA, run_id=gone, force=True), tx)
    await take_records([landed("e1", {"job": "j1"})], tx)
    run_id = await started(tx)
    await settle(tx)

    assert (await task(tx, run_id)).output["id"] == "e1"
    assert (await explained(tx, "e1")).run_id == run_id
    assert (await tx.forget_awaited(tx.now, 10), await rows(tx)) == (1, 0)


async def test_a_trigger_that_is_paused_hands_out_what_came_meanwhile_when_it_goes_on(tx: Store, landed: Any) -> None:
    await handing(tx)
    await force(tx, **waits())
    await pause_trigger(PauseTrigger(**ADA, name="t"), tx)
    run_id = await started(tx)
    await take_records([landed("e1", {"job": "j1"})], tx)
    await settle(tx)
    assert (await task(tx, run_id)).state == "waiting"

    await resume_trigger(ResumeTrigger(**ADA, name="t"), tx)
    await settle(tx)

    assert (await task(tx, run_id)).output["id"] == "e1"


async def test_a_trigger_that_was_deleted_and_came_again_hands_its_events_to_tasks_that_waited(
    tx: Store, landed: Any
) -> None:
    await handing(tx)
    await force(tx, **waits())
    run_id = await started(tx)
    await take_records([landed("e1", {"job": "j2"})], tx)
    await delete_trigger(DeleteTrigger(**ADA, name="t"), tx)
    await settle(tx)
    assert "task a waits for an event that trigger t takes, which is not there: apply it" in await told(tx, run_id)
    await handing(tx)
    await take_records([landed("e2", {"job": "j1"}, offset=1)], tx)
    await settle(tx)

    assert (await explained(tx, "e1")).disposition == "dropped"
    assert (await task(tx, run_id)).output["id"] == "e2"


async def test_an_event_that_comes_again_is_given_once(tx: Store, landed: Any) -> None:
    await handing(tx, dedupe="/data/n")
    await force(tx, **waits())
    first = await started(tx)
    await settle(tx)
    records: list[Record] = [landed("e1", {"job": "j1", "n": 1}), landed("e1", {"job": "j1", "n": 1}, offset=1)]
    await take_records([*records, landed("e2", {"job": "j1", "n": 1}, offset=2)], tx)
    await settle(tx)
    second = await started(tx)
    await settle(tx)

    assert [(await task(tx, one)).state for one in (first, second)] == ["succeeded", "waiting"]
    assert (await explained(tx, "e2")).disposition == "duplicate"


async def test_a_workflow_that_waits_for_what_no_trigger_hands_out_is_refused(tx: Store) -> None:
    workflow = parse_workflow({"name": "w", "tasks": waits()})
    with pytest.raises(InvalidInput, match=r"task a: wait\.event: namespace demo has no trigger t without a workflow"):
        await apply_workflow(ApplyWorkflow(**ADA, workflow=workflow), tx)

    await handing(tx)
    with pytest.raises(InvalidInput, match=r"task a: wait\.key: trigger t has its events under what is at /data/job"):
        await force(tx, **waits(None))
    await handing(tx, name="all", key=None)
    with pytest.raises(InvalidInput, match=r"task a: wait\.key: trigger all has no `key`"):
        await force(tx, a={"wait": {"event": "all", "key": "x"}})
    with pytest.raises(Conflict, match="trigger all has no `key`, by which tasks wait"):
        await handing(tx, name="all")
    await force(tx, a={"wait": {"event": "all"}}, b={"wait": {"event": "t", "key": "j1"}})
    starting = parse_trigger({"name": "t", "workflow": "w", "source": {"topic": "triggers"}})
    with pytest.raises(Conflict, match="trigger t hands its events to tasks: give this one another name, or delete"):
        await apply_trigger(ApplyTrigger(**ADA, trigger=starting), tx)


@pytest.fixture
async def begin(postgres: Server) -> AsyncIterator[Transactions[Store]]:
    async with Database(await fresh_database(postgres, "control")) as database:
        yield Transactions(database, Store)


async def test_of_events_and_tasks_that_come_at_the_same_time_none_misses_the_other(
    begin: Transactions[Store], landed: Any
) -> None:
    async with begin() as tx:
        await handing(tx)
        await force(tx, **waits(KEYED))
    run_ids: list[UUID] = []

    async def start() -> None:
        async with begin() as tx:
            run_ids.append(await started(tx))

    async def come(number: int) -> None:
        async with begin() as tx:
            await take_records([landed(f"e{number}", {"job": "file:///x"}, offset=number)], tx)

    async def clock() -> None:
        for _ in range(40):
            async with begin() as tx:
                due, turns = await tx.due()
            for do, what in ((look_at_triggers, turns), (fire_due, due)):
                try:
                    async with begin() as tx:
                        await do(what, tx)  # type: ignore[operator]
                except MillraceError:
                    continue  # another was first: it is due again

    for _ in range(5):
        await asyncio.gather(
            *(start() for _ in range(4)), *(come(len(run_ids) + n) for n in range(4)), clock(), clock()
        )
    await clock()

    async with begin() as tx:
        await look(tx)
        await settle(tx)
        states = [(await task(tx, run_id)).state for run_id in run_ids]
        kept = await tx.fetch("SELECT disposition, count(*) AS n FROM trigger_match GROUP BY 1")
        counts = {row["disposition"]: row["n"] for row in kept}
    # As many of both: whoever waits still does so while nothing is kept.
    assert "waiting" not in states or "waiting" not in counts, (states, counts)
    assert len(states) == counts.get("delivered", 0) + counts.get("waiting", 0) == 20
    assert "succeeded" in states
