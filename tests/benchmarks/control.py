"""Five-step no-op runs through control, a worker, the broker and the databases, all real and all counted.

Upstream publishes CloudEvents, each starts a run of five steps, which are a chain unless `BENCH_CHAINED=0`, a worker on
the runtime does nothing five times and the next event leaves when a run has ended: 32 are in flight. CPU is that of
control, worker, client, broker, PostgreSQL and the receiver of traces together. Then, at 50 events a second, each
event's way to its first dispatch is timed, and then that of a bare record through the same broker. With `--peers`,
other engines come after, each alone under the same load.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.tasks import Output
from millrace.runtime.service import service
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import task
from millrace.runtime.tasks import Job
from millrace.runtime.testing import create_topics, fresh_database, until
from millrace.runtime.testing.process import Deployment, ServiceProcess, deployed, free_port
from millrace.runtime.transaction import Transaction
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.postgres import Postgres
from pydantic import BaseModel
from pydantic_settings import SettingsConfigDict
from rich.console import Console
from rich.table import Table

from tests.benchmarks.bars import tell
from tests.benchmarks.peers.comparison import bars, figures, shown
from tests.benchmarks.peers.environment import NotRun
from tests.benchmarks.peers.known import PEERS, named
from tests.benchmarks.peers.load import IN_FLIGHT, STEPS
from tests.benchmarks.peers.peer import Found, Peer, measure_all
from tests.benchmarks.processes import cpu_s

T = TypeVar("T")

AT_LEAST = {"runs_per_s": 250}
AT_MOST = {"cpu_ms_per_step": 1.2, "dispatch_p50_ms": 6, "dispatch_p99_ms": 20}
WARM_UP_RUNS = 300
RUNS = int(os.environ.get("BENCH_RUNS", "2000"))  # fewer give a first idea only
RATE_PER_S = 50
LATENCY_EVENTS = int(os.environ.get("BENCH_EVENTS", "1000"))  # likewise
SAMPLE_RATIO = 0.01
#: What keeps a step from being chained, and changes nothing else where all succeed.
EACH_ORDERED = {"run_if": "settled"} if os.environ.get("BENCH_CHAINED") == "0" else {}
TOPIC = "triggers"
HOPS = "hops"
WORKFLOW = {
    "name": "bench",
    "tasks": {
        f"step{n}": {
            "kind": "data.noop",
            **EACH_ORDERED,
            **({"needs": [f"step{n - 1}"], "input": {"n": {"$from": f"/tasks/step{n - 1}/output/n"}}} if n else {}),
        }
        for n in range(STEPS)
    },
}
TRIGGER = {"name": "bench", "workflow": "bench", "source": {"topic": TOPIC, "start": "now"}}


class Noop(BaseModel):
    """What a no-op step gets."""

    n: int = 0


class WorkerSettings(ServiceSettings):
    """The worker's settings: it stands in for the data service."""

    model_config = SettingsConfigDict(env_prefix="DATA_", frozen=True, extra="forbid")


async def noop(step: Noop, _: Job) -> int:
    """Do nothing."""
    return step.n + 1


async def keep(n: int, _: Transaction) -> Output:
    """Keep nothing."""
    return {"n": n}


async def work() -> None:
    """Be the worker: the runtime's own, with a task that does nothing."""
    async with service("data", WorkerSettings()) as worker:
        begin = worker.transactions(Transaction)
        worker.subscribe((), begin, (task("data.noop", Noop, noop, keep),))
        await worker.run()


def receive_traces() -> None:
    """Be the receiver of traces: read what comes and forget it."""

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Receiver).serve_forever()


