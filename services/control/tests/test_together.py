"""What triggers, schedules, queues, and operations on runs make of one another."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.tasks import TaskSucceeded
from millrace.control.commands import ApplyQueue, GetRun, StartRun
from millrace.control.commands.operations import CancelRun, ChangeRuns, PauseRun, RerunRun, SetTaskResult
from millrace.control.commands.pools import ApplyPool
from millrace.control.domain.explain import led_by
from millrace.control.handlers import (
    apply_pool,
    apply_queue,
    apply_reports,
    cancel_run,
    change_runs,
    explain_run,
    fire_due,
    look_at_pools,
    look_at_results,
    pause_run,
    rerun_run,
    set_task_result,
    start_run,
)
from millrace.control.store import Store

from . import test_operations as operations
from . import test_schedules as schedules
from .test_handlers import about, failure, force, orders, report, started, success, trigger
from .test_triggers import DO, PAIR, explained, look, take

BOB = {"namespace": "demo", "principal": "bob"}
ONCE: dict[str, Any] = {"do": {**DO["do"], "retries": {"max_attempts": 1}}}


async def reasons(run_id: UUID | None, tx: Store) -> str:
    return " ".join((await explain_run(GetRun(namespace="demo", run_id=run_id), tx))[1])


async def given_to(run_id: UUID | None, tx: Store) -> list[str]:
    kept, _ = await explain_run(GetRun(namespace="demo", run_id=run_id), tx)
    return [event["id"] for _, event in led_by(kept)]


async def again(run_id: UUID | None, tx: Store) -> UUID:
    return (await rerun_run(RerunRun(**BOB, run_id=run_id), tx)).kept.run.run_id


async def with_child(tx: Store) -> tuple[UUID, UUID]:
    """A run, and the run that its task has started."""
    await operations.force(tx, name="inner", a=operations.WORK)
    await operations.force(tx, a={"subflow": {"workflow": "inner"}})
    parent = await operations.started(tx)
    child = UUID(((await tx.run("demo", parent)).run.tasks["a"].inner or {})["run_id"])
    await fire_due([child], tx)
    return parent, child


async def test_a_rerun_that_succeeds_lets_a_strict_sequence_go_on(tx: Store, landed: Any) -> None:
    await force(tx, **ONCE)
    await trigger(tx, strategy="strict_sequence")
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(2)))
    await report(tx, failure(orders(tx)[-1]))
    first = await again((await explained(tx, "e0")).run_id, tx)
    await report(tx, failure(orders(tx)[-1]))
    await look(tx)
    assert [order.input["given"] for order in orders(tx)] == [0, 0]

    await again(first, tx)
    await report(tx, success(orders(tx)[-1]))
    await look(tx)

    assert [order.input["given"] for order in orders(tx)] == [0, 0, 0, 1]


async def archived(tx: Store) -> None:
    """Move all that may be to the archive."""
    while runs := await tx.ended_runs(tx.now + timedelta(days=1), 100):
        await tx.archive(runs, timedelta(days=1))


async def test_a_blocked_strict_sequence_is_not_let_go_by_housekeeping(tx: Store, landed: Any) -> None:
    await force(tx, **ONCE)
    await trigger(tx, strategy="strict_sequence")
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(2)))
    await report(tx, failure(orders(tx)[-1]))
    first = await again((await explained(tx, "e0")).run_id, tx)
    await report(tx, failure(orders(tx)[-1]))

    await archived(tx)
    await look(tx)
    still = len(orders(tx))
    await again(first, tx)
    await report(tx, success(orders(tx)[-1]))
    await archived(tx)
    await look(tx)

    assert still == 2
    assert [order.input["given"] for order in orders(tx)] == [0, 0, 0, 1]


async def test_a_rerun_of_a_joined_run_is_explained_by_the_same_events(tx: Store, landed: Any) -> None:
    await force(tx, **ONCE)
    await trigger(tx, join={"of": "all", "members": PAIR, "window_s": 3600})
    await take(tx, landed("e1", 1, type="a"), landed("e2", 2, type="b", offset=1))
    await report(tx, failure(orders(tx)[-1]))
    first = (await explained(tx, "e1")).run_id

    second = await again(first, tx)

    assert await given_to(first, tx) == ["e1", "e2"]
    assert await given_to(second, tx) == ["e1", "e2"]
    assert f"bob has run {first} done again by it" in await reasons(second, tx)


async def test_a_run_that_is_paused_while_it_waits_is_explained_by_both(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="queue")
    await take(tx, landed("e1", 1), landed("e2", 2, offset=1))
    second = (await explained(tx, "e2")).run_id

    await pause_run(PauseRun(**BOB, run_id=second, reason="the month is closed"), tx)

    told = await reasons(second, tx)
    assert "bob: the month is closed" in told
    assert str((await explained(tx, "e1")).run_id) in told


async def test_runs_that_no_event_has_started_name_none(tx: Store) -> None:
    _, child = await with_child(tx)
    await schedules.force(tx, **schedules.DO)
    await schedules.apply(tx)
    await schedules.stood_still(tx, 1.5)
    await schedules.tick(tx)
    (scheduled,) = await tx.list_runs("demo", "w", "", None, 1)

    assert await given_to(child, tx) == []
    assert await given_to(scheduled.run.run_id, tx) == []


async def test_a_plan_names_queues_of_its_runs_namespace_whatever_its_report_says(tx: Store) -> None:
    await apply_queue(ApplyQueue(namespace="other", principal="eve", queue="theirs"), tx)
    tx.save_live(["theirs"])
    await force(tx, do={"kind": "data.do", "plans": True, "retries": {"max_attempts": 1}})
    await started(tx)
    plan = {"$plan": {"tasks": {"x": {"kind": "theirs.do"}}}}
    told = {**about(orders(tx)[-1]), "namespace": "other"}

    await apply_reports([TaskSucceeded(**told, output=plan, duration_s=1.0, cpu_s=0.5)], tx)

    assert [order.queue for order in orders(tx)] == ["data"]


async def test_a_rerun_of_many_does_the_work_of_a_child_once(tx: Store) -> None:
    parent, child = await with_child(tx)
    await operations.fail(tx, orders(tx)[-1])
    await fire_due([parent], tx)
    before = len(orders(tx))

    outcomes, _ = await change_runs(ChangeRuns(**BOB, action="rerun"), tx)
    await fire_due((await tx.due())[0], tx)

    assert {one.kept.run.run_id: one.outcome for one in outcomes}[child] == "refused"
    assert len(orders(tx)) - before == 1


async def test_the_grace_of_a_cancel_is_its_childrens_too(tx: Store) -> None:
    parent, child = await with_child(tx)

    await cancel_run(CancelRun(**BOB, run_id=parent, grace_s=600), tx)
    await fire_due([child], tx)

    due_at = (await tx.run("demo", child)).run.due_at
    assert due_at is not None
    assert due_at - tx.now == timedelta(seconds=600)


async def settled(tx: Store) -> None:
    """Let the clock do all that is due: for runs, results and pools."""
    for _ in range(100):
        due, turns = await tx.due()
        if not due and not turns:
            return
        if keys := [turn for turn in turns if turn.key]:
            await look_at_results(keys, tx)
        await look_at_pools([turn.namespace for turn in turns if turn.of_pools], tx)
        await fire_due(due, tx)
    raise AssertionError("something is due for ever")


async def left(tx: Store) -> dict[str, int]:
    """How many rows there are of what a task has only while it goes on."""
    tables = ("lease", "waiter", "task_lease", "result_mail", "mail")
    return {name: n for name in tables if (n := (await tx.fetch(f"SELECT count(*) AS n FROM {name}"))[0]["n"])}


async def cancelled(run_id: UUID, tx: Store) -> None:
    await cancel_run(CancelRun(**BOB, run_id=run_id, reason="enough", force=True), tx)


async def by_hand(run_id: UUID, tx: Store) -> None:
    await set_task_result(SetTaskResult(**BOB, run_id=run_id, task="do", state="succeeded", output={}, reason="so"), tx)


async def in_time(run_id: UUID, tx: Store) -> None:
    await tx.fetch("UPDATE task SET deadline_at = now() WHERE run_id = $1", run_id)


@pytest.mark.parametrize("end", [cancelled, by_hand, in_time], ids=["is cancelled", "is set by hand", "is too late"])
@pytest.mark.parametrize("transport", ["kafka", "grpc"])
async def test_a_task_with_a_cache_a_pool_a_deadline_and_a_queue_of_its_own_leaves_nothing_behind(
    end: Callable[[UUID, Store], Awaitable[None]], transport: str, tx: Store
) -> None:
    await apply_queue(ApplyQueue(**BOB, queue="acme", transport=transport), tx)
    tx.save_live(["acme"])
    await apply_pool(ApplyPool(**BOB, name="gpu", slots=1), tx)
    limits = {"deadline": {"after_s": 600, "action": "fail"}, "retries": {"max_attempts": 1}}
    given = {"cache": {"version": "1"}, "input": {"n": {"$from": "/trigger/data/n"}}}
    await operations.force(tx, do={"kind": "acme.do", "pool": "gpu", **given, **limits})
    runs = [(await start_run(StartRun(**BOB, workflow="w", data={"n": n}), tx)).run.run_id for n in (1, 1, 2)]
    await settled(tx)
    states = [(await tx.run("demo", run_id)).run.tasks["do"].state for run_id in runs]
    assert sorted(states) == ["dispatched", "queued", "waiting"], (
        "one works, one waits for its result, one for its slot"
    )

    for run_id in runs:
        await end(run_id, tx)
        await settled(tx)

    assert {(await tx.run("demo", run_id)).run.state.ended for run_id in runs} == {True}
    assert await left(tx) == {}
