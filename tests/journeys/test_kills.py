"""A worker that is killed again and again: its slots are given back, and all is done, once.

20 times here, `make verify KILLS=1000` as often as that says.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer
from millrace.contracts.tasks import TaskSucceeded
from millrace.runtime.client import FixedToken
from millrace.runtime.testing import Server, fresh_database, until
from millrace.runtime.testing.process import Deployment, deployed
from millrace.sdk.client import ENDED, Client
from millrace.sdk.connection import Connection
from rich.console import Console
from rich.progress import track

from tests.journeys.nursery import Nursery

KILLS = int(os.environ.get("KILLS", "20"))
#: Of one run; when it has ended before the last kill, there is another.
ITEMS = 40
SLOTS = 3
TASKS = """
import asyncio
import os

from millrace.sdk.flows import task


@task("{queue}.step")
async def step(n, marks):
    with open(marks, "a") as began:
        began.write(f"{{os.getpid()}}\\n")
    await asyncio.sleep(0.1)
    return {{"n": n}}
"""


class Crew:
    """A queue with a worker that is killed, the pool that its tasks take slots of, and runs of those."""

    def __init__(self, deployment: Deployment, servers: str, dsn: str, folder: Path, connection: Any) -> None:
        self.queue = f"q{uuid4().hex[:8]}"
        self.servers = servers
        self.runs: list[str] = []
        self.database = connection
        self._marks = folder / "began"
        self._marks.touch()
        endpoints = {name: process.target for name, process in deployment.services.items()}
        self.client = Client(Connection(endpoints, FixedToken(deployment.authority.token("dev"))), namespace="demo")
        (folder / "steps.py").write_text(TASKS.format(queue=self.queue))
        shared = deployment.settings["control"]
        names = ("KAFKA_SERVERS", "ARTIFACTS_URL", "AUTH_JWKS", "AUTH_GRANTS", "ENDPOINTS", "TOKEN_FILE")
        environment = {f"WORKER_{name}": shared[name] for name in names} | {"WORKER_POSTGRES_DSN": dsn}
        self.nursery = Nursery(self.queue, "steps", folder, environment)

    async def prepare(self) -> None:
        await self.client.apply_queue(self.queue)
        await self.client.pools.apply("machines", SLOTS, shares={"odd": 2})

        async def live() -> bool:
            return all(queue.live for queue in await self.client.queues())

        assert await until(live, seconds=30)
        step = {
            "kind": f"{self.queue}.step",
            "pool": "machines",
            "fairness_key": {"$from": "/trigger/data/key"},
            "input": {"n": {"$from": "/item/each"}, "marks": str(self._marks)},
            "retries": {"lost": 1000, "backoff_s": 0},
        }
        each = {"items": list(range(ITEMS)), "concurrency": 10, "do": {"tasks": {"step": step}}}
        each["do"] |= {"output": {"$from": "/tasks/step/output/n"}}
        document = {"name": "kills", "tasks": {"each": {"foreach": each}}}
        await self.client.apply_workflow(json.dumps(document))

    async def keep_busy(self) -> None:
        """Have two runs go on at least."""
        states = {run.run_id: run.state for run in await self.client.runs(limit=2)}
        for key in ("odd", "even")[sum(state not in ENDED for state in states.values()) :]:
            self.runs.append((await self.client.start_run("kills", {"key": key})).run_id)

    async def lives_and_dies(self, after_s: float) -> None:
        """Start a worker, let it be at work for a while, and kill it."""
        worker = self.nursery.start()

        async def at_work() -> bool:
            return f"{worker}\n" in self._marks.read_text()

        assert await until(at_work, seconds=60), self.nursery.log.read_text()[-5_000:]
        await asyncio.sleep(after_s)
        self.nursery.kill()

    async def taken(self) -> int:
        return int(await self.database.fetchval("SELECT coalesce(sum(weight), 0) FROM lease"))

    async def results(self) -> Counter[str]:
        """How often each task was told to have succeeded, by any of its workers."""
        told = Counter[str]()
        consumer = AIOKafkaConsumer(f"{self.queue}.tasks", bootstrap_servers=self.servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            seen = set()
            while [place for place, end in ends.items() if await consumer.position(place) < end]:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        headers = dict(record.headers)
                        new = headers["ce_id"] not in seen
                        if headers["ce_type"] == TaskSucceeded.type_name().encode() and new:
                            seen.add(headers["ce_id"])
                            told[str(TaskSucceeded.model_validate_json(record.value).task_id)] += 1
        finally:
            await consumer.stop()
        return told


@asynccontextmanager
async def crew_of(postgres: Server, broker: Any, folder: Path) -> AsyncIterator[Crew]:
    async with deployed(("control",), postgres, broker.servers, folder) as deployment:
        connection = await asyncpg.connect(deployment.settings["control"]["POSTGRES_DSN"])
        crew = Crew(deployment, broker.servers, await fresh_database(postgres, "worker"), folder, connection)
        try:
            async with crew.client:
                with crew.nursery:
                    yield crew
        finally:
            await connection.close()


async def test_r5_no_slot_leaks_and_all_is_done_once_however_often_a_worker_is_killed(
    postgres: Server, broker: Any, tmp_path: Path
) -> None:
    chosen = random.Random(KILLS)
    async with crew_of(postgres, broker, tmp_path) as crew:
        await crew.prepare()
        shown = Console(stderr=True, quiet="KILLS" not in os.environ)
        for _ in track(range(KILLS), "A worker is killed", console=shown):
            await crew.keep_busy()
            await crew.lives_and_dies(chosen.uniform(0.0, 0.3))
            assert await crew.taken() <= SLOTS
        crew.nursery.start()
        for run_id in crew.runs:
            async with asyncio.timeout(120):
                run = [run async for run in crew.client.watch_run(run_id)][-1]
            output = json.loads(next(task.output_json for task in run.tasks if task.name == "each"))
            assert (run.state, output["items"]) == ("succeeded", list(range(ITEMS)))

        for table in ("lease", "waiter", "flow"):
            assert await crew.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table
        told = await crew.results()
        lost = await crew.database.fetchval("SELECT count(*) FROM attempt WHERE lost")

    assert sorted(told.values()) == [1] * (ITEMS * len(crew.runs))
    assert lost >= KILLS, "each kill took the slots of somebody"