class Upstream:
    """Publishes events and sees what becomes of them on Kafka."""

    def __init__(self, producer: AIOKafkaProducer, reader: AIOKafkaConsumer) -> None:
        self._producer = producer
        self._reader = reader
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._event_of: dict[str, str] = {}
        self._sent: dict[str, float] = {}
        #: When a run was first dispatched, seen before its start was.
        self._early: dict[str, float] = {}
        self._count = 0
        self.dispatched_ms: list[float] = []
        self.ended = 0
        #: By workflow, when each task of other runs was dispatched, and when such a run ended.
        self.dispatches: dict[str, list[float]] = defaultdict(list)
        self.ends: dict[str, list[float]] = defaultdict(list)

    async def publish(self) -> asyncio.Future[None]:
        """Publish one event; return what is done when its run has ended."""
        self._count += 1
        event_id = f"e{self._count}"
        headers = {"ce_specversion": "1.0", "ce_id": event_id, "ce_source": "/bench", "ce_type": "bench.landed"}
        done = self._waiting[event_id] = asyncio.get_running_loop().create_future()
        self._sent[event_id] = time.perf_counter()
        await self._producer.send(TOPIC, b"{}", headers=[(name, text.encode()) for name, text in headers.items()])
        return done

    def under_way(self) -> list[asyncio.Future[None]]:
        """Return what is done when each of the runs has ended that have not yet."""
        return list(self._waiting.values())

    def forget(self) -> None:
        """Wait no more for what was published so far: before control reads the topic, it starts nothing."""
        self._waiting.clear()

    async def follow(self) -> None:
        """Read dispatches and ends until cancelled; what goes wrong is raised where a run is waited for."""
        try:
            await self._follow()
        except Exception as error:
            for waiting in self._waiting.values():
                waiting.set_exception(error)
            raise

    async def _follow(self) -> None:
        while True:
            found = await self._reader.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for place, records in found.items():
                for record in records:
                    value = json.loads(record.value)
                    if place.topic == "control.runs":
                        self._run_told(dict(record.headers)["ce_type"], value)
                    elif value.get("workflow") != WORKFLOW["name"]:
                        self.dispatches[value.get("workflow", "")].append(now)
                    elif value.get("name") == "step0" and value["attempt"] == 1:
                        self._dispatched(value["run_id"], now)

    def _run_told(self, kind: bytes, value: dict[str, Any]) -> None:
        if value["workflow"] != WORKFLOW["name"]:
            if not kind.endswith(b"RunStarted"):
                self.ends[value["workflow"]].append(time.perf_counter())
        elif kind.endswith(b"RunStarted"):
            self._event_of[value["run_id"]] = value["event_id"]
            self._dispatched(value["run_id"], self._early.pop(value["run_id"], None))
        elif (event_id := self._event_of.pop(value["run_id"], None)) is not None:
            if not kind.endswith(b"RunSucceeded"):
                raise RuntimeError(f"run {value['run_id']} did not succeed: {value['cause']}")
            # Whoever takes over from a control that was killed may say it again.
            if (waiting := self._waiting.pop(event_id, None)) is not None:
                self.ended += 1
                waiting.set_result(None)

    def _dispatched(self, run_id: str, at: float | None) -> None:
        if at is None:
            return
        event_id = self._event_of.get(run_id)
        if event_id is None:
            self._early[run_id] = at
        else:
            self.dispatched_ms.append((at - self._sent[event_id]) * 1000)


async def run_closed(upstream: Upstream, count: int) -> float:
    """Run `count` runs with `IN_FLIGHT` of them open at a time; return the seconds they took."""
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            await (await upstream.publish())

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - began


async def run_open(upstream: Upstream) -> list[float]:
    """Publish at a steady rate; return the milliseconds from each event to its first dispatch, sorted."""
    upstream.dispatched_ms.clear()
    began = time.perf_counter()
    pending = []
    for n in range(LATENCY_EVENTS):
        await asyncio.sleep(max(0.0, began + n / RATE_PER_S - time.perf_counter()))
        pending.append(await upstream.publish())
    await asyncio.gather(*pending)
    return sorted(upstream.dispatched_ms)


