"""Whether control stays as fast as it is: in long runs, in wide ones, beside many that have ended, and with a replica.

Beside the load of `control`, in parts that can be had one by one (`BENCH_PARTS=idle,replica`): a run of 10,000 steps
one after another; a `foreach` of 10,000 items and one of a fifth as many; the queries of an idle control; all of that
and the closed loop before and after 1,000,000 ended runs are put into the archive by COPY; the closed loop with a
second control, which is then killed.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psutil
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.control.domain.archive import width_of
from millrace.control.store import Store
from millrace.runtime.database import Database, Transactions
from millrace.runtime.ids import new_id
from millrace.runtime.testing import until
from millrace.runtime.testing.process import ServiceProcess, free_port
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.postgres import Postgres
from rich.console import Console
from rich.table import Table

from tests.benchmarks.bars import tell
from tests.benchmarks.control import STEPS, Bench, bench, on_servers, run_closed, run_open

LONG = int(os.environ.get("BENCH_STEPS", "10000"))  # fewer give a first idea only
WIDE = int(os.environ.get("BENCH_ITEMS", "10000"))  # likewise
ARCHIVED = int(os.environ.get("BENCH_ARCHIVED", "1000000"))  # likewise
RUNS = int(os.environ.get("BENCH_RUNS", "1000"))  # likewise
PARTS = os.environ.get("BENCH_PARTS", "long,wide,idle,archived,replica").split(",")
IDLE_S = 20.0
LONGEST_S = 1800.0
KEPT = timedelta(days=90)

AT_LEAST = {
    "archived_runs_per_s_ratio": 0.9,
    "archived_long_steps_per_s_ratio": 0.9,
    "archived_wide_items_per_s_ratio": 0.9,
}
AT_MOST = {
    "long_last_over_first": 1.1,
    "wide_item_ratio": 1.1,
    "wide_control_mb": 64,
    "idle_queries_per_s": 1.0,
    "archived_cpu_ms_per_step_ratio": 1.1,
    "archived_dispatch_p50_ms_ratio": 1.1,
    "archived_dispatch_p99_ms_ratio": 1.1,
    "archived_idle_queries_per_s": 1.0,
    "replicas_cpu_ratio": 1.25,
    "replica_death_s": 15,
}

NOOP = {"kind": "data.noop"}
SEQUENCE = {
    "name": "sequence",
    "tasks": {
        "all": {"while": {"condition": f"index.all < {LONG}", "max_iterations": LONG, "do": {"tasks": {"one": NOOP}}}}
    },
}
EACH = {
    "name": "each",
    "tasks": {
        "all": {
            "foreach": {"items": {"$from": "/trigger/data/items"}, "concurrency": 100, "do": {"tasks": {"one": NOOP}}},
        },
    },
}
ENDED = "SELECT * FROM run WHERE workflow = 'bench' AND state = 'succeeded' LIMIT 1"
TASKS = "SELECT * FROM task WHERE run_id = $1"
TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


async def long_run(made: Bench) -> dict[str, float]:
    """Return by how much a step at the end of a long run takes longer than one at its beginning."""
    made.upstream.dispatches["sequence"].clear()
    await _start(made, SEQUENCE, {})
    times = made.upstream.dispatches["sequence"]
    # The first steps, in which the run is not known yet, are like all others after a tenth.
    tenth = LONG // 10
    first, last = times[2 * tenth] - times[tenth], times[-1] - times[-1 - tenth]
    return {"long_steps_per_s": LONG / (times[-1] - times[0]), "long_last_over_first": last / first}


async def wide_run(made: Bench) -> dict[str, float]:
    """Return how an item of a wide run compares with one of a narrower run, and what control's memory rose by."""
    control = psutil.Process(made.parts["control"])
    took_s: list[float] = []
    for count in (WIDE // 5, WIDE):
        before = control.memory_info().rss
        began = time.perf_counter()
        await _start(made, EACH, {"items": list(range(count))})
        took_s.append((time.perf_counter() - began) / count)
    grown = (control.memory_info().rss - before) / 2**20
    return {"wide_items_per_s": 1 / took_s[1], "wide_item_ratio": took_s[1] / took_s[0], "wide_control_mb": grown}


async def _start(made: Bench, workflow: dict[str, Any], data: Any) -> None:
    """Start a run of a workflow, and return when it has ended."""
    control: Any = ControlServiceStub(made.deployment.channel("control"))
    name, ended = workflow["name"], len(made.upstream.ends[workflow["name"]])
    await control.ApplyWorkflow(
        pb.ApplyWorkflowRequest(namespace="bench", request_id=f"{name}", workflow=json.dumps(workflow))
    )
    asked = pb.StartRunRequest(
        namespace="bench", request_id=f"{name}{ended}", workflow=name, data_json=json.dumps(data)
    )
    run_id = (await control.StartRun(asked)).run.run_id

    async def is_over() -> bool:
        return len(made.upstream.ends[name]) > ended

    await until(is_over, seconds=LONGEST_S)
    run = (await control.GetRun(pb.GetRunRequest(namespace="bench", run_id=run_id))).run
    if run.state != "succeeded":
        raise RuntimeError(f"run {run_id} of {name} did not succeed: {run.cause}")


async def idle(dsn: str) -> dict[str, float]:
    """Return how many transactions a second a control takes that has nothing to do."""
    connection = await asyncpg.connect(dsn)
    try:
        await asyncio.sleep(15)  # what was left to do is done, and counted: idle sessions tell late what they did
        before = await connection.fetchval(TRANSACTIONS)
        await asyncio.sleep(IDLE_S)
        # Its own two are counted, and the statistics are a second old.
        return {"idle_queries_per_s": (await connection.fetchval(TRANSACTIONS) - before - 1) / IDLE_S}
    finally:
        await connection.close()


async def closed(made: Bench) -> dict[str, float]:
    """Return what the closed loop comes to, and the latencies of dispatch."""
    before = sum(made.cpu_s().values())
    took_s = await run_closed(made.upstream, RUNS)
    used_s = sum(made.cpu_s().values()) - before
    latencies = await run_open(made.upstream)
    return {
        "runs_per_s": RUNS / took_s,
        "cpu_ms_per_step": used_s / (RUNS * STEPS) * 1000,
        "dispatch_p50_ms": latencies[len(latencies) // 2],
        "dispatch_p99_ms": latencies[int(len(latencies) * 0.99)],
    }


async def archive(dsn: str) -> None:
    """Put ended runs of each of the last 80 days into the archive, with their tasks: copies of one that just did."""
    step, since = 10_000, time.time() - timedelta(days=80).total_seconds()
    connection = await asyncpg.connect(dsn)
    try:
        run = await connection.fetchrow(ENDED)
        tasks = await connection.fetch(TASKS, run["run_id"])
        async with Database(dsn) as database:
            for first in range(0, ARCHIVED, step):
                made = range(first, min(first + step, ARCHIVED))
                ids = [new_id(since + n / ARCHIVED * timedelta(days=79).total_seconds()) for n in made]
                async with Transactions(database, Store)() as tx:
                    await tx.make_parts(ids, width_of(KEPT))
                for table, rows in (("run_archive", [run]), ("task_archive", tasks)):
                    columns = [*rows[0].keys()]
                    await connection.copy_records_to_table(table, records=_copies(rows, ids), columns=columns)
        # Whatever the server does of itself after that many new rows, it does before anything is measured.
        await connection.execute("VACUUM (ANALYZE) run_archive, task_archive")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _copies(rows: list[asyncpg.Record], run_ids: list[UUID]) -> Iterator[tuple[Any, ...]]:
    for run_id in run_ids:
        for row in rows:
            yield tuple(run_id if name == "run_id" else value for name, value in row.items())


async def archived(made: Bench, dsn: str) -> dict[str, float]:
    """Return what the parts come to after that many ended runs to what they came to before."""
    before = await _rates(made)
    await archive(dsn)
    await run_closed(made.upstream, RUNS // 5)
    after = await _rates(made)
    ratios = {f"archived_{name}_ratio": after[name] / before[name] for name in before}
    return ratios | {f"archived_{name}": value for name, value in (await idle(dsn)).items()}


async def _rates(made: Bench) -> dict[str, float]:
    found = await closed(made)
    for part in (long_run, wide_run):
        found |= {name: value for name, value in (await part(made)).items() if name.endswith("per_s")}
    return found


async def with_a_replica(made: Bench) -> dict[str, float]:
    """Return what a step takes with two controls to what it takes with one, and how long the death of one is felt."""
    alone = await closed(made)
    first = made.deployment.services["control"]
    ports = (free_port(), free_port())
    told = {"CONTROL_GRPC_PORT": str(ports[0]), "CONTROL_HTTP_PORT": str(ports[1]), "CONTROL_INSTANCE": "1"}
    second = ServiceProcess("control", first.environment | told, ports, first.log.with_name("control-1.log"))
    await second.start()
    try:
        await run_closed(made.upstream, RUNS // 5)  # until both have their share of the partitions
        made.parts["control-1"] = second.pid
        together = await closed(made)
        going = asyncio.create_task(run_closed(made.upstream, RUNS))
        ended = made.upstream.ended
        while made.upstream.ended < ended + RUNS // 10:
            await asyncio.sleep(0.01)
        second.kill()
        killed, under_way = time.perf_counter(), made.upstream.under_way()
        await asyncio.wait(under_way)
        felt_s = time.perf_counter() - killed
        await going
    finally:
        second.kill()
        made.parts.pop("control-1", None)
    return {
        "replicas_runs_per_s": together["runs_per_s"],
        "replicas_cpu_ratio": together["cpu_ms_per_step"] / alone["cpu_ms_per_step"],
        "replica_death_s": felt_s,
    }


async def measure(postgres: Postgres, kafka: Kafka, folder: Path) -> dict[str, float]:
    """Return the figures of the parts that were asked for."""
    console, found = Console(stderr=True), dict[str, float]()
    async with bench(postgres, kafka, folder) as made:
        dsn = made.deployment.settings["control"]["POSTGRES_DSN"]
        parts: dict[str, tuple[str, Callable[[], Awaitable[dict[str, float]]]]] = {
            "long": (f"a run of {LONG} steps", partial(long_run, made)),
            "wide": (f"foreach over {WIDE // 5} and {WIDE} items", partial(wide_run, made)),
            "idle": ("nothing", partial(idle, dsn)),
            "archived": (f"{RUNS} runs, {ARCHIVED} that have ended, {RUNS} runs", partial(archived, made, dsn)),
            "replica": ("a second control", partial(with_a_replica, made)),
        }
        for name in PARTS:
            what, part = parts[name]
            console.print(f"{what} …")
            async with asyncio.timeout(LONGEST_S):
                found |= await part()
    return found


def main() -> int:
    """Measure, show a table, and end with one line of JSON; return 1 when a bar is missed."""
    found = on_servers(measure)
    table = Table("what", "found", "bar")
    for name, value in found.items():
        bar = f">= {AT_LEAST[name]:g}" if name in AT_LEAST else f"<= {AT_MOST[name]:g}" if name in AT_MOST else ""
        table.add_row(name, f"{value:.3f}", bar)
    Console(file=sys.stdout).print(table)
    rounded = {name: round(value, 3) for name, value in found.items()}
    asked = tuple(PARTS)  # a figure is named after its part
    least, most = ({name: bar for name, bar in bars.items() if name.startswith(asked)} for bars in (AT_LEAST, AT_MOST))
    return tell(rounded, at_least=least, at_most=most)


if __name__ == "__main__":
    sys.exit(main())
