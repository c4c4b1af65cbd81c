"""Tasks that workers lease: given to one of them, theirs while they say so, done again when they are lost."""

import asyncio
import json
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from millrace.contracts.control import LeasedTask, LeasedTaskEnded, TaskLeased
from millrace.contracts.tasks import (
    Carried,
    TaskCancelled,
    TaskDispatched,
    TaskFailed,
    TaskProgressed,
    TaskReport,
    TaskSucceeded,
)
from millrace.control.commands import ApplyQueue, ApplyWorkflow, StartRun
from millrace.control.commands.operations import CancelRun
from millrace.control.commands.workers import Beat, CompleteTasks, KeepAlive, LeaseTasks, Result
from millrace.control.handlers import (
    apply_queue,
    apply_reports,
    apply_workflow,
    cancel_run,
    complete_tasks,
    fire_due,
    keep_alive,
    lease_tasks,
    start_run,
)
from millrace.control.store import Store
from millrace.core.parse import parse_workflow
from millrace.core.state import TaskState
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.testing import Server, fresh_database, until

from .test_pools import somebody_waits

AGAIN = {"retries": {"backoff_s": 0, "max_attempts": 1}}
Leased = Any


async def begun(tx: Store, data: Any = None, queue: str = "acme", **tasks: Any) -> UUID:
    """Start a run whose tasks workers lease."""
    await apply_queue(ApplyQueue(namespace="demo", principal="ada", queue=queue, transport="grpc"), tx)
    made = parse_workflow({"name": "w", "tasks": tasks or {"a": {"kind": "acme.do", "input": {"n": 1}, **AGAIN}}})
    await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=made), tx)
    started = await start_run(StartRun(namespace="demo", principal="ada", workflow="w", data=data), tx)
    return started.run.run_id


def asks(worker: str = "w1", life: str = "1", **more: Any) -> LeaseTasks:
    same = {"namespace": "demo", "queue": "acme", "request_id": str(uuid4()), "max_tasks": 10}
    return LeaseTasks(**same | {"worker": worker, "life": life} | more)


def of(row: Leased) -> dict[str, Any]:
    return {name: row[name] for name in ("task_id", "attempt", "token")}


def beat(*rows: Leased, namespace: str = "demo", **more: Any) -> KeepAlive:
    return KeepAlive(namespace=namespace, beats=tuple(Beat(**of(row), **more) for row in rows))


def done(*rows: Leased, namespace: str = "demo", **more: Any) -> CompleteTasks:
    said = more or {"output": {"ok": True}}
    return CompleteTasks(namespace=namespace, results=tuple(Result(**of(row), **said) for row in rows))


async def task(tx: Store, run_id: UUID, name: str = "a") -> Any:
    return (await tx.run("demo", run_id)).run.tasks[name]


async def left(tx: Store) -> int:
    """Return how many orders there are of attempts that are not over."""
    return len(await tx.fetch("SELECT FROM task_lease WHERE ended_at IS NULL"))


async def due(tx: Store, back: str = "1 hour") -> None:
    """Let everything be due."""
    await tx.fetch(
        "UPDATE task SET due_at = due_at - $1::text::interval, seen_at = seen_at - $1::text::interval,"
        " dispatched_at = dispatched_at - $1::text::interval WHERE due_at IS NOT NULL",
        back,
    )
    await fire_due((await tx.due())[0], tx)


async def test_a_leased_task_goes_out_on_no_topic_is_done_once_and_ends_its_run(tx: Store) -> None:
    run_id = await begun(tx)

    (row,) = await lease_tasks(asks(), tx)
    nothing = await lease_tasks(asks("w2"), tx)
    running = await task(tx, run_id)
    refused = await complete_tasks(done(row), tx)

    assert not [event for event in tx.emitted if isinstance(event, TaskDispatched)]
    told = [event for event in tx.emitted if isinstance(event, LeasedTask)]
    assert [(type(event), event.queue, event.name, event.attempt) for event in told] == [
        (TaskLeased, "acme", "a", 1),
        (LeasedTaskEnded, "acme", "a", 1),
    ]
    assert row["dispatched"]["input"] == {"n": 1}
    assert (nothing, refused, running.state) == ((), [], TaskState.RUNNING)
    assert (await tx.run("demo", run_id)).run.state == "succeeded"
    assert (await task(tx, run_id)).output == {"ok": True}
    assert await left(tx) == 0


