"""What an attempt leaves to the next one survives its worker, and what it has started does not."""

import asyncio
import signal

import psutil
import pytest
from millrace.contracts.tasks import Carried, TaskDispatched, TaskFailed, TaskProgressed
from millrace.runtime.ids import new_id
from millrace.runtime.testing import until
from task_service import TaskService, exists


def again(order: TaskDispatched) -> TaskDispatched:
    """Return the next attempt, as control says it that has heard nothing of what was left."""
    return order.model_copy(update={"attempt": order.attempt + 1, "token": new_id()})


@pytest.mark.parametrize("kind", ["x.carry", "x.carry_waiting"])
async def test_m5_a_worker_killed_after_it_began_an_outside_job_leaves_it_to_the_next_attempt(
    kind: str, tasks: TaskService
) -> None:
    process = tasks.start()
    order = tasks.order("a", kind=kind, then="hang")
    await tasks.publish(order)
    await until(exists(tasks.folder / "a.pid"))

    process.kill()
    process.wait(10)
    tasks.start()
    (lost,) = await tasks.ended(order.task_id)
    await tasks.publish(again(order))
    _, success = await tasks.ended(order.task_id, 2)

    assert isinstance(lost, TaskFailed)
    assert (lost.error, lost.carried) == ("lost", Carried(external_ref="job-a", checkpoint={"epoch": 1}))
    assert success.output["mark"] == "job-a from 1"


async def test_what_was_begun_elsewhere_is_told_at_once(tasks: TaskService) -> None:
    tasks.start()
    order = tasks.order("a", kind="x.carry_waiting", then="hang")

    await tasks.publish(order)

    async def told() -> list[TaskProgressed]:
        return [r for r in await tasks.reports(order.task_id) if isinstance(r, TaskProgressed)]

    (report, *_) = await until(told)
    assert report.carried == Carried(external_ref="job-a")


@pytest.mark.parametrize("kind", ["x.carry", "x.carry_waiting"])
async def test_work_that_is_told_to_go_keeps_how_far_it_is_and_is_reported_as_preempted(
    kind: str, tasks: TaskService
) -> None:
    process = tasks.start()
    order = tasks.order("a", kind=kind)
    await tasks.publish(order)
    await until(exists(tasks.folder / "a.pid"))

    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    (end,) = await tasks.ended(order.task_id)

    assert isinstance(end, TaskFailed)
    assert (end.error, end.retryable) == ("preempted", True)
    assert end.carried == Carried(external_ref="job-a", checkpoint={"epoch": 2})


async def test_work_that_does_not_heed_the_notice_is_killed_and_reported_as_preempted(tasks: TaskService) -> None:
    process = tasks.start()
    order, unbegun = tasks.order("a", then="hang", kind="x.carry"), tasks.order("b", then="hang")
    others = [tasks.order(f"o{n}", then="hang") for n in range(3)]
    await tasks.publish(order)
    await until(exists(tasks.folder / "a.pid"))
    await tasks.publish(*others, unbegun)

    async def second_slot_is_taken() -> bool:
        return any([await tasks.began(one.task_id) for one in (*others, unbegun)])

    await until(second_slot_is_taken)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    (end,) = await tasks.ended(order.task_id)
    (back,) = await tasks.ended(unbegun.task_id)

    assert isinstance(end, TaskFailed)
    assert isinstance(back, TaskFailed)
    assert {end.error, back.error} == {"preempted"}
    assert end.carried == Carried(external_ref="job-a", checkpoint={"epoch": 1})


@pytest.mark.parametrize("how", ["kill", "cancel"])
async def test_r3_what_a_task_has_started_dies_with_its_worker_and_with_it(how: str, tasks: TaskService) -> None:
    worker = tasks.start()
    order = tasks.order("a", kind="x.carry", then="hang")
    await tasks.publish(order)
    await until(exists(tasks.folder / "a.pid"))
    child, grandchild = map(int, (tasks.folder / "a.pid").read_text().split())

    if how == "kill":
        worker.kill()
        worker.wait(10)
    else:
        await tasks.publish(tasks.cancel(order))

    async def gone() -> bool:
        return not (psutil.pid_exists(child) or psutil.pid_exists(grandchild))

    assert await until(gone)


@pytest.mark.parametrize("kind", ["x.carry", "x.start"])
async def test_r3_what_is_frozen_or_in_a_session_of_its_own_dies_with_a_killed_worker_too(
    kind: str, tasks: TaskService
) -> None:
    worker = tasks.start()
    await tasks.publish(tasks.order("a", kind=kind, then="hang"))
    await until(exists(tasks.folder / "a.pid"))
    started = [psutil.Process(int(pid)) for pid in (tasks.folder / "a.pid").read_text().split()]
    for process in started:
        process.suspend()

    worker.kill()
    worker.wait(10)

    async def gone() -> bool:
        return not any(process.is_running() for process in started)

    assert await until(gone)


async def test_500_tasks_that_wait_take_no_thread_and_little_memory_each(tasks: TaskService) -> None:
    process = psutil.Process(tasks.start().pid)
    first, *rest = (tasks.order(f"m{n}", kind="x.wait", then="wait") for n in range(500))
    await tasks.publish(first)
    await until(lambda: tasks.began(first.task_id))
    threads, memory = process.num_threads(), process.memory_info().rss

    await tasks.publish(*rest)
    await until(lambda: tasks.began(rest[-1].task_id))
    more, grown = process.num_threads() - threads, process.memory_info().rss - memory
    (tasks.folder / "released").touch()
    ends = await tasks.ends([order.task_id for order in (first, *rest)])

    assert more <= 2
    assert grown < 500 * 100 * 1024, f"{grown / 500:.0f} bytes a task"
    assert {type(end).__name__ for end in ends} == {"TaskSucceeded"}
