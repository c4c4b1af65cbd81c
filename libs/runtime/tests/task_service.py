"""A service process that takes tasks, and what it reports: what tests of work have in common."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from millrace.contracts.event import Event, all_events
from millrace.contracts.tasks import TaskCancelled, TaskDispatched, TaskReport
from millrace.runtime.ids import new_id
from millrace.runtime.testing import publish, until
from test_outbox import records

TESTS = Path(__file__).parent


class TaskService:
    """A service process that takes tasks, and what it reports."""

    def __init__(self, name: str, dsn: str, servers: str, folder: Path) -> None:
        self.name = name
        self.servers = servers
        self.folder = folder
        self._arguments = [sys.executable, str(TESTS / "task_process.py"), name, dsn, servers, str(folder)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, instance: int = 0) -> subprocess.Popen[bytes]:
        folders = os.pathsep.join(str(path) for path in (TESTS, *sys.path) if path)
        process = subprocess.Popen([*self._arguments, str(instance)], env=os.environ | {"PYTHONPATH": folders})
        self._processes.append(process)
        return process

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)

    def order(self, mark: str, kind: str = "x.compute", then: str = "succeed", **changes: Any) -> TaskDispatched:
        fields = {
            "namespace": "demo",
            "queue": self.name,
            "task_id": new_id(),
            "attempt": 1,
            "token": new_id(),
            "kind": kind,
            "input": {"folder": str(self.folder), "mark": mark, "then": then},
            "run_id": new_id(),
            "workflow": "w",
            "name": "step",
            "principal": "dev",
            "deadline": datetime.now(UTC) + timedelta(minutes=5),
        }
        return TaskDispatched(**(fields | changes))

    async def publish(self, *orders: Event, times: int = 1) -> None:
        await publish(self.servers, orders, times=times)

    async def reports(self, task_id: UUID) -> list[TaskReport]:
        """Return what was reported of a task so far, by attempt and in order, duplicates of the relay left out."""
        seen: dict[str, TaskReport] = {}
        for record in await records(self.servers, f"{self.name}.tasks", str(task_id)):
            headers = {name: value.decode() for name, value in record.headers}
            seen[headers["ce_id"]] = all_events()[headers["ce_type"]].model_validate_json(record.value)
        return sorted(seen.values(), key=lambda report: report.attempt)

    async def began(self, task_id: UUID) -> bool:
        """Return whether it was told that a task has begun."""
        return bool(await self.reports(task_id))

    async def ends(self, task_ids: Sequence[UUID]) -> list[TaskReport]:
        """Return the reports that end some tasks, once all have ended."""
        wanted = set(map(str, task_ids))

        async def all_of_them() -> list[TaskReport]:
            found = await records(self.servers, f"{self.name}.tasks", "")
            said = [({n: v.decode() for n, v in one.headers}, one) for one in found]
            ends = {
                headers["ce_id"]: all_events()[headers["ce_type"]].model_validate_json(one.value)
                for headers, one in said
                if headers["ce_type"].endswith(("TaskSucceeded", "TaskFailed")) and one.key.decode() in wanted
            }
            return list(ends.values()) if len(ends) >= len(wanted) else []

        return await until(all_of_them, seconds=60)

    @staticmethod
    def cancel(order: TaskDispatched) -> TaskCancelled:
        """Return the order to stop an attempt."""
        same = ("namespace", "queue", "task_id", "attempt", "token")
        return TaskCancelled(**{name: getattr(order, name) for name in same})

    async def ended(self, task_id: UUID, count: int = 1) -> list[TaskReport]:
        """Return the reports that end attempts of a task, once there are so many."""

        async def enough() -> list[TaskReport]:
            ends = [r for r in await self.reports(task_id) if type(r).__name__ in ("TaskSucceeded", "TaskFailed")]
            return ends if len(ends) >= count else []

        found: list[TaskReport] = await until(enough, seconds=60)
        return found


def exists(file: Path) -> Callable[[], Any]:
    async def there() -> bool:
        return file.exists()

    return there