async def hops(servers: str) -> list[float]:
    """Return the milliseconds of one bare hop at the same rate, from a send until a consumer has it, sorted.

    An event makes two on its way to its dispatch, with a transaction between: so much of that no engine can save.
    """
    await create_topics(servers, {HOPS: 1})
    found: list[float] = []
    async with (
        AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer,
        AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False) as reader,
    ):
        reader.assign([TopicPartition(HOPS, 0)])
        await reader.seek_to_end()

        async def receive() -> None:
            while len(found) < LATENCY_EVENTS:
                records = await reader.getmany(timeout_ms=1000)
                now = time.perf_counter()
                found.extend((now - float(record.value)) * 1000 for some in records.values() for record in some)

        receiving = asyncio.create_task(receive())
        began = time.perf_counter()
        for n in range(LATENCY_EVENTS):
            await asyncio.sleep(max(0.0, began + n / RATE_PER_S - time.perf_counter()))
            await producer.send(HOPS, str(time.perf_counter()).encode())
        async with asyncio.timeout(30):
            await receiving
    return sorted(found)


@asynccontextmanager
async def upstream_of(servers: str) -> AsyncIterator[Upstream]:
    """Connect upstream to Kafka."""
    topics = ("control.tasks.data", "control.runs")
    async with (
        AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer,
        AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False) as reader,
    ):
        await producer.partitions_for(TOPIC)
        reader.assign([TopicPartition(t, n) for t in topics for n in await producer.partitions_for(t)])
        await reader.seek_to_end()
        made = Upstream(producer, reader)
        following = asyncio.create_task(made.follow())
        try:
            yield made
        finally:
            following.cancel()


