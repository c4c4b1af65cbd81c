"""A team's own worker beside control: the same over Kafka, by leases, and in an app of FastStream."""

import asyncio
import json
import re
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from millrace.runtime.testing import Server, until

from tests.journeys.team import PAGE, Team, is_gone, is_there, team_of, work


@pytest.fixture(params=["kafka", "grpc", "faststream"])
async def team(request: Any, postgres: Server, broker: Any, tmp_path: Path) -> AsyncIterator[Team]:
    async with team_of(postgres, broker.servers, tmp_path, request.param) as made:
        yield made


async def test_a_teams_functions_are_done_by_its_own_worker(team: Team) -> None:
    team.start()
    tasks = {
        "wave": work(f"{team.queue}.wave", input={"name": "ada"}),
        "wrong": work(f"{team.queue}.wave", input={"who": "ada"}, run_if="settled", needs=["wave"]),
        "fail": work(f"{team.queue}.fail", run_if="settled", needs=["wrong"]),
        "last": work(f"{team.queue}.nothing", run_if="settled", needs=["fail"]),
    }

    run = await team.ended(await team.run({"tasks": tasks}))

    wave, wrong, fail, last = run.tasks
    assert json.loads(wave.output_json) == {"waved": "at ada", "process": team.process.pid}
    assert wrong.error.startswith("InvalidInput: wave(): missing a required argument: 'name'")
    assert fail.error == "LookupError: internal error; the service's log has more"
    assert f"{team.queue} has no task {team.queue}.nothing: it has" in last.error
    text = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0].replace("acme.", f"{team.queue}.")
    example = await team.ended(await team.run(yaml.safe_load(text), {"name": "ada"}))
    assert json.loads(example.output_json) == {"said": "hello ada"}
    (queue,) = await team.client.queues()
    assert (queue.name, queue.principal, queue.live, queue.transport) == (team.queue, "dev", True, team.transport)


async def test_a_queue_is_live_within_2_s_and_once_however_often_it_is_asked_for(team: Team) -> None:
    asked = await asyncio.gather(*(team.client.apply_queue(team.queue, team.transport) for _ in range(3)))

    async def live() -> bool:
        return [one.live for one in await team.client.queues()] == [True]

    assert await until(live, seconds=2)
    assert {one.name for one in asked} == {team.queue}


async def test_the_task_of_a_killed_worker_is_done_again_and_has_its_effect_once(team: Team) -> None:
    team.start()
    task = work(f"{team.queue}.slow", input={"marks": str(team.folder)})
    run_id = await team.run({"tasks": {"slow": task}})
    await until(lambda: is_there(team.folder / "began-1"), seconds=30)
    computing = int((team.folder / "began-1").read_text())

    team.kill()
    team.start()
    run = await team.ended(run_id)

    assert (run.state, run.tasks[0].attempts) == ("succeeded", 2)
    assert json.loads(run.tasks[0].output_json) == {"attempt": 2}
    assert (team.folder / "done").read_text() == "2\n"
    # Whoever takes in orphans may leave one that has ended in the table for a while.
    assert not psutil.pid_exists(computing) or psutil.Process(computing).status() == psutil.STATUS_ZOMBIE


async def test_a_cancelled_task_is_killed_and_a_stopped_worker_leaves_in_order(team: Team) -> None:
    team.start()
    task = work(f"{team.queue}.slow", input={"marks": str(team.folder)})
    run_id = await team.run({"tasks": {"slow": task}})
    await until(lambda: is_there(team.folder / "began-1"), seconds=30)
    computing = int((team.folder / "began-1").read_text())

    await team.client.cancel_run(run_id, "not today")
    run = await team.ended(run_id)
    team.process.send_signal(signal.SIGTERM)

    assert (run.state, run.tasks[0].state) == ("cancelled", "cancelled")
    assert await until(lambda: is_gone(Path(f"/proc/{computing}")), seconds=10)
    assert team.process.wait(30) == 0


