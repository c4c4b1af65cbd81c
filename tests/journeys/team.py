"""A team with a queue of its own, whose worker is a process, beside control."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from millrace.contracts.rpc.control.v1.control_pb2 import Run
from millrace.runtime.client import FixedToken
from millrace.runtime.errors import InvalidInput
from millrace.runtime.testing import Server, fresh_database, until
from millrace.runtime.testing.process import Deployment, deployed
from millrace.sdk.client import Client
from millrace.sdk.connection import Connection

PAGE = (Path(__file__).resolve().parents[2] / "docs/workers.md").read_text()
TASKS = """
import asyncio
import os
import time
from pathlib import Path

from urllib.request import Request, urlopen

from millrace.sdk.flows import task
from millrace.sdk.work import attempt, checkpoint, external_ref, progress


@task("{queue}.slow")
def slow(marks):
    Path(marks, f"began-{{attempt().number}}").write_text(str(os.getpid()))
    progress(0.5, "half way")
    if attempt().number == 1:
        time.sleep(600)
    with Path(marks, "done").open("a") as done:
        done.write(f"{{attempt().number}}\\n")
    return {{"attempt": attempt().number}}


@task("{queue}.wave")
async def wave(name):
    await asyncio.sleep(0)
    return {{"waved": f"at {{name}}", "process": os.getpid()}}


@task("{queue}.outside")
def outside(server):
    job = attempt().last_external_ref
    if not job:
        with urlopen(Request(server + "/jobs", method="POST")) as answer:
            job = answer.read().decode()
        external_ref(job)
    while True:
        with urlopen(server + "/jobs/" + job) as answer:
            if answer.read() == b"done":
                return {{"job": job, "attempt": attempt().number}}
        time.sleep(0.05)


@task("{queue}.count")
async def count(marks, to):
    at = attempt().last_checkpoint or 0
    while at < to:
        at += 1
        with Path(marks, "counted").open("a") as counted:
            counted.write(str(at) + " ")
        await checkpoint(at)
        await asyncio.sleep(0 if Path(marks, "hurry").exists() else 0.1)
    return {{"attempt": attempt().number}}


@task("{queue}.rows")
def rows(n):
    return {{"n": n, "table": ["x" * 1000] * n, "memory": attempt().resources["memory_bytes"]}}


@task("{queue}.length")
async def length(table):
    return {{"n": len(table)}}


@task("{queue}.fail")
def fail():
    raise LookupError("secret")


@task("other.kind")
def other():
    pass
"""


class Team:
    """A team with a queue of its own, whose worker is a process."""

    def __init__(self, deployment: Deployment, dsn: str, folder: Path, how: str) -> None:
        self.transport: Literal["kafka", "grpc"] = "grpc" if how == "grpc" else "kafka"
        self._how, self._control = how, deployment.services["control"].target
        self.queue = f"q{uuid4().hex[:8]}"
        self.folder = folder
        self.client = Client(self._connection(deployment), namespace="demo")
        shared = deployment.settings["control"]
        names = ("KAFKA_SERVERS", "ARTIFACTS_URL", "AUTH_JWKS", "AUTH_GRANTS", "ENDPOINTS", "TOKEN_FILE")
        self._environment = {"MILLRACE_TOKEN": deployment.authority.token("dev")}
        self._environment["WORKER_ARTIFACTS_URL"] = shared["ARTIFACTS_URL"]
        if how == "kafka":
            self._environment |= {f"WORKER_{name}": shared[name] for name in names}
            self._environment |= {"WORKER_POSTGRES_DSN": dsn, "MILLRACE_ENDPOINTS": shared["ENDPOINTS"]}
        package = folder / "acme"
        package.mkdir()
        (package / "__init__.py").touch()
        (text,) = re.findall(r"```python\n# acme/tasks.py\n(.*?)```", PAGE, re.DOTALL)
        (package / "page.py").write_text(text.replace("acme.", f"{self.queue}."))
        (package / "__main__.py").write_text("raise SystemExit('it was run')")
        (package / "tasks.py").write_text(TASKS.format(queue=self.queue))
        (app,) = re.findall(r"```python\n# app.py\n(.*?)```", PAGE, re.DOTALL)
        for page, ours in (('"acme"', f'"{self.queue}"'), ("kafka.example:9092", shared["KAFKA_SERVERS"])):
            app = app.replace(page, ours)
        (folder / "app.py").write_text(app.replace("acme.tasks", "acme"))
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def process(self) -> subprocess.Popen[str]:
        """The worker that was started last."""
        return self.processes[-1]

    def start(self) -> None:
        """Start a worker, another one than that which was started last."""
        command = [str(Path(sys.executable).parent / "millrace"), "worker", "--queue", self.queue, "acme", "-n", "demo"]
        command += ["--grpc", self._control] if self._how == "grpc" else []
        if self._how == "faststream":
            command = [sys.executable, "app.py"]
        with (self.folder / "worker.log").open("a") as log:
            made = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | self._environment, stdout=log, stderr=log, text=True
            )
        self.processes.append(made)

    def kill(self) -> None:
        """End the worker that was started last as by `kill -9`."""
        self.process.kill()
        self.process.wait(10)

    async def live(self) -> None:
        """Have the queue, and return once its topics are there."""
        await self.client.apply_queue(self.queue, self.transport)

        async def there() -> bool:
            return [one.live for one in await self.client.queues()] == [True]

        await until(there, seconds=30)

    async def run(self, workflow: dict[str, Any], data: Any = None) -> str:
        """Start a run of a workflow as soon as the queue is live; return its id."""
        document = json.dumps({**workflow, "name": f"w-{uuid4().hex[:8]}"})

        async def applied() -> bool:
            try:
                await self.client.apply_workflow(document)
            except InvalidInput as error:
                assert "there is no queue" in str(error)  # noqa: PT017 - until it is live
                return False
            return True

        assert await until(applied, seconds=30), (self.folder / "worker.log").read_text()
        return (await self.client.start_run(json.loads(document)["name"], data)).run_id

    async def ended(self, run_id: str) -> Run:
        async with asyncio.timeout(60):
            return [run async for run in self.client.watch_run(run_id)][-1]

    @staticmethod
    def _connection(deployment: Deployment) -> Connection:
        endpoints = {name: process.target for name, process in deployment.services.items()}
        return Connection(endpoints, FixedToken(deployment.authority.token("dev")))


@asynccontextmanager
async def team_of(
    postgres: Server, servers: str, folder: Path, how: str, *, beside: Sequence[str] = ()
) -> AsyncIterator[Team]:
    """Run control, and a team beside it, until the block ends.

    Args:
        postgres: The tests' PostgreSQL.
        servers: The tests' Kafka.
        folder: The team's.
        how: What its workers are: `kafka`, `grpc`, or `faststream` for apps of that.
        beside: Services that run beside control.
    """
    async with deployed(("control", *beside), postgres, servers, folder) as deployment:
        made = Team(deployment, await fresh_database(postgres, "worker"), folder, how)
        try:
            async with made.client:
                if how == "faststream":
                    await made.live()
                yield made
        finally:
            for process in made.processes:
                process.kill()
                process.wait(10)


def work(kind: str, **more: Any) -> dict[str, Any]:
    """Return a task that is tried once, and again only when its worker is lost."""
    return {"kind": kind, "retries": {"backoff_s": 0, "max_attempts": 1}, "heartbeat_timeout_s": 15, **more}


async def is_there(file: Path) -> bool:
    """Return whether a file has something in it."""
    return file.exists() and bool(file.read_text())


async def is_gone(file: Path) -> bool:
    """Return whether a file is not there."""
    return not file.exists()