async def test_the_same_request_gets_the_same_tasks_again(tx: Store) -> None:
    await begun(tx)
    command = asks()

    first = await lease_tasks(command, tx)
    again = await lease_tasks(command, tx)

    assert [of(row) for row in first] == [of(row) for row in again]
    assert len(first) == 1


async def test_a_result_counts_once_however_often_it_is_said(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)

    first = await complete_tasks(done(row, row), tx)
    again = await complete_tasks(done(row, output={"ok": "otherwise"}), tx)

    assert (first, again) == ([], [])
    assert (await task(tx, run_id)).output == {"ok": True}


async def test_r7_a_stale_token_is_refused_and_says_so(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)
    stale = {**of(row), "token": uuid4()}

    (refused,) = await complete_tasks(done(stale), tx)
    (stop,) = await keep_alive(beat(stale), tx)

    assert isinstance(refused.error, Conflict)
    assert str(refused.error).startswith(f"attempt 1 of task {row['task_id']} is not under way with this token")
    assert stop.cause == "lost"
    assert (await task(tx, run_id)).state is TaskState.RUNNING


async def test_a_silent_worker_loses_its_task_on_the_budget_for_losses_and_its_late_result_is_refused(
    tx: Store,
) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)

    await due(tx)
    await due(tx, "0 s")
    (again,) = await lease_tasks(asks("w2"), tx)
    (late,) = await complete_tasks(done(row), tx)
    (stop,) = await keep_alive(beat(row), tx)
    await complete_tasks(done(again, output={"by": "w2"}), tx)

    assert (again["task_id"], again["attempt"]) == (row["task_id"], 2)
    assert isinstance(late.error, Conflict)
    assert stop.cause == "lost"
    found = await task(tx, run_id)
    assert (found.losses, found.failures, found.output) == (1, 0, {"by": "w2"})


async def test_r4_a_worker_that_is_heard_of_keeps_its_task(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)

    await tx.fetch("UPDATE task SET due_at = due_at - interval '20 s'")
    before = (await task(tx, run_id)).due_at
    assert await keep_alive(beat(row, fraction=0.5, message="half"), tx) == []
    found = await task(tx, run_id)

    assert found.due_at > before
    assert (found.fraction, found.message) == (0.5, "half")


async def test_a_worker_that_is_started_again_has_its_former_tasks_done_again_at_once(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(life="1"), tx)

    assert await lease_tasks(asks(life="2"), tx) == []
    await due(tx, "0 s")
    (again,) = await lease_tasks(asks(life="2"), tx)

    assert (again["task_id"], again["attempt"]) == (row["task_id"], 2)
    assert (await task(tx, run_id)).losses == 1
    told = [event for event in tx.emitted if isinstance(event, LeasedTask)]
    lost = [(event.attempt, event.error) for event in told if isinstance(event, LeasedTaskEnded)]
    assert lost == [(1, "lost")]
    assert [event.attempt for event in told if isinstance(event, TaskLeased)] == [1, 2]


@pytest.mark.parametrize("leased", [True, False])
async def test_an_attempt_whose_worker_falls_silent_is_told_of_as_lost_where_one_had_it(
    tx: Store, leased: bool
) -> None:
    await begun(tx)
    if leased:
        await lease_tasks(asks(), tx)

    await due(tx, "30 days")

    ends = [event.error for event in tx.emitted if isinstance(event, LeasedTaskEnded)]
    assert ends == (["HeartbeatTimeout"] if leased else [])


async def test_an_attempt_that_ends_while_its_workers_next_life_asks_is_not_told_of_as_lost(
    postgres: Server,
) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await begun(tx, queue="again", a={"kind": "again.do", **AGAIN})
            (row,) = await lease_tasks(asks(life="1", queue="again"), tx)

        async def ask_again() -> None:
            async with begin() as tx:
                await lease_tasks(asks(life="2", queue="again"), tx)

        async with begin() as tx:
            await complete_tasks(done(row, row), tx)
            asking = asyncio.create_task(ask_again())
            await asyncio.wait([asking], timeout=0.5)
            assert not asking.done(), "it waits for the run, whose lease it has read"
        await asyncio.wait_for(asking, 10)

        async with begin() as tx:
            told = await tx.fetch("SELECT headers ->> 'ce_type' AS type, value FROM outbox ORDER BY id")
    ends = [json.loads(row["value"])["outcome"] for row in told if row["type"] == LeasedTaskEnded.type_name()]
    assert ends == ["succeeded"]


