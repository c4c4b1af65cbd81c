"""A team's app of FastStream does each order once, says that it begins when it does, and hears of cancels at once."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faststream.kafka import KafkaBroker
from millrace.contracts.event import all_events
from millrace.contracts.tasks import TaskCancelled, TaskDispatched, TaskReport
from millrace.runtime.ids import new_id
from millrace.runtime.testing import create_topics, publish, until
from millrace.sdk.faststream import TaskRouter

TASKS = """
import time
from pathlib import Path
from millrace.sdk.flows import task

@task("{queue}.mark")
async def mark(folder, name):
    with Path(folder, name).open("a") as marks:
        marks.write("done ")

@task("{queue}.hang")
def hang(folder, name):
    Path(folder, name).touch()
    time.sleep(600)
"""


class App:
    """An app that does the tasks of a queue, of which one at a time may compute."""

    def __init__(self, queue: str, servers: str, folder: Path) -> None:
        self.queue, self.servers, self.folder = queue, servers, folder

    def order(self, verb: str, name: str) -> TaskDispatched:
        return TaskDispatched(
            namespace="demo",
            queue=self.queue,
            task_id=new_id(),
            attempt=1,
            token=new_id(),
            kind=f"{self.queue}.{verb}",
            input={"folder": str(self.folder), "name": name},
            run_id=new_id(),
            workflow="w",
            name=name,
            principal="dev",
            deadline=datetime.now(UTC) + timedelta(minutes=5),
        )

    def cancel(self, order: TaskDispatched) -> TaskCancelled:
        same = ("namespace", "queue", "task_id", "attempt", "token")
        return TaskCancelled(**{name: getattr(order, name) for name in same})

    async def reports(self, task_id: UUID) -> list[str]:
        """Return what was said of a task so far: that it began, and how it ended."""
        place, found = TopicPartition(f"{self.queue}.tasks", 0), []
        async with AIOKafkaConsumer(bootstrap_servers=self.servers, auto_offset_reset="earliest") as reader:
            reader.assign([place])
            end = (await reader.end_offsets([place]))[place]
            while await reader.position(place) < end:
                for some in (await reader.getmany(place, timeout_ms=500)).values():
                    found += some
        said = [_said(record) for record in found if record.key == str(task_id).encode()]
        return [one for one in said if one != "TaskProgressed"]  # which is said now and then


def _said(record: Any) -> str:
    report: TaskReport = all_events()[dict(record.headers)["ce_type"].decode()].model_validate_json(record.value)
    return " ".join((type(report).__name__, *([report.error] if hasattr(report, "error") else [])))


@pytest.fixture
async def app(broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    queue = f"q{uuid4().hex[:8]}"
    await create_topics(broker.servers, {f"control.tasks.{queue}": 1, f"{queue}.tasks": 1})
    (tmp_path / f"{queue}_tasks.py").write_text(TASKS.format(queue=queue))
    monkeypatch.syspath_prepend(tmp_path)
    router = TaskRouter(queue, f"{queue}_tasks", at_once=1)
    async with KafkaBroker(broker.servers) as made:
        made.include_router(router)
        await made.start()
        yield App(queue, broker.servers, tmp_path)
        await router.leave()


async def test_an_order_that_is_sent_again_after_its_end_is_not_done_again(app: App) -> None:
    first, last = app.order("mark", "first"), app.order("mark", "last")

    await publish(app.servers, [first], times=1)
    await until(lambda: _ends_with(app, first, "TaskSucceeded"))
    await publish(app.servers, [first, last])
    await until(lambda: _ends_with(app, last, "TaskSucceeded"))

    assert (app.folder / "first").read_text() == "done "
    assert await app.reports(first.task_id) == ["TaskStarted", "TaskSucceeded"]


async def test_an_order_begins_when_there_is_a_place_and_a_cancel_overtakes_those_that_wait(app: App) -> None:
    runs, waits, unwanted = (app.order("hang", name) for name in ("runs", "waits", "unwanted"))
    await publish(app.servers, [runs, waits, unwanted])
    await until(lambda: _is_there(app.folder / "runs"))
    assert await app.reports(waits.task_id) == []

    await publish(app.servers, [app.cancel(unwanted), app.cancel(runs)])
    await until(lambda: _is_there(app.folder / "waits"))
    assert await app.reports(runs.task_id) == ["TaskStarted", "TaskFailed cancelled"]
    assert await app.reports(waits.task_id) == ["TaskStarted"]

    await publish(app.servers, [app.cancel(waits)])
    await until(lambda: _ends_with(app, unwanted, "TaskFailed cancelled"))
    assert await app.reports(unwanted.task_id) == ["TaskFailed cancelled"]
    assert not (app.folder / "unwanted").exists()


async def _ends_with(app: App, order: TaskDispatched, said: str) -> bool:
    return (await app.reports(order.task_id))[-1:] == [said]


async def _is_there(file: Path) -> bool:
    return file.exists()
