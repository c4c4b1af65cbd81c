"""What is said of the tasks of teams' queues is read by whoever follows them, soon after a queue is there."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from millrace.contracts.tasks import TaskReport, TaskStarted
from millrace.runtime.consume import Consumer, Readers
from millrace.runtime.database import Transactions
from millrace.runtime.ids import new_id
from millrace.runtime.subscriptions import Subscription, on_batch
from millrace.runtime.testing import create_topics, publish, until
from runtime_effects import ORDER, Effects, count_is, effects, settings_of


async def note(reports: Sequence[TaskReport], tx: Effects) -> None:
    for report in reports:
        tx.add(f"{report.service} {report.name}")


def reports_of(queue: str) -> tuple[Subscription, ...]:
    return (on_batch(TaskReport, note, topics=[f"{queue}.tasks"], start="earliest"),)


def started(queue: str, name: str) -> TaskStarted:
    about = {field: getattr(ORDER, field) for field in ("namespace", "attempt", "token", "run_id", "kind", "workflow")}
    return TaskStarted(**about, service=queue, name=name, task_id=new_id())


def test_a_queue_is_taken_up_once_when_both_of_its_topics_are_there() -> None:
    readers, taken = Readers(), list[str]()

    def rows(queue: str) -> tuple[Subscription, ...]:
        taken.append(queue)
        return reports_of(queue)

    assert not readers.follows
    readers.follow_queues(rows)
    readers.saw({"acme.tasks", "data.tasks", "control.tasks.data"})
    assert readers.own() == frozenset()
    for _ in range(2):
        readers.saw({"acme.tasks", "control.tasks.acme"})

    assert (readers.follows, taken, readers.own()) == (True, ["acme"], {"acme.tasks"})


async def test_a_queue_that_is_made_later_is_read_from_its_start_and_a_topic_of_nobodys_queue_never(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    before, later, nobodys = (f"{name}{uuid4().hex[:6]}" for name in ("before", "later", "nobodys"))
    await create_topics(broker.servers, {f"control.tasks.{before}": 1, f"{before}.tasks": 1, f"{nobodys}.tasks": 1})
    await publish(broker.servers, [started(before, "one"), started(nobodys, "one")])
    readers = Readers()
    readers.subscribe(*reports_of("data"))
    readers.follow_queues(reports_of)
    consumer = Consumer(
        service_name, settings_of(begin.database._dsn, broker.servers, tmp_path), begin, readers=readers
    )
    running = asyncio.create_task(consumer.run())
    try:
        assert await until(count_is(begin, before, 1))
        await create_topics(broker.servers, {f"control.tasks.{later}": 1, f"{later}.tasks": 1})
        await publish(broker.servers, [started(later, "one"), started(before, "two")])
        assert await until(count_is(begin, later, 1))
        assert await until(count_is(begin, before, 2))
    finally:
        consumer.stop()
        await asyncio.wait_for(running, 20)

    assert await effects(begin, before) == [f"{before} one", f"{before} two"]
    assert await effects(begin, nobodys) == []