async def test_m5_what_an_attempt_has_left_is_the_next_ones(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)
    await keep_alive(beat(row, carried=Carried(external_ref="job-1")), tx)
    await keep_alive(beat(row, carried=Carried(external_ref="job-1", checkpoint={"epoch": 3})), tx)
    await keep_alive(beat(row, fraction=0.9), tx)

    assert await lease_tasks(asks(life="2"), tx) == []
    await due(tx, "0 s")
    (again,) = await lease_tasks(asks(life="2"), tx)
    await complete_tasks(done(again), tx)

    assert again["dispatched"]["carried"] == {"external_ref": "job-1", "checkpoint": {"epoch": 3}}
    ended = (await task(tx, run_id)).carried
    assert (ended.external_ref, ended.checkpoint) == ("job-1", None)


async def test_a_preempted_task_is_done_again_on_the_budget_for_losses(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)

    await complete_tasks(done(row, error="preempted", message="the worker has to go"), tx)
    await due(tx, "0 s")

    found = await task(tx, run_id)
    assert (found.attempt, found.losses, found.failures) == (2, 1, 0)
    assert [row["attempt"] for row in await lease_tasks(asks("w2"), tx)] == [2]


async def test_r9_a_cancel_is_told_with_the_heartbeat_and_waits_for_the_worker(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)

    await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=run_id, reason="wrong"), tx)
    (stop,) = await keep_alive(beat(row), tx)
    ending = (await tx.run("demo", run_id)).run.state
    await complete_tasks(done(row, error="cancelled", retryable=False), tx)

    assert (stop.cause, stop.reason) == ("cancelled", "the run ends: cancelled by ann: wrong")
    assert ending == "ending"
    assert (await tx.run("demo", run_id)).run.state == "cancelled"
    assert not [event for event in tx.emitted if isinstance(event, TaskCancelled)]
    assert await left(tx) == 0


async def test_r9_a_task_that_nobody_has_leased_is_cancelled_at_once(tx: Store) -> None:
    run_id = await begun(tx)

    await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=run_id), tx)

    assert (await tx.run("demo", run_id)).run.state == "cancelled"
    assert await left(tx) == 0
    assert await lease_tasks(asks(), tx) == ()


async def test_a_run_that_is_stopped_by_force_leaves_no_lease_behind(tx: Store) -> None:
    run_id = await begun(tx)
    (row,) = await lease_tasks(asks(), tx)

    await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=run_id, force=True), tx)
    (stop,) = await keep_alive(beat(row), tx)

    assert stop.cause == "lost"
    assert await left(tx) == 0


async def test_a_worker_takes_only_as_much_as_it_asks_for_and_no_kinds_that_it_has_no_place_for(tx: Store) -> None:
    kinds = {"a": "acme.x", "b": "acme.y", "c": "acme.x", "d": "acme.y"}
    await begun(tx, **{name: {"kind": kind} for name, kind in kinds.items()})

    first = await lease_tasks(asks(max_tasks=1), tx)
    others = await lease_tasks(asks("w2", except_kinds=("acme.y",)), tx)
    rest = await lease_tasks(asks("w3"), tx)

    assert [row["dispatched"]["name"] for row in (*first, *others, *rest)] == ["a", "c", "b", "d"]


async def test_an_answer_is_as_large_as_a_message_may_be_and_never_empty_for_that(tx: Store) -> None:
    text = {"$from": "/trigger/data/text"}
    large = {f"t{n:02}": {"kind": "acme.do", "input": {"texts": [text] * 4}} for n in range(15)}
    await begun(tx, data={"text": "x" * 50_000}, **large)

    some = await lease_tasks(asks(max_tasks=500), tx)

    assert 5 <= len(some) <= 11


async def test_queues_and_tasks_of_another_namespace_are_not_there(tx: Store) -> None:
    await begun(tx)
    (row,) = await lease_tasks(asks(), tx)

    with pytest.raises(NotFound, match="queue acme in namespace other"):
        await lease_tasks(asks(namespace="other"), tx)
    (stop,) = await keep_alive(beat(row, namespace="other"), tx)
    (refused,) = await complete_tasks(done(row, namespace="other"), tx)
    assert stop.cause == "lost"
    assert isinstance(refused.error, Conflict)