class OutsideSystem(ThreadingHTTPServer):
    """A system of somebody else's that takes jobs: `POST /jobs` begins one, `GET /jobs/ID` says how it is."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), OutsideCalls)
        self.submitted: list[str] = []
        self.asked: Counter[str] = Counter()
        self.done = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class OutsideCalls(BaseHTTPRequestHandler):
    """What is asked of it."""

    server: OutsideSystem

    def do_POST(self) -> None:
        self.server.submitted.append(f"job-{len(self.server.submitted) + 1}")
        self._answer(self.server.submitted[-1])

    def do_GET(self) -> None:
        self.server.asked[self.path.rpartition("/")[2]] += 1
        self._answer("done" if self.server.done.is_set() else "running")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def system() -> Iterator[OutsideSystem]:
    with OutsideSystem() as made:
        serving = threading.Thread(target=made.serve_forever)
        serving.start()
        yield made
        made.shutdown()
        serving.join()


async def test_l4_a_large_value_goes_from_function_to_function_and_is_taken_from_the_cache_later(team: Team) -> None:
    team.start()
    made = {"input": {"n": 300}, "cache": {"version": "1"}, "resources": {"memory": "1Gi"}}
    tasks = {
        "rows": work(f"{team.queue}.rows", **made),
        "small": work(f"{team.queue}.wave", needs=["rows"], input={"name": "ada"}, when="outputs.rows.n == 300"),
        "count": work(f"{team.queue}.length", needs=["rows"], input={"table": {"$from": "/tasks/rows/output/table"}}),
    }

    first, second = [
        await team.ended(await team.run({"tasks": tasks, "output": {"$from": "/tasks/count/output"}})) for _ in range(2)
    ]

    for run in (first, second):
        assert (run.state, json.loads(run.output_json)) == ("succeeded", {"n": 300}), run
        output = json.loads(run.tasks[0].output_json)
        assert (output["n"], output["memory"], output["table"].keys()) == (
            300,
            1024**3,
            {"$artifact", "$bytes", "$items"},
        )
        assert run.tasks[1].state == "succeeded"
    found = [json.loads(run.tasks[0].cache_json)["found"] for run in (first, second)]
    assert (found, [run.tasks[0].attempts for run in (first, second)]) == (["miss", "hit"], [1, 0])


async def test_m5_an_outside_job_is_submitted_once_and_gone_on_with_when_its_worker_is_killed(
    team: Team, system: OutsideSystem
) -> None:
    team.start()
    run_id = await team.run({"tasks": {"a": work(f"{team.queue}.outside", input={"server": system.url})}})
    await until(lambda: _is_asked_for(system), seconds=30)

    team.kill()
    system.asked.clear()
    team.start()
    await until(lambda: _is_asked_for(system), seconds=60)
    system.done.set()
    run = await team.ended(run_id)

    assert system.submitted == ["job-1"]
    assert json.loads(run.tasks[0].output_json) == {"job": "job-1", "attempt": 2}
    assert run.tasks[0].external_ref == "job-1"


async def test_a_worker_that_has_to_go_leaves_its_task_where_it_is_to_another(team: Team) -> None:
    team.start()
    task = work(f"{team.queue}.count", input={"marks": str(team.folder), "to": 200})
    run_id = await team.run({"tasks": {"a": task}})
    await until(lambda: is_there(team.folder / "counted"), seconds=30)

    team.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(team.process.wait, 30) == 0
    (team.folder / "hurry").touch()
    team.start()
    run = await team.ended(run_id)

    assert json.loads(run.tasks[0].output_json) == {"attempt": 2}
    assert (team.folder / "counted").read_text().split() == [str(n) for n in range(1, 201)]


@pytest.mark.parametrize("team", ["kafka", "grpc"], indirect=True)
async def test_a_worker_that_comes_beside_another_shares_the_work_and_takes_nothing_from_it(team: Team) -> None:
    team.start()
    task = work(f"{team.queue}.count", input={"marks": str(team.folder), "to": 2000})
    run_id = await team.run({"tasks": {"a": task}})
    await until(lambda: is_there(team.folder / "counted"), seconds=30)

    team.start()

    async def done_by_the_other() -> bool:
        waves = {f"w{n}": work(f"{team.queue}.wave", input={"name": str(n)}) for n in range(20)}
        run = await team.ended(await team.run({"tasks": waves}))
        return team.process.pid in {json.loads(task.output_json)["process"] for task in run.tasks}

    await until(done_by_the_other, seconds=60)
    (team.folder / "hurry").touch()
    run = await team.ended(run_id)

    assert json.loads(run.tasks[0].output_json) == {"attempt": 1}
    assert (team.folder / "counted").read_text().split() == [str(n) for n in range(1, 2001)]


async def _is_asked_for(system: OutsideSystem) -> bool:
    return bool(system.asked)