async def start_worker(postgres: Postgres, deployment: Deployment, otlp: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the worker and wait until it is ready."""
    own = deployment.settings["control"]
    ports = (free_port(), free_port())
    changed = {
        "POSTGRES_DSN": await fresh_database(postgres, "data"),
        "GRPC_PORT": str(ports[0]),
        "HTTP_PORT": str(ports[1]),
        "TOKEN_FILE": str(deployment.authority.token_file("service:data")),
        "OTLP_ENDPOINT": otlp,
    }
    environment = {f"DATA_{name}": value for name, value in {**own, **changed}.items()}
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - our own program, started in no time
            [sys.executable, "-m", "tests.benchmarks.control", "worker"],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
    probe = ServiceProcess("data", {}, ports, folder / "worker.log")
    await until(lambda: asyncio.to_thread(probe.is_ready), seconds=60)
    return process


@dataclass
class Bench:
    """Control and a worker, with upstream.

    Attributes:
        parts: The processes that are counted, by name.
    """

    deployment: Deployment
    upstream: Upstream
    parts: dict[str, int]

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time that each part has used."""
        return {name: cpu_s(pid) for name, pid in self.parts.items()}


@asynccontextmanager
async def bench(postgres: Postgres, kafka: Kafka, folder: Path) -> AsyncIterator[Bench]:
    """Run control and a worker, warm, until the block ends."""
    port = free_port()
    receiver = subprocess.Popen(  # noqa: ASYNC220 - likewise
        [sys.executable, "-m", "tests.benchmarks.control", "traces", str(port)]
    )
    telemetry = {"OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "TRACE_SAMPLE_RATIO": str(SAMPLE_RATIO)}
    worker = None
    try:
        async with deployed(("control",), postgres, kafka.servers, folder, extra={"control": telemetry}) as deployment:
            worker = await start_worker(postgres, deployment, telemetry["OTLP_ENDPOINT"], folder)
            await apply(deployment)
            parts = {
                "control": deployment.services["control"].pid,
                "worker": worker.pid,
                "client": os.getpid(),
                "broker": kafka.pid,
                "database": postgres.pid,
                "telemetry": receiver.pid,
            }
            async with upstream_of(kafka.servers) as upstream:
                while not upstream.ended:
                    await upstream.publish()
                    await asyncio.sleep(0.2)
                upstream.forget()
                await run_closed(upstream, WARM_UP_RUNS)
                yield Bench(deployment, upstream, parts)
    finally:
        for process in (worker, receiver):
            if process is not None:
                process.terminate()
                process.wait(30)


async def apply(deployment: Deployment) -> None:
    """Put the workflow and its trigger in force."""
    control: Any = ControlServiceStub(deployment.channel("control"))
    await control.ApplyWorkflow(
        pb.ApplyWorkflowRequest(namespace="bench", request_id="1", workflow=json.dumps(WORKFLOW))
    )
    await control.ApplyTrigger(pb.ApplyTriggerRequest(namespace="bench", request_id="2", trigger=json.dumps(TRIGGER)))


async def measure(postgres: Postgres, kafka: Kafka, folder: Path) -> dict[str, Any]:
    """Return runs per second, CPU by part and the latencies."""
    async with bench(postgres, kafka, folder) as made:
        before = made.cpu_s()
        took_s = await run_closed(made.upstream, RUNS)
        used_s = {name: used - before[name] for name, used in made.cpu_s().items()}
        latencies_ms = await run_open(made.upstream)
        return {
            "runs_per_s": RUNS / took_s,
            "cpu_s": used_s,
            "latencies_ms": latencies_ms,
            "hops_ms": await hops(kafka.servers),
        }


def main() -> int:
    """Measure, show a table, and end with one line of JSON; return 1 when a bar is missed."""
    if sys.argv[1:2] == ["worker"]:
        uvloop.run(work())
        return 0
    if sys.argv[1:2] == ["traces"]:
        receive_traces()
        return 0
    asked = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends what was started too
    found = on_servers(measure)
    return show(found, asked.peers, measure_all(asked.peers, asked.folder))


def arguments(given: list[str]) -> argparse.Namespace:
    """Return the peers that are asked for, and the folder where they are installed."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.control", description="Measure control.")
    parser.add_argument(
        "--peers",
        type=named,
        nargs="?",
        const=tuple(PEERS.values()),
        default=(),
        metavar="NAME,...",
        help=f"measure others beside it: all, or some of {', '.join(PEERS)}",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path.home() / ".cache/millrace-peers",
        help="where they are installed, once (default: %(default)s)",
    )
    return parser.parse_args(given)


def on_servers(measure: Callable[[Postgres, Kafka, Path], Coroutine[Any, Any, T]]) -> T:
    """Return what is measured on a broker and a database of its own, in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        port, controller = free_ports(2)
        postgres = Postgres(folder / "postgres", folder / "postgres.log")
        kafka = Kafka(folder / "kafka", folder / "kafka.log", port=port, controller_port=controller)
        postgres.start()
        try:
            kafka.start()
            return uvloop.run(measure(postgres, kafka, folder))
        finally:
            kafka.stop()
            postgres.stop()


def show(found: dict[str, Any], peers: Sequence[Peer], beside: Mapping[str, Found | NotRun]) -> int:
    """Print where the processor time went, by process, peers, and the figures; return 1 when a bar is missed."""
    used_s: dict[str, float] = found["cpu_s"]
    steps, all_s = RUNS * STEPS, sum(used_s.values())
    table = Table("process", "CPU s", "CPU ms per step", "share", title=f"{RUNS} runs of {STEPS} steps")
    for name, part_s in used_s.items():
        table.add_row(name, f"{part_s:.2f}", f"{part_s / steps * 1000:.3f}", f"{part_s / all_s:.0%}")
    table.add_row("all", f"{all_s:.2f}", f"{all_s / steps * 1000:.3f}", "", style="bold")
    console = Console(file=sys.stdout)
    console.print(table)
    ours = Found("this build", found["runs_per_s"], all_s / steps * 1000)
    if peers:
        console.print(shown(peers, beside, ours), markup=False)
    latencies, bare = found["latencies_ms"], found["hops_ms"]
    told = {
        "runs_per_s": round(ours.runs_per_s, 1),
        "cpu_ms_per_step": round(ours.cpu_ms_per_step, 3),
        "dispatch_p50_ms": round(latencies[len(latencies) // 2], 2),
        "dispatch_p99_ms": round(latencies[int(len(latencies) * 0.99)], 2),
        "bare_hop_p50_ms": round(bare[len(bare) // 2], 2),
        "dispatch_over_two_hops": round(latencies[len(latencies) // 2] / (2 * bare[len(bare) // 2]), 2),
        **figures(beside, ours),
    }
    return tell(told, at_least=AT_LEAST | bars(peers), at_most=AT_MOST)


if __name__ == "__main__":
    sys.exit(main())
