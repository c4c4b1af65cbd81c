"""Results that are taken again, as control keeps them: across runs, transactions and replicas."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.contracts import control as facts
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.tasks import TaskDispatched
from millrace.control.api.messages import run_message
from millrace.control.clock import Clock
from millrace.control.commands import GetRun, StartRun
from millrace.control.commands.operations import CancelRun, RerunRun, SetTaskResult
from millrace.control.domain.mail import mail_of as run_mail_of
from millrace.control.domain.mail import read_mail as read_run_mail
from millrace.control.domain.results import mail_of, read_mail
from millrace.control.handlers import (
    cancel_run,
    explain_run,
    fire_due,
    look_at_results,
    rerun_run,
    set_task_result,
    start_run,
)
from millrace.control.store import Store, Turn
from millrace.core.state import CACHE, AskCache, CacheAnswered, TellCache
from millrace.runtime.database import Database, Transactions
from millrace.runtime.hope import Hope
from millrace.runtime.testing import Server, fresh_database

from .test_handlers import failure, force, orders, report, success

FETCH: dict[str, Any] = {"kind": "data.fetch", "input": {"month": {"$from": "/trigger/data/month"}}, "cache": {}}


async def begun(tx: Store, month: int = 1, *, refresh: bool = False, namespace: str = "demo") -> UUID:
    """Start a run, and let the cache say what it has to."""
    asked = StartRun(namespace=namespace, principal="ada", workflow="w", data={"month": month}, refresh=refresh)
    run_id = (await start_run(asked, tx)).run.run_id
    await settle(tx)
    return run_id


async def settle(tx: Store) -> None:
    """Let happen what is due, as the clock does, until nothing is."""
    for _ in range(50):
        due, turns = await tx.due()
        if not due and not turns:
            return
        await look(turns, tx)
        await fire_due(due, tx)
    raise AssertionError("something is due for ever")


async def look(turns: Sequence[Turn], tx: Store) -> None:
    if keys := [turn for turn in turns if turn.key]:
        await look_at_results(keys, tx)


async def shown(tx: Store, run_id: UUID) -> tuple[str, str, Any]:
    kept = await tx.run("demo", run_id)
    task = kept.run.tasks["fetch"]
    return str(kept.run.state), str(task.state), task.output


async def explained(tx: Store, run_id: UUID) -> list[str]:
    return (await explain_run(GetRun(namespace="demo", run_id=run_id), tx))[1]


async def rows(tx: Store) -> tuple[int, int]:
    return tuple([(await tx.fetch(f"SELECT count(*) FROM {table}"))[0][0] for table in ("result", "result_mail")])


async def test_a_result_is_taken_by_a_later_run_which_says_whose_it_is(tx: Store) -> None:
    await force(tx, fetch=FETCH)
    first = await begun(tx)
    await report(tx, success(orders(tx)[0], rows=3))
    await settle(tx)

    second = await begun(tx)

    assert await shown(tx, second) == ("succeeded", "succeeded", {"rows": 3})
    assert len(orders(tx)) == 1
    cache = (await tx.run("demo", second)).run.tasks["fetch"].inner or {}
    key = cache[CACHE]["key"][:12]
    told = f"task fetch is from cache: key {key}, computed by run {first} task fetch at {tx.now:%Y-%m-%d %H:%M:%S} UTC"
    assert told in await explained(tx, second)
    assert f"task fetch was not in the cache: key {key}: no result of data.fetch is kept" in await explained(tx, first)
    message: pb.Run = run_message(await tx.run("demo", second))
    assert '"found": "hit"' in message.tasks[0].cache_json


async def test_of_runs_that_miss_at_once_one_computes_and_the_others_take_its_result(tx: Store) -> None:
    await force(tx, fetch=FETCH)
    first, *others = [await begun(tx) for _ in range(4)]

    assert [await shown(tx, other) for other in others] == [("running", "waiting", None)] * 3
    waits = [line for line in await explained(tx, others[0]) if "waits for run" in line]
    assert waits[0].startswith(f"task fetch waits for run {first} task fetch, which computes the same: key ")
    await report(tx, success(orders(tx)[0], rows=3))
    await settle(tx)

    assert [await shown(tx, other) for other in others] == [("succeeded", "succeeded", {"rows": 3})] * 3
    assert len(orders(tx)) == 1
    assert await rows(tx) == (1, 0)


@pytest.mark.parametrize("ends", ["fails", "is cancelled", "is set by hand"])
async def test_who_waits_longest_computes_when_the_first_one_comes_to_nothing(ends: str, tx: Store) -> None:
    await force(tx, fetch={**FETCH, "retries": {"max_attempts": 1}})
    first, second, third = [await begun(tx) for _ in range(3)]

    if ends == "fails":
        await report(tx, failure(orders(tx)[0], retryable=False))
    elif ends == "is cancelled":
        await cancel_run(CancelRun(namespace="demo", principal="ada", run_id=first, force=True), tx)
    else:
        about = {"namespace": "demo", "principal": "ada", "run_id": first, "reason": "so"}
        await set_task_result(SetTaskResult(**about, task="fetch", state="succeeded", output={"rows": -1}), tx)
    await settle(tx)

    assert [order.run_id for order in orders(tx)] == [first, second]
    await report(tx, success(orders(tx)[1], rows=4))
    await settle(tx)
    assert await shown(tx, third) == ("succeeded", "succeeded", {"rows": 4})


async def test_a_run_that_waits_and_is_cancelled_leaves_nothing_behind(tx: Store) -> None:
    await force(tx, fetch={**FETCH, "retries": {"max_attempts": 1}})
    await begun(tx)
    waits = await begun(tx)
    await cancel_run(CancelRun(namespace="demo", principal="ada", run_id=waits), tx)
    await settle(tx)
    await report(tx, failure(orders(tx)[0], retryable=False))
    await settle(tx)

    assert await shown(tx, waits) == ("cancelled", "cancelled", None)
    assert await rows(tx) == (0, 0)


async def test_a_namespace_never_takes_a_result_of_another(tx: Store) -> None:
    await force(tx, fetch=FETCH)
    await begun(tx)
    await report(tx, success(orders(tx)[0], rows=3))
    await settle(tx)
    await tx.fetch("UPDATE result SET namespace = 'other'")

    assert (await shown(tx, await begun(tx)))[:2] == ("running", "dispatched")


async def test_a_refresh_computes_anew_and_so_does_a_rerun_from_a_task(tx: Store) -> None:
    await force(tx, fetch=FETCH)
    first = await begun(tx)
    await report(tx, success(orders(tx)[0], rows=3))
    await settle(tx)

    fresh = await begun(tx, refresh=True)
    assert "the run computes all of it anew" in "".join(await explained(tx, fresh))
    await report(tx, success(orders(tx)[1], rows=4))
    await settle(tx)
    again = (await rerun_run(RerunRun(namespace="demo", principal="ada", run_id=first, from_task="fetch"), tx)).kept
    await settle(tx)

    assert (await shown(tx, again.run.run_id))[:2] == ("running", "dispatched")
    assert (await shown(tx, await begun(tx)))[2] == {"rows": 4}


async def test_a_run_started_by_a_run_that_refreshes_does_so_too(tx: Store) -> None:
    await force(tx, fetch={"subflow": {"workflow": "w"}})
    parent = await begun(tx, refresh=True)

    (child,) = [k for k in await tx.list_runs("demo", "", "", None, 10) if k.parent and k.parent.run_id == parent]
    assert child.run.refresh


async def test_an_expired_result_is_not_taken_and_goes_in_small_batches(tx: Store) -> None:
    await force(tx, fetch={**FETCH, "cache": {"expires_s": 60}})
    for month in range(3):
        await begun(tx, month)
        await report(tx, success(orders(tx)[-1], rows=month))
    await settle(tx)
    await tx.fetch("UPDATE result SET at = at - interval '61 s', expires_at = expires_at - interval '61 s'")

    late = await begun(tx, 0)
    assert (await shown(tx, late))[:2] == ("running", "dispatched")
    assert "is older than 60 s" in "".join(await explained(tx, late))
    gone = [await tx.forget_results(tx.now, 1) for _ in range(3)]
    assert gone == [1, 1, 0], "what is being computed anew stays"
    assert (await rows(tx))[0] == 1


async def test_kubeflow_6002_a_result_of_other_input_is_never_taken_and_it_is_said_what_differs(tx: Store) -> None:
    await force(tx, fetch=FETCH)
    await begun(tx, 1)
    await report(tx, success(orders(tx)[0], rows=1))
    await settle(tx)
    other = await begun(tx, 2)

    assert (await shown(tx, other))[:2] == ("running", "dispatched")
    assert "task fetch, differs in input.month" in "".join(await explained(tx, other))


@given(lost=st.lists(st.sampled_from(["look", "fire", "report", "start"]), max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_in_whatever_order_things_happen_work_is_done_once_and_all_runs_end(lost: list[str], tx: Store) -> None:
    for table in ("result", "result_mail", "mail", "task", "run"):
        await tx.fetch(f"DELETE FROM {table}")
    before = len(orders(tx))
    await force(tx, fetch=FETCH)
    runs: list[UUID] = []
    for what in [*lost, "start", "settle"]:
        due, turns = await tx.due()
        if what == "look":
            await look(turns, tx)
        elif what == "fire":
            await fire_due(due, tx)
        elif what == "start":
            asked = StartRun(namespace="demo", principal="ada", workflow="w", data={"month": 1})
            runs.append((await start_run(asked, tx)).run.run_id)
        elif what == "settle":
            await settle(tx)
        if what in {"report", "settle"} and len(orders(tx)) > before:
            await report(tx, success(orders(tx)[before], rows=3))  # and again, where it was reported before
    await settle(tx)

    assert len(orders(tx)) == before + 1
    assert {(await shown(tx, run_id))[:2] for run_id in runs} == {("succeeded", "succeeded")}


async def test_two_replicas_that_look_at_once_tell_each_run_once(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control"), 4) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await force(tx, fetch=FETCH)
        for number in range(6):
            async with begin() as tx:
                asked = StartRun(namespace="demo", principal="ada", workflow="w", data={"month": number % 2})
                await start_run(asked, tx)

        clocks = [Clock(begin, 1.0) for _ in range(2)]
        async with asyncio.timeout(30):
            for _ in range(8):
                await asyncio.gather(*(clock.look() for clock in clocks))

        async with begin() as tx:
            states = await tx.fetch("SELECT t.state, count(*) FROM task t GROUP BY 1 ORDER BY 1")
            waiting = await tx.fetch("SELECT count(*) FROM result_mail WHERE waits")
        assert [tuple(row) for row in states] == [("dispatched", 2), ("waiting", 4)]
        assert waiting[0][0] == 4


async def test_a_result_that_is_reported_in_hope_is_kept_and_taken_by_the_next_run(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        clock = Clock(begin, 1.0)
        async with begin() as tx:
            await force(tx, fetch=FETCH)
        asked = StartRun(namespace="demo", principal="ada", workflow="w", data={"month": 1})
        made: list[TaskDispatched] = []
        for _ in range(2):
            async with begin() as tx:
                run_id = (await start_run(asked, tx)).run.run_id
            for _ in range(6):
                await clock.look()
            async with begin() as tx:
                made = [
                    TaskDispatched.model_validate_json(row["value"])
                    for row in await tx.fetch("SELECT value FROM outbox WHERE topic LIKE 'control.tasks.%' ORDER BY 1")
                ]
            if made:
                await Hope("test").do(begin, lambda tx, order=made[0]: report(tx, success(order, rows=3)))
            for _ in range(6):
                await clock.look()

        async with begin() as tx:
            assert await shown(tx, run_id) == ("succeeded", "succeeded", {"rows": 3})


@pytest.mark.parametrize(
    "told",
    [
        AskCache("a", UUID(int=1), "key", "data.fetch", 60.0, refresh=True, parts={"version": "1"}),
        TellCache("a", UUID(int=1), "key", "data.fetch", {"version": "1"}, output={"x": [1]}, kept_s=60.0),
        TellCache("a", UUID(int=1), "key", "data.fetch", {}),
    ],
)
def test_what_is_asked_and_told_is_kept_as_it_was(told: AskCache | TellCache) -> None:
    assert read_mail(mail_of(told), "key", UUID(int=1)) == told


def test_an_answer_is_kept_as_it_was() -> None:
    told = CacheAnswered("a", UUID(int=1), "hit", output={"x": 1}, source={"run_id": "r", "task": "t", "at": "now"})

    assert read_run_mail(run_mail_of(told)) == told


async def test_a_missed_deadline_is_told_once_and_stays_with_the_run_and_the_task(tx: Store) -> None:
    due = {"deadline": {"after_s": 5, "action": "notify"}}
    await force(tx, fetch={"kind": "data.fetch", **due})
    run_id = await begun(tx)
    await tx.fetch("UPDATE task SET deadline_at = deadline_at - interval '6 s'")

    for _ in range(2):
        ids, _ = await tx.due()
        await fire_due(ids, tx)

    (missed,) = [event for event in tx.emitted if isinstance(event, facts.DeadlineMissed)]
    kept = await tx.run("demo", run_id)
    assert (missed.run_id, missed.task, missed.action) == (run_id, "fetch", "notify")
    assert missed.task_id == kept.run.tasks["fetch"].task_id
    assert (kept.run.tasks["fetch"].missed_at, kept.run.tasks["fetch"].deadline_at) == (tx.now, None)
    assert (await tx.due())[0] == []
    assert f"task fetch missed its deadline at {tx.now:%Y-%m-%d %H:%M:%S} UTC" in await explained(tx, run_id)
    assert run_message(kept).tasks[0].HasField("missed_at")


async def test_a_deadline_that_is_to_come_is_known_and_due_then(tx: Store) -> None:
    await force(tx, fetch={"kind": "data.fetch", "deadline": {"after_s": 5, "action": "fail"}})
    run_id = await begun(tx)

    kept = await tx.run("demo", run_id)
    assert kept.run.tasks["fetch"].deadline_at == tx.now + timedelta(seconds=5)
    await tx.fetch("UPDATE task SET deadline_at = now()")
    await settle(tx)
    assert (await tx.run("demo", run_id)).run.state == "failed"


async def test_what_a_task_needs_goes_with_its_order_and_is_shown(tx: Store) -> None:
    needs = {"cpu": 2, "memory": "1.5Gi", "gpu": 1, "gpu_type": "a100"}
    await force(tx, fetch={"kind": "data.fetch", "resources": needs})
    run_id = await begun(tx)

    given_ = orders(tx)[0].resources
    assert given_ is not None
    assert given_.model_dump() == {"cpu": 2, "memory_bytes": 1536 * 1024**2, "gpu": 1, "gpu_type": "a100"}
    assert '"memory":"1.5Gi"' in run_message(await tx.run("demo", run_id)).tasks[0].resources_json
