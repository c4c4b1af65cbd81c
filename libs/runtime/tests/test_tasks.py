"""What a service promises of work: accepted once, done at least once, finished once, and never silently lost."""

import asyncio
from typing import Any

import asyncpg
import psutil
import pytest
from millrace.runtime.database import CHANNEL, Transactions
from millrace.runtime.ids import new_id
from millrace.runtime.testing import create_topics, until
from runtime_effects import Effects
from task_service import TaskService, exists
from test_outbox import PARTITIONS, records


async def kept(begin: Transactions[Effects]) -> list[str]:
    async with begin() as tx:
        return [name for name in await tx.names() if name.startswith("kept")]


async def test_a_task_is_done_once_however_often_it_is_dispatched_and_says_what_it_made(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    tasks.start()
    order, other = tasks.order("a"), tasks.order("b", kind="x.wait")

    await tasks.publish(order, other, times=3)
    (success,) = await tasks.ended(order.task_id)
    await tasks.ended(other.task_id)

    assert success.output["mark"] == "a"
    assert (success.token, success.attempt, success.run_id) == (order.token, 1, order.run_id)
    assert success.cpu_s > 0
    assert sorted(await kept(begin)) == ["kept a", "kept b"]
    (lineage,) = await records(tasks.servers, f"{tasks.name}.lineage", str(order.task_id))
    assert b"data.version:a" in lineage.value


@pytest.mark.parametrize(
    ("change", "error", "message", "retryable"),
    [
        (
            {"kind": "x.unknown"},
            "InvalidInput",
            "has no task x.unknown: it has x.carry, x.carry_waiting, x.compute",
            False,
        ),
        ({"input": {"mark": "m"}}, "InvalidInput", "x.compute: folder: Field required", False),
        ({"then": "refuse"}, "InvalidInput", "this can never be", False),
        ({"then": "stumble"}, "ZeroDivisionError", "internal error; the service's log has more", True),
        ({"mark": "conflict"}, "Conflict", "not now", True),
    ],
)
async def test_a_task_that_fails_says_why_and_whether_to_try_again(
    change: dict[str, Any], error: str, message: str, retryable: bool, tasks: TaskService, begin: Transactions[Effects]
) -> None:
    tasks.start()
    order = tasks.order(**({"mark": "m"} | change))

    await tasks.publish(order)
    (failure,) = await tasks.ended(order.task_id)

    assert failure.error == error
    assert message in failure.message
    assert failure.retryable is retryable
    assert await kept(begin) == []


async def test_a_worker_killed_in_its_work_reports_it_lost_and_another_attempt_gives_one_result(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    process = tasks.start()
    order = tasks.order("a", then="hang")
    await tasks.publish(order)
    marker = tasks.folder / "a.1.pid"
    await until(exists(marker))
    child = int(marker.read_text())

    process.kill()
    process.wait(10)

    async def child_is_gone() -> bool:
        return not psutil.pid_exists(child)

    await until(child_is_gone)
    (tasks.folder / "released").touch()
    tasks.start()
    (lost,) = await tasks.ended(order.task_id)
    await tasks.publish(order.model_copy(update={"attempt": 2, "token": new_id()}))
    _, success = await tasks.ended(order.task_id, 2)

    assert (lost.error, lost.attempt, lost.retryable) == ("lost", 1, True)
    assert (success.attempt, success.output["mark"]) == (2, "a")
    assert await kept(begin) == ["kept a"]


async def test_whoever_relays_is_told_at_once_of_what_computing_work_emits(tasks: TaskService, dsn: str) -> None:
    await create_topics(tasks.servers, {"feature.views": PARTITIONS})
    listener, told = await asyncpg.connect(dsn), asyncio.Event()
    await listener.add_listener(CHANNEL, lambda *_: told.set())
    tasks.start()
    order = tasks.order(tasks.name, then="tell")
    await tasks.publish(order)

    async with asyncio.timeout(60):
        await told.wait()
    await listener.close()

    await tasks.ended(order.task_id)
    assert len(await records(tasks.servers, "feature.views", tasks.name)) == 1


async def test_a_lapsed_lease_is_reported_by_another_replica_and_its_late_result_refused(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    frozen = psutil.Process(tasks.start().pid)
    order = tasks.order("a", kind="x.wait", then="wait", heartbeat_timeout_s=4.0)
    await tasks.publish(order)

    async def leased() -> Any:
        async with begin() as tx:
            return await tx.fetch("SELECT 1 FROM job WHERE state = 'leased'")

    await until(leased)
    frozen.suspend()
    tasks.start(instance=1)
    (lost,) = await tasks.ended(order.task_id)
    (tasks.folder / "released").touch()
    frozen.resume()

    again = order.model_copy(update={"attempt": 2, "token": new_id()})
    await tasks.publish(again)
    ends = await tasks.ended(order.task_id, 2)

    assert lost.error == "lost"
    assert [(end.attempt, type(end).__name__) for end in ends] == [(1, "TaskFailed"), (2, "TaskSucceeded")]
    assert await kept(begin) == ["kept a"]


async def test_a_cancelled_task_is_killed_and_says_so(tasks: TaskService, begin: Transactions[Effects]) -> None:
    tasks.start()
    order = tasks.order("a", then="hang")
    await tasks.publish(order)
    marker = tasks.folder / "a.1.pid"
    await until(exists(marker))

    await tasks.publish(tasks.cancel(order))
    (end,) = await tasks.ended(order.task_id)

    async def child_is_gone() -> bool:
        return not psutil.pid_exists(int(marker.read_text()))

    await until(child_is_gone)
    assert (end.error, end.retryable) == ("cancelled", False)
    assert await kept(begin) == []


async def test_a_cancel_that_comes_first_keeps_the_task_from_being_done(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    order = tasks.order("a")
    await tasks.publish(tasks.cancel(order), order)

    tasks.start()
    (end,) = await tasks.ended(order.task_id)

    assert end.error == "cancelled"
    assert await kept(begin) == []


async def test_a_cancel_with_a_stale_token_is_not_obeyed(tasks: TaskService, begin: Transactions[Effects]) -> None:
    tasks.start()
    order = tasks.order("a", kind="x.wait", then="wait")
    await tasks.publish(order, tasks.cancel(order).model_copy(update={"token": new_id()}))
    probe = tasks.order("b", kind="x.wait", task_id=order.task_id, attempt=2)
    await tasks.publish(probe)
    await tasks.ended(order.task_id)
    (tasks.folder / "released").touch()

    ends = await tasks.ended(order.task_id, 2)

    assert {type(end).__name__ for end in ends} == {"TaskSucceeded"}
    assert sorted(await kept(begin)) == ["kept a", "kept b"]


async def test_work_in_progress_does_not_keep_others_from_finishing(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    tasks.start()
    slow = tasks.order("slow", kind="x.wait", then="wait")
    quick = [tasks.order(f"quick{n}", kind="x.wait") for n in range(20)]

    await tasks.publish(slow, *quick)
    await asyncio.gather(*(tasks.ended(order.task_id) for order in quick))
    assert len(await kept(begin)) == 20
    (tasks.folder / "released").touch()
    await tasks.ended(slow.task_id)

    assert "kept slow" in await kept(begin)


async def test_work_that_waits_for_a_slot_has_not_started(tasks: TaskService) -> None:
    tasks.start()
    first, second, third = (tasks.order(mark, then="hang") for mark in ("a", "b", "c"))

    await tasks.publish(first)
    await until(exists(tasks.folder / "a.1.pid"))
    await tasks.publish(second)
    await until(exists(tasks.folder / "b.1.pid"))
    await tasks.publish(third)

    async def is_told_of_twice() -> bool:
        return len(await tasks.reports(second.task_id)) == 2

    await until(is_told_of_twice)
    assert [type(report).__name__ for report in await tasks.reports(second.task_id)] == [
        "TaskStarted",
        "TaskProgressed",
    ]
    assert await tasks.reports(third.task_id) == []
