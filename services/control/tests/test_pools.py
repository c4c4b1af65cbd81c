"""Slots of pools: taken, waited for, given back in the transaction that ends the attempt."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.tasks import TaskDispatched
from millrace.control.clock import Clock
from millrace.control.commands import ApplyTrigger, ApplyWorkflow, GetRun, PauseTrigger, ResumeTrigger, StartRun
from millrace.control.commands.operations import CancelRun, PauseRun, ResumeRun, SetTaskResult
from millrace.control.commands.pools import ApplyPool, ApplyQuota, DeletePool, GetPool
from millrace.control.handlers import (
    apply_pool,
    apply_quota,
    apply_reports,
    apply_trigger,
    apply_workflow,
    cancel_run,
    delete_pool,
    explain_run,
    fire_due,
    get_pool,
    look_at_pools,
    look_at_triggers,
    pause_run,
    pause_trigger,
    resume_run,
    resume_trigger,
    set_task_result,
    start_run,
    take_records,
    why_tasks_wait,
)
from millrace.control.store import Store, Turn
from millrace.core.parse import parse_workflow
from millrace.core.triggers import parse_trigger
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.testing import Server, fresh_database, until

from .test_handlers import failure, orders, success, trigger

GPU: dict[str, Any] = {"kind": "training.fit", "pool": "gpu", "retries": {"max_attempts": 1, "backoff_s": 0}}
ADA = {"namespace": "demo", "principal": "ada"}


async def pool(tx: Store, slots: int, name: str = "gpu", **more: Any) -> None:
    await apply_pool(ApplyPool(**ADA, name=name, slots=slots, **more), tx)


async def quota(tx: Store, max_leases: int | None) -> None:
    await apply_quota(ApplyQuota(**ADA, max_leases=max_leases), tx)


async def force(tx: Store, workflow: str = "w", **tasks: Any) -> None:
    parsed = parse_workflow({"name": workflow, "tasks": tasks or {"fit": GPU}})
    await apply_workflow(ApplyWorkflow(**ADA, workflow=parsed), tx)


async def start(tx: Store, workflow: str = "w", data: Any = None) -> UUID:
    return (await start_run(StartRun(**ADA, workflow=workflow, data=data), tx)).run.run_id


async def clock(tx: Store) -> None:
    """Do what the clock does, until nothing is due."""
    for _ in range(100):
        runs, turns = await tx.due()
        if not runs and not turns:
            return
        await look_at_pools([turn.namespace for turn in turns if turn.of_pools], tx)
        await fire_due(runs, tx)
    raise AssertionError("something is due for ever")


async def leases(tx: Store) -> dict[UUID, int]:
    return {row["run_id"]: row["weight"] for row in await tx.fetch("SELECT run_id, weight FROM lease")}


async def waiting(tx: Store) -> int:
    ((count,),) = await tx.fetch("SELECT count(*) FROM waiter")
    return int(count)


async def state(tx: Store, run_id: UUID, task: str = "fit") -> str:
    return str((await tx.run("demo", run_id)).run.tasks[task].state)


def order_of(tx: Store, run_id: UUID) -> TaskDispatched:
    return next(order for order in reversed(orders(tx)) if order.run_id == run_id)


async def somebody_waits(begin: Transactions[Store]) -> bool:
    async with begin() as tx:
        return bool(await tx.fetch("SELECT FROM pg_locks WHERE NOT granted"))


async def make_due(tx: Store, run_id: UUID) -> None:
    await tx.fetch(
        "UPDATE task SET due_at = now(), started_at = now() - interval '1 d' WHERE run_id = $1 AND due_at IS NOT NULL",
        run_id,
    )


async def test_as_many_tasks_are_dispatched_as_the_pool_has_slots(tx: Store) -> None:
    await pool(tx, 2)
    await force(tx)

    first, second, third = [await start(tx) for _ in range(3)]

    assert [order.run_id for order in orders(tx)] == [first, second], "in the transactions that started them"
    assert [await state(tx, one) for one in (first, second, third)] == ["dispatched", "dispatched", "queued"]
    assert await leases(tx) == {first: 1, second: 1}


async def succeeds(tx: Store, run_id: UUID) -> None:
    await apply_reports([success(order_of(tx, run_id))], tx)


async def fails(tx: Store, run_id: UUID) -> None:
    await apply_reports([failure(order_of(tx, run_id))], tx)


async def is_lost(tx: Store, run_id: UUID) -> None:
    await apply_reports([failure(order_of(tx, run_id), "lost")], tx)


async def is_silent(tx: Store, run_id: UUID) -> None:
    await make_due(tx, run_id)
    await fire_due([run_id], tx)


async def is_cancelled_at_once(tx: Store, run_id: UUID) -> None:
    await cancel_run(CancelRun(**ADA, run_id=run_id, force=True), tx)


async def is_cancelled(tx: Store, run_id: UUID) -> None:
    await cancel_run(CancelRun(**ADA, run_id=run_id), tx)
    assert await leases(tx), "its worker is still busy"
    await apply_reports([failure(order_of(tx, run_id), "cancelled")], tx)


async def is_waited_for_no_more(tx: Store, run_id: UUID) -> None:
    await cancel_run(CancelRun(**ADA, run_id=run_id), tx)
    await make_due(tx, run_id)
    await fire_due([run_id], tx)


async def is_set_by_hand(tx: Store, run_id: UUID) -> None:
    told = SetTaskResult(**ADA, run_id=run_id, task="fit", state="succeeded", reason="known")
    await set_task_result(told, tx)


@pytest.mark.parametrize(
    "ends",
    [
        succeeds,
        fails,
        is_lost,
        is_silent,
        is_cancelled_at_once,
        is_cancelled,
        is_waited_for_no_more,
        is_set_by_hand,
    ],
)
async def test_r5_slots_are_freed_in_the_transaction_that_ends_an_attempt_and_the_next_has_them(
    tx: Store, ends: Any
) -> None:
    await pool(tx, 1)
    await force(tx, fit={**GPU, "retries": {"max_attempts": 1, "lost": 0}})
    first, second = await start(tx), await start(tx)

    await ends(tx, first)

    assert await leases(tx) == {second: 1}, "in the same transaction"
    assert second in (await tx.due())[0], "it is told without waiting for the clock to come round"
    await clock(tx)
    assert order_of(tx, second).name == "fit"
    await succeeds(tx, second)
    assert (await leases(tx), await waiting(tx)) == ({}, 0)


async def test_r5_a_retry_gives_its_slots_back_and_waits_in_line_again(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx, fit={**GPU, "retries": {"max_attempts": 2, "backoff_s": 60}})
    first, second = await start(tx), await start(tx)

    await fails(tx, first)
    await clock(tx)

    assert (await state(tx, first), await leases(tx)) == ("retry_wait", {second: 1})
    await tx.fetch("UPDATE task SET due_at = now() WHERE run_id = $1", first)
    await fire_due([first], tx)
    assert await state(tx, first) == "queued"
    await succeeds(tx, second)
    await clock(tx)
    assert (order_of(tx, first).attempt, await leases(tx)) == (2, {first: 1})


async def test_items_of_one_run_follow_one_another_in_the_transaction_that_frees_the_slot(tx: Store) -> None:
    await pool(tx, 2)
    body = {"tasks": {"fit": {**GPU, "input": {"n": {"$from": "/item/each"}}}}}
    await force(tx, each={"foreach": {"items": list(range(7)), "concurrency": 7, "do": body}})
    run_id = await start(tx)
    done = 0
    while done < 7:
        under_way = [order for order in orders(tx) if order.name][done : done + 2]
        assert sum((await leases(tx)).values()) <= 2
        await apply_reports([success(under_way[0])], tx)
        done += 1

    assert [order.input["n"] for order in orders(tx)] == list(range(7))
    assert (await tx.run("demo", run_id)).run.state == "succeeded"
    assert (await leases(tx), await waiting(tx)) == ({}, 0)


async def test_a_pool_that_is_made_larger_lets_in_more_at_once_and_one_that_is_made_smaller_takes_nothing_away(
    tx: Store,
) -> None:
    await pool(tx, 1)
    await force(tx)
    runs = [await start(tx) for _ in range(5)]

    await pool(tx, 3)
    await clock(tx)
    assert set(await leases(tx)) == set(runs[:3])

    await pool(tx, 1)
    await succeeds(tx, runs[0])
    await succeeds(tx, runs[1])
    await clock(tx)
    assert set(await leases(tx)) == {runs[2]}
    await succeeds(tx, runs[2])
    assert set(await leases(tx)) == {runs[3]}


async def test_more_than_are_let_in_at_once_are_let_in_by_the_clock_at_once(tx: Store) -> None:
    await pool(tx, 0)
    await force(tx)
    runs = [await start(tx) for _ in range(70)]

    await pool(tx, 69)
    await clock(tx)

    assert set(await leases(tx)) == set(runs[:69])
    assert len(orders(tx)) == 69


async def test_a_higher_priority_goes_first_and_then_who_came_first(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx, fit={**GPU, "priority": {"$from": "/trigger/data/priority", "default": 0}})
    runs = [await start(tx, data={"priority": priority}) for priority in (0, 0, 5, 1, 5)]

    served = []
    for _ in runs:
        (served_now,) = await leases(tx)
        served.append(runs.index(served_now))
        await succeeds(tx, served_now)
        await clock(tx)

    assert served == [0, 2, 4, 3, 1]


async def test_fairness_keys_share_a_pool_by_their_shares_whatever_their_numbers(tx: Store) -> None:
    await pool(tx, 1, shares={"b": 2})
    await force(tx, fit={**GPU, "fairness_key": {"$from": "/trigger/data"}})
    runs = {await start(tx, data=key): key for key in "a" * 6 + "b" * 4 + "c"}

    served = ""
    for _ in runs:
        (now,) = await leases(tx)
        served += runs[now]
        await succeeds(tx, now)
        await clock(tx)

    assert served.index("c") <= 4, "one that comes last is not behind all of another"
    assert served[1:8].count("b") == 4
    assert sorted(served) == sorted(runs.values())
    assert await tx.fetch("SELECT FROM flow WHERE waits") == []


async def test_a_key_that_was_served_while_it_was_alone_owes_nothing_when_another_comes(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx, fit={**GPU, "fairness_key": {"$from": "/trigger/data"}})
    for _ in range(5):
        await succeeds(tx, await start(tx, data="a"))
    runs = {await start(tx, data=key): key for key in "xbbaa"}

    served = ""
    for _ in runs:
        (now,) = await leases(tx)
        served += runs[now]
        await succeeds(tx, now)
        await clock(tx)

    assert served in {"xbaba", "xabab"}


async def test_who_takes_many_slots_is_not_overtaken_for_ever_by_who_takes_few(tx: Store) -> None:
    await pool(tx, 3)
    await force(tx)
    await force(tx, "heavy", fit={**GPU, "weight": 3})
    light = [await start(tx), await start(tx)]
    heavy = await start(tx, "heavy")
    later = await start(tx)

    assert set(await leases(tx)) == {*light}, "one slot is free, and is kept for who is first"
    await succeeds(tx, light[0])
    assert set(await leases(tx)) == {light[1]}
    await succeeds(tx, light[1])
    assert await leases(tx) == {heavy: 3}
    await pool(tx, 2)
    await clock(tx)
    await fails(tx, heavy)
    assert await leases(tx) == {later: 1}


async def test_who_takes_more_slots_than_a_pool_has_now_takes_all(tx: Store) -> None:
    await pool(tx, 4)
    await force(tx, fit={**GPU, "weight": 4})
    await pool(tx, 2)

    run_id = await start(tx)

    assert await leases(tx) == {run_id: 2}


async def test_a_quota_is_over_all_pools_and_what_one_gives_back_another_has(tx: Store) -> None:
    await pool(tx, 5)
    await pool(tx, 5, "cpu")
    await quota(tx, 2)
    await force(tx)
    await force(tx, "c", fit={**GPU, "pool": "cpu"})
    first, second, third = await start(tx), await start(tx), await start(tx, "c")
    assert set(await leases(tx)) == {first, second}
    assert (await why_tasks_wait(await tx.run("demo", third), tx))["fit"] == (
        "waits for a slot of pool cpu: 0 before it; 0 of 5 slots taken; "
        "the namespace's quota of 2 tasks that hold slots is used up"
    )

    await succeeds(tx, first)
    await clock(tx)

    assert set(await leases(tx)) == {second, third}
    fourth = await start(tx)
    await quota(tx, None)
    assert set(await leases(tx)) == {second, third, fourth}


async def test_the_quota_of_one_namespace_is_no_others(tx: Store) -> None:
    await pool(tx, 1)
    await apply_quota(ApplyQuota(namespace="other", principal="eve", max_leases=0), tx)
    await force(tx)

    run_id = await start(tx)

    assert await leases(tx) == {run_id: 1}
    with pytest.raises(NotFound, match="pool gpu in namespace other"):
        await get_pool(GetPool(namespace="other", name="gpu"), tx)


async def test_a_rate_lets_in_the_next_when_its_time_has_come(tx: Store) -> None:
    await pool(tx, 5, rate={"count": 2, "per_s": 60})
    await force(tx)
    runs = [await start(tx) for _ in range(3)]

    assert set(await leases(tx)) == set(runs[:2])
    ((due_at,),) = await tx.fetch("SELECT due_at FROM admission")
    assert due_at - tx.now == timedelta(seconds=30)
    reason = (await why_tasks_wait(await tx.run("demo", runs[2]), tx))["fit"]
    assert "0 before it; 2 of 5 slots taken; the pool's rate lets the next one begin at" in reason
    await tx.fetch("UPDATE pool SET full_at = full_at - interval '30 s'")
    await tx.fetch("UPDATE admission SET due_at = now()")
    await clock(tx)
    assert set(await leases(tx)) == set(runs)
    assert await tx.fetch("SELECT FROM admission WHERE due_at IS NOT NULL") == []


async def test_a_paused_run_gives_up_its_place_and_is_last_when_it_goes_on(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx)
    first, second, third = [await start(tx) for _ in range(3)]

    await pause_run(PauseRun(**ADA, run_id=second), tx)
    assert await why_tasks_wait(await tx.run("demo", second), tx) == {
        "fit": "is to wait for a slot of pool gpu once the run is resumed"
    }
    await succeeds(tx, first)
    assert set(await leases(tx)) == {third}
    await resume_run(ResumeRun(**ADA, run_id=second), tx)
    await clock(tx)
    await succeeds(tx, third)
    await clock(tx)

    assert (await state(tx, second), set(await leases(tx))) == ("dispatched", {second})


async def test_a_run_that_is_paused_between_its_slots_and_its_hearing_of_them_gives_them_back(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx)
    first, second, third = [await start(tx) for _ in range(3)]
    await succeeds(tx, first)
    assert set(await leases(tx)) == {second}, "it has mail that says so"

    await pause_run(PauseRun(**ADA, run_id=second), tx)
    await resume_run(ResumeRun(**ADA, run_id=second), tx)
    await clock(tx)

    assert set(await leases(tx)) == {third}
    assert (await state(tx, second), await state(tx, third)) == ("queued", "dispatched")


async def test_a_cancelled_run_gives_up_its_places(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx)
    first, second, third = [await start(tx) for _ in range(3)]

    await cancel_run(CancelRun(**ADA, run_id=second), tx)

    assert (await tx.run("demo", second)).run.state == "cancelled"
    assert await waiting(tx) == 1
    await succeeds(tx, first)
    assert set(await leases(tx)) == {third}


async def test_a_task_that_waits_for_too_long_in_all_fails_and_gives_up_its_place(tx: Store) -> None:
    await pool(tx, 0)
    await force(tx, fit={**GPU, "timeout_s": 60})
    run_id = await start(tx)

    await tx.fetch("UPDATE task SET due_at = now(), began_at = began_at - interval '61 s'")
    await clock(tx)

    assert (await tx.run("demo", run_id)).run.cause == "task fit failed: Timeout: not done within 60 s in all"
    assert await waiting(tx) == 0


async def test_what_a_task_waits_for_is_shown_and_explained(tx: Store) -> None:
    await pool(tx, 2)
    await force(tx)
    await force(tx, "heavy", fit={**GPU, "weight": 2})
    first, *_, last = [await start(tx) for _ in range(5)]
    heavy = await start(tx, "heavy")

    assert await why_tasks_wait(await tx.run("demo", first), tx) == {}
    assert await why_tasks_wait(await tx.run("demo", last), tx) == {
        "fit": "waits for a slot of pool gpu: 2 before it; 2 of 2 slots taken"
    }
    kept, reasons = await explain_run(GetRun(namespace="demo", run_id=heavy), tx)
    assert kept.run.run_id == heavy
    assert reasons[-1] == "task fit waits for 2 slots of pool gpu: 3 before it; 2 of 2 slots taken"
    shown = await get_pool(GetPool(namespace="demo", name="gpu"), tx)
    assert (shown.pool["taken"], shown.pool["leases"], shown.pool["waiting"]) == (2, 2, 4)
    assert [row["run_id"] for row in shown.waiters][-2:] == [last, heavy]
    assert shown.holders[0]["run_id"] == first


async def test_a_pool_that_is_not_there_or_has_too_few_slots_is_refused_with_the_workflow(tx: Store) -> None:
    with pytest.raises(InvalidInput, match="task fit: there is no pool gpu: `millrace pool apply gpu --slots N` makes"):
        await force(tx)
    await pool(tx, 2)
    with pytest.raises(InvalidInput, match="task fit: weight 3 is more than the 2 slots of pool gpu"):
        await force(tx, fit={**GPU, "weight": 3})


async def test_a_plan_that_names_a_pool_that_is_not_there_fails_its_task(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx, ask={"kind": "training.plan", "plans": True, "retries": {"max_attempts": 1}})
    good, bad = await start(tx), await start(tx)

    await apply_reports([success(order_of(tx, good), **{"$plan": {"tasks": {"fit": GPU}}})], tx)
    planned = {"$plan": {"tasks": {"fit": {**GPU, "pool": "tpu"}}}}
    await apply_reports([success(order_of(tx, bad), **planned)], tx)

    assert set(await leases(tx)) == {good}
    assert "InvalidPlan: fit: there is no pool tpu" in (await tx.run("demo", bad)).run.cause


async def test_a_pool_that_is_named_or_used_is_not_deleted(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx)
    run_id = await start(tx)
    gone = DeletePool(namespace="demo", name="gpu")
    with pytest.raises(Conflict, match="pool gpu is in use: 1 tasks hold slots of it, 0 wait"):
        await delete_pool(gone, tx)
    await succeeds(tx, run_id)
    with pytest.raises(Conflict, match="pool gpu is named by workflow w: apply that without it first"):
        await delete_pool(gone, tx)
    await force(tx, fit={"kind": "training.fit", "input": {"pool": "gpu"}})

    await delete_pool(gone, tx)

    with pytest.raises(NotFound, match="pool gpu in namespace demo does not exist"):
        await delete_pool(gone, tx)


async def test_a_run_of_an_older_version_waits_for_its_pool_until_there_is_one_again(tx: Store) -> None:
    await pool(tx, 1)
    await force(tx, first={"kind": "training.fit"}, fit={**GPU, "needs": ["first"]})
    run_id = await start(tx)
    await force(tx, fit={"kind": "training.fit"})
    await delete_pool(DeletePool(namespace="demo", name="gpu"), tx)

    await succeeds(tx, run_id)

    reason = (await why_tasks_wait(await tx.run("demo", run_id), tx))["fit"]
    assert reason == "waits for a slot of pool gpu, which is not there: `millrace pool apply gpu`"
    await pool(tx, 1)
    await clock(tx)
    assert order_of(tx, run_id).name == "fit"


async def test_the_same_pool_applied_again_is_unchanged_and_pools_are_listed_page_by_page(tx: Store) -> None:
    asked = ApplyPool(**ADA, name="gpu", slots=2, rate={"count": 1}, shares={"a": 2})
    found, changed = await apply_pool(asked, tx)
    again, changed_again = await apply_pool(asked, tx)
    for name in ("b", "c"):
        await pool(tx, 1, name)

    assert (changed, changed_again, dict(found)) == (True, False, dict(again))
    assert [row["name"] for row in await tx.shown_pools("demo", "", 2)] == ["b", "c"]
    assert [row["name"] for row in await tx.shown_pools("demo", "c", 2)] == ["gpu"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"slots": -1}, "slots: "),
        ({"slots": 10_001}, "slots: "),
        ({"slots": 1, "name": "GPU"}, "name: "),
        ({"slots": 1, "rate": {"count": 0}}, "rate.count: "),
        ({"slots": 1, "shares": {"a": 0}}, "shares.a: "),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused_with_its_field(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        ApplyPool(**{**ADA, "name": "gpu", **given})


async def test_tasks_without_a_pool_ask_nothing_of_admission(tx: Store) -> None:
    await force(tx, fit={"kind": "training.fit"}, more={"kind": "training.fit", "needs": ["fit"]})
    await tx.fetch("DROP TABLE pool, admission, lease, waiter, flow")

    run_id = await start(tx)
    await succeeds(tx, run_id)
    await succeeds(tx, run_id)

    assert (await tx.run("demo", run_id)).run.state == "succeeded"


async def test_two_who_free_and_ask_at_once_never_take_more_than_there_is(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control"), pool_size=8) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await pool(tx, 3)
            await pool(tx, 2, "cpu")
            await quota(tx, 4)
            await force(tx, fit={**GPU, "weight": 2}, prepare={**GPU, "pool": "cpu"}, last={**GPU, "needs": ["fit"]})
        told: list[TaskDispatched] = []
        done: set[UUID] = set()

        async def some_run() -> None:
            async with begin() as tx:
                await start(tx)
            told.extend(orders(tx))

        async def work() -> None:
            while len(done) < 3 * 12:
                waiting = [order for order in told if order.token not in done]
                done.update(order.token for order in waiting[:1])
                async with begin() as tx:
                    if waiting:
                        await apply_reports([success(waiting[0])], tx)
                    else:
                        await fire_due((await tx.due())[0], tx)
                    rows = await tx.fetch("SELECT pool, sum(weight) AS taken, count(*) AS n FROM lease GROUP BY pool")
                told.extend(orders(tx))
                assert all(row["taken"] <= {"gpu": 3, "cpu": 2}[row["pool"]] for row in rows)
                assert sum(row["n"] for row in rows) <= 4

        async with asyncio.timeout(60):
            await asyncio.gather(*(some_run() for _ in range(12)))
            await asyncio.gather(*(work() for _ in range(4)))
        async with begin() as tx:
            states = [row["state"] for row in await tx.fetch("SELECT state FROM run")]
            assert states == ["succeeded"] * 12
            assert (await leases(tx), await waiting(tx)) == ({}, 0)


async def test_rounds_that_hope_take_slots_give_them_back_and_hand_them_on(postgres: Server, landed: Any) -> None:
    body = {"tasks": {"fit": {**GPU, "input": {"n": {"$from": "/item/each"}}}}}
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await pool(tx, 1)
            await force(tx, each={"foreach": {"items": [0, 1, 2], "concurrency": 3, "do": body}})
            await force(tx, "other")
            await trigger(tx, "landed", strategy="parallel")

        async with begin() as tx:
            await tx.rules()  # of this database, which are known from then on
        told: list[TaskDispatched] = []
        async with begin.hoping() as tx:
            await take_records([landed("e1")], tx)
        told += orders(tx)
        async with begin() as tx:
            waits = await start(tx, "other")
        for done in range(3):
            async with begin.hoping() as tx:
                await apply_reports([success(told[done])], tx)
            told += orders(tx)

        async with begin() as tx:
            assert [order.input["n"] for order in told] == [0, 1, 2], "each in the round that freed the slot"
            assert await leases(tx) == {waits: 1}
            assert (await tx.run("demo", told[0].run_id)).run.state == "succeeded"


async def test_who_starts_a_run_that_ends_another_waits_for_that_before_it_takes_slots(
    postgres: Server, landed: Any
) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await pool(tx, 9)
            await force(tx)
            await trigger(tx, "one", strategy="cancel_in_progress")
            await take_records([landed("e1")], tx)
            (order,) = orders(tx)
            await trigger(tx, "each", strategy="parallel")

        async def take_another() -> None:
            async with begin() as tx:
                await take_records([landed("e2", offset=1)], tx)

        async with begin() as tx:
            await tx.hold_run("demo", order.run_id)
            taking = asyncio.create_task(take_another())
            assert await until(partial(somebody_waits, begin))
            await apply_reports([success(order)], tx)
        await taking

        async with begin() as tx:
            (run_id,) = await leases(tx)
            assert (await tx.run("demo", run_id)).trigger_name == "each"


async def test_the_clock_tells_a_run_of_its_slots_although_somebody_held_it_just_then(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        watch = Clock(begin, 60.0)
        async with begin() as tx:
            await pool(tx, 1)
            await force(tx)
            first, second = await start(tx), await start(tx)
            order = order_of(tx, first)
        async with begin() as tx:
            await apply_reports([success(order)], tx)
        async with begin() as holding:
            await holding.hold_run("demo", second)
            await watch.look()
            looks_again = asyncio.create_task(Store.signals.wait_until_due(60.0))
            async with asyncio.timeout(10):
                await looks_again
        await watch.look()
        async with begin() as tx:
            assert await state(tx, second) == "dispatched"


async def two_namespaces_of_which_triggers_are_due(begin: Transactions[Store], landed: Any) -> list[Turn]:
    """In `b` an event waits whose run begins at once, in `a` a run whose turn has come; both take slots of a pool."""
    async with begin() as tx:
        for namespace in ("a", "b"):
            of = {"namespace": namespace, "principal": "ada"}
            await apply_pool(ApplyPool(**of, name="gpu", slots=9), tx)
            parsed = parse_workflow({"name": "w", "tasks": {"fit": GPU}})
            await apply_workflow(ApplyWorkflow(**of, workflow=parsed), tx)
            made = parse_trigger({"name": "t", "workflow": "w", "source": {"topic": "triggers"}, "strategy": "queue"})
            await apply_trigger(ApplyTrigger(**of, trigger=made), tx)
        await pause_trigger(PauseTrigger(namespace="b", principal="ada", name="t"), tx)
        await take_records([landed(name, namespace="a", offset=n) for n, name in enumerate(("a1", "a2"))], tx)
        await take_records([landed("b1", namespace="b", offset=2)], tx)
        await apply_reports([success(orders(tx)[0])], tx)
        await resume_trigger(ResumeTrigger(namespace="b", principal="ada", name="t"), tx)
    async with begin() as tx:
        turns = (await tx.due())[1]
    assert sorted(turn.namespace for turn in turns) == ["a", "b"]
    return turns


async def test_who_looks_at_triggers_of_two_namespaces_waits_for_their_pools_in_the_order_of_all_others(
    postgres: Server, landed: Any
) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        turns = await two_namespaces_of_which_triggers_are_due(begin, landed)

        async def look() -> None:
            async with begin() as tx:
                await look_at_triggers(turns, tx)

        async with begin() as tx:
            await tx.hold_admissions(["a"])
            looking = asyncio.create_task(look())
            assert await until(partial(somebody_waits, begin))
            await tx.hold_admissions(["b"])
        await looking

        async with begin() as tx:
            assert len(await leases(tx)) == 2
