"""A team's own worker, `millrace worker`, beside control, over a real broker and a real PostgreSQL."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
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

from millrace.sdk.flows import task
from millrace.sdk.work import attempt, progress


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


@task("{queue}.rows")
def rows(n):
    return {{"n": n, "table": ["x" * 1000] * n, "memory": attempt().resources["memory_bytes"]}}


@task("{queue}.count")
async def count(table):
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

    def __init__(self, deployment: Deployment, dsn: str, folder: Path) -> None:
        self.queue = f"q{uuid4().hex[:8]}"
        self.folder = folder
        self.client = Client(self._connection(deployment), namespace="demo")
        shared = deployment.settings["control"]
        names = ("KAFKA_SERVERS", "ARTIFACTS_URL", "AUTH_JWKS", "AUTH_GRANTS", "ENDPOINTS", "TOKEN_FILE")
        self._environment = {f"WORKER_{name}": shared[name] for name in names} | {
            "WORKER_POSTGRES_DSN": dsn,
            "MILLRACE_ENDPOINTS": shared["ENDPOINTS"],
            "MILLRACE_TOKEN": deployment.authority.token("dev"),
        }
        package = folder / "acme"
        package.mkdir()
        (package / "__init__.py").touch()
        (text,) = re.findall(r"```python\n# acme/tasks.py\n(.*?)```", PAGE, re.DOTALL)
        (package / "page.py").write_text(text.replace("acme.", f"{self.queue}."))
        (package / "__main__.py").write_text("raise SystemExit('it was run')")
        (package / "tasks.py").write_text(TASKS.format(queue=self.queue))
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "millrace"), "worker", "--queue", self.queue, "acme", "-n", "demo"]
        with (self.folder / "worker.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | self._environment, stdout=log, stderr=log, text=True
            )

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


@pytest.fixture
async def team(postgres: Server, broker: Any, tmp_path: Path) -> AsyncIterator[Team]:
    async with deployed(("control",), postgres, broker.servers, tmp_path) as deployment:
        made = Team(deployment, await fresh_database(postgres, "worker"), tmp_path)
        try:
            async with made.client:
                yield made
        finally:
            if made.process is not None:
                made.process.kill()
                made.process.wait(10)


def work(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "retries": {"backoff_s": 0, "max_attempts": 1}, **more}


async def test_a_teams_functions_are_done_by_its_own_worker(team: Team) -> None:
    team.start()
    tasks = {
        "wave": work(f"{team.queue}.wave", input={"name": "ada"}),
        "wrong": work(f"{team.queue}.wave", input={"who": "ada"}, run_if="settled", needs=["wave"]),
        "fail": work(f"{team.queue}.fail", run_if="settled", needs=["wrong"]),
        "last": work(f"{team.queue}.nothing", run_if="settled", needs=["fail"]),
    }

    run = await team.ended(await team.run({"tasks": tasks}))

    assert team.process is not None
    wave, wrong, fail, last = run.tasks
    assert json.loads(wave.output_json) == {"waved": "at ada", "process": team.process.pid}
    assert wrong.error.startswith("InvalidInput: wave(): missing a required argument: 'name'")
    assert fail.error == "LookupError: internal error; the service's log has more"
    assert f"{team.queue} has no task {team.queue}.nothing: it has" in last.error
    text = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0].replace("acme.", f"{team.queue}.")
    example = await team.ended(await team.run(yaml.safe_load(text), {"name": "ada"}))
    assert json.loads(example.output_json) == {"said": "hello ada"}
    (queue,) = await team.client.queues()
    assert (queue.name, queue.principal, queue.live) == (team.queue, "dev", True)


async def test_a_queue_is_live_within_2_s_and_once_however_often_it_is_asked_for(team: Team) -> None:
    asked = await asyncio.gather(*(team.client.apply_queue(team.queue) for _ in range(3)))

    async def live() -> bool:
        return [one.live for one in await team.client.queues()] == [True]

    assert await until(live, seconds=2)
    assert {one.name for one in asked} == {team.queue}


async def test_the_task_of_a_killed_worker_is_done_again_and_has_its_effect_once(team: Team) -> None:
    team.start()
    task = work(f"{team.queue}.slow", input={"marks": str(team.folder)})
    run_id = await team.run({"tasks": {"slow": task}})
    await until(lambda: _is_there(team.folder / "began-1"), seconds=30)
    computing = int((team.folder / "began-1").read_text())

    assert team.process is not None
    team.process.kill()
    team.process.wait(10)
    team.start()
    run = await team.ended(run_id)

    assert (run.state, run.tasks[0].attempts) == ("succeeded", 2)
    assert json.loads(run.tasks[0].output_json) == {"attempt": 2}
    assert (team.folder / "done").read_text() == "2\n"
    assert not Path(f"/proc/{computing}").exists(), "what it computed with ended with it"


async def test_a_cancelled_task_is_killed_and_a_stopped_worker_leaves_in_order(team: Team) -> None:
    team.start()
    task = work(f"{team.queue}.slow", input={"marks": str(team.folder)})
    run_id = await team.run({"tasks": {"slow": task}})
    await until(lambda: _is_there(team.folder / "began-1"), seconds=30)
    computing = int((team.folder / "began-1").read_text())

    await team.client.cancel_run(run_id, "not today")
    run = await team.ended(run_id)
    assert team.process is not None
    team.process.send_signal(signal.SIGTERM)

    assert (run.state, run.tasks[0].state) == ("cancelled", "cancelled")
    assert await until(lambda: _is_gone(Path(f"/proc/{computing}")), seconds=10)
    assert team.process.wait(30) == 0


async def test_l4_a_large_value_goes_from_function_to_function_and_is_taken_from_the_cache_later(team: Team) -> None:
    team.start()
    made = {"input": {"n": 300}, "cache": {"version": "1"}, "resources": {"memory": "1Gi"}}
    tasks = {
        "rows": work(f"{team.queue}.rows", **made),
        "small": work(f"{team.queue}.wave", needs=["rows"], input={"name": "ada"}, when="outputs.rows.n == 300"),
        "count": work(f"{team.queue}.count", needs=["rows"], input={"table": {"$from": "/tasks/rows/output/table"}}),
    }

    first, second = [
        await team.ended(await team.run({"tasks": tasks, "output": {"$from": "/tasks/count/output"}})) for _ in range(2)
    ]

    for run in (first, second):
        assert (run.state, json.loads(run.output_json)) == ("succeeded", {"n": 300}), run
        output = json.loads(run.tasks[0].output_json)
        assert (output["n"], output["memory"], output["table"].keys()) == (300, 1024**3, {"$artifact", "$bytes"})
        assert run.tasks[1].state == "succeeded"
    found = [json.loads(run.tasks[0].cache_json)["found"] for run in (first, second)]
    assert (found, [run.tasks[0].attempts for run in (first, second)]) == (["miss", "hit"], [1, 0])


async def _is_there(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


async def _is_gone(file: Path) -> bool:
    return not file.exists()