async def test_a_queue_keeps_its_transport(tx: Store) -> None:
    await apply_queue(ApplyQueue(namespace="demo", principal="ada", queue="acme", transport="grpc"), tx)
    with pytest.raises(Conflict, match="queue acme is one of grpc"):
        await apply_queue(ApplyQueue(namespace="demo", principal="ada", queue="acme"), tx)
    await apply_queue(ApplyQueue(namespace="demo", principal="ada", queue="other"), tx)
    with pytest.raises(InvalidInput, match="the tasks of other go out on Kafka"):
        await lease_tasks(asks(queue="other"), tx)
    assert await tx.all_queues() == {"other": False}


async def test_the_orders_of_a_queue_with_topics_go_out_on_those(tx: Store) -> None:
    await apply_queue(ApplyQueue(namespace="demo", principal="ada", queue="acme"), tx)
    tx.save_live(["acme"])
    made = parse_workflow({"name": "w", "tasks": {"a": {"kind": "acme.do", **AGAIN}}})
    await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=made), tx)
    await start_run(StartRun(namespace="demo", principal="ada", workflow="w"), tx)
    (order,) = (event for event in tx.emitted if isinstance(event, TaskDispatched))
    about = {name: getattr(order, name) for name in ("namespace", "task_id", "attempt", "token", "run_id", "kind")}
    said = {**about, "service": "acme", "name": "a", "workflow": "w"}

    left_by_it = Carried(external_ref="job-1", checkpoint=[1])
    await apply_reports([TaskProgressed(**said, fraction=0.1, carried=left_by_it)], tx)
    await apply_reports([TaskFailed(**said, error="lost", message="", retryable=True)], tx)
    await fire_due((await tx.due())[0], tx)

    again = [event for event in tx.emitted if isinstance(event, TaskDispatched)][-1]
    assert (again.attempt, again.carried) == (2, left_by_it)
    assert await left(tx) == 0


async def test_two_workers_that_ask_at_once_share_the_tasks_and_none_is_given_twice(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await begun(tx, queue="shared", **{f"t{n}": {"kind": "shared.do"} for n in range(20)})

        async def asked(worker: str) -> list[Any]:
            async with begin() as tx:
                return [of(row) for row in await lease_tasks(asks(worker, queue="shared", max_tasks=3), tx)]

        given = await asyncio.gather(*(asked(f"w{n}") for n in range(6)))
        taken = [row["task_id"] for rows in given for row in rows]
        async with begin() as tx:
            rows = await tx.fetch("SELECT task_id FROM task_lease WHERE worker IS NOT NULL")

    assert len(taken) == len(set(taken)) > 0
    assert {row["task_id"] for row in rows} == set(taken)


def succeeded(order: TaskDispatched) -> TaskReport:
    about = {name: getattr(order, name) for name in ("namespace", "task_id", "attempt", "token", "run_id", "kind")}
    said = {"service": order.queue, "name": order.name, "workflow": order.workflow, "output": {}}
    return TaskSucceeded(**about, **said, duration_s=1, cpu_s=1)


async def in_hope(begin: Transactions[Store], *reports: TaskReport) -> None:
    async with begin.hoping() as tx:
        await apply_reports(reports, tx)


async def test_a_run_whose_tasks_go_out_both_ways_is_decided_on_under_its_lock(postgres: Server) -> None:
    tasks = {"a": {"kind": "data.x"}, "b": {"kind": "mixed.do", "needs": ["a"]}}
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await begun(tx, queue="mixed", **tasks)
            (order,) = (event for event in tx.emitted if isinstance(event, TaskDispatched))

        async with begin() as other:
            await other.hold_run("demo", order.run_id)
            deciding = asyncio.create_task(in_hope(begin, succeeded(order)))
            assert await until(partial(somebody_waits, begin))
        await deciding
        async with begin() as tx:
            (row,) = await lease_tasks(asks(queue="mixed"), tx)

    assert row["dispatched"]["name"] == "b"


async def test_where_one_run_of_a_round_is_decided_on_under_its_lock_all_are_in_the_order_of_their_ids(
    postgres: Server,
) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await begun(tx, queue="mixed", a={"kind": "data.x"})
            await begun(tx, queue="mixed", a={"kind": "data.x"}, b={"kind": "mixed.do", "needs": ["a"]})
            first, second = (event for event in tx.emitted if isinstance(event, TaskDispatched))

        async with begin() as other:
            await other.hold_run("demo", first.run_id)
            deciding = asyncio.create_task(in_hope(begin, succeeded(second), succeeded(first)))
            assert await until(partial(somebody_waits, begin))
            await other.hold_run("demo", second.run_id)
        await deciding
        async with begin() as tx:
            assert [str((await task(tx, order.run_id)).state) for order in (first, second)] == ["succeeded"] * 2
