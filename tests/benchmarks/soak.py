"""The load of the main job for a long time, at half of what the machine carries: what grows, fails, and takes how long.

Housekeeping runs all the while with short retentions. Memory, file descriptors, tasks of the event loop, rows and size
of every table are measured every few seconds; after a warm-up their robust slopes must be flat. Tables that are the
permanent record of the work grow with it by design: they are shown with their rows and size per run.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psutil
from aiokafka import AIOKafkaProducer
from millrace.contracts import SERVICES
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.testing import until
from millrace.sdk.held import Which
from rich.console import Console

from tests.benchmarks import soak_report
from tests.benchmarks.soak_probe import Probe
from tests.faults.declared import prepared
from tests.faults.history import History
from tests.faults.load import Load
from tests.faults.reported import LISTENER, TOPIC, headers, held_events, made
from tests.faults.stack import Stack, running

HALF = 0.5
CALIBRATION_S = 20.0
RATES = (0.2, 8.0)
SAMPLE_S = 4.0
#: How many events that nobody can read, and artifacts that nobody refers to, are put there at the beginning.
SPOILED = 20
SETTLE_S = 60.0
PART_S = 60.0
"""By how much runs stay longer than they are kept for: as long as the shortest part of their archive is."""


class Clients(Load):
    """The usual clients; what they look at is new, for nothing is kept for long."""

    async def read(self) -> None:
        """Look at a run of a moment ago."""
        self._runs = self._runs[-1:]
        await super().read()


def main() -> int:
    """Run for so many minutes, print what was found, at last the numbers on a line; return 1 when a bound is missed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends the stack too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES", "10")))
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="millrace-soak-", ignore_cleanup_errors=True) as folder:
        told = asyncio.run(_soak(Path(folder), minutes))
    print(json.dumps(told))
    return 0 if told["held"] else 1


def retention_s(minutes: float) -> float:
    """Return how long things are kept, so that every table is level for most of the time."""
    return min(600.0, max(45.0, minutes * 9))


def settings(keep_s: float) -> dict[str, dict[str, str]]:
    """Return what each service is told: to keep nothing for long, and to look often."""
    keep = f"PT{keep_s:.0f}S"
    common = dict.fromkeys(
        ("INBOX_HORIZON", "HELD_RETENTION", "REQUEST_RETENTION", "JOB_RETENTION", "ARTIFACT_GRACE"), keep
    )
    own = {
        "control": {"RUN_RETENTION": keep, "EVENT_RETENTION": keep},
        "feature": {"GENERATION_GRACE": keep},
        "inference": {"JUDGED_FOR": keep},
        "lineage": {"KEEP_PREDICTIONS_DAYS": str(keep_s / 86400)},
        "observability": {"SERIES_RETENTION": keep},
    }
    every = {"HOUSEKEEPING_EVERY_S": "10"}
    return {
        name: {f"{name.upper()}_{key}": value for key, value in (common | every | own.get(name, {})).items()}
        for name in SERVICES
    }


async def _soak(folder: Path, minutes: float) -> dict[str, object]:
    console = Console(stderr=True, width=150)
    keep_s = retention_s(minutes)
    warm_up_s = 1.3 * keep_s + 15 + PART_S
    async with running(folder, environment=settings(keep_s)) as stack:
        await prepared(stack)
        history = History()
        probe = Probe(stack, history)
        async with _watching(probe):
            rate = await _half_rate(stack, history)
            console.print(f"{minutes:g} min at {rate:.2f} times the usual load, of which {warm_up_s:.0f} s to warm up")
            async with Clients(stack, history, rate):
                began = time.time()
                await _spoil(stack)
                while time.time() - began < minutes * 60:
                    await asyncio.sleep(SAMPLE_S)
                    await probe.sample()
            runs = await _settled(probe)
        return soak_report.told(probe, console, since=began + warm_up_s, rate=rate, runs=runs)


async def _spoil(stack: Stack) -> None:
    """Leave what only housekeeping takes away: events that are held as dead, and artifacts whose makers died."""
    key = uuid4()
    async with AIOKafkaProducer(bootstrap_servers=stack.servers, acks="all") as producer:
        for n in range(SPOILED):
            own = list(headers(made(key, f"spoiled-{n}")).items())
            await producer.send_and_wait(TOPIC, b"{not json", key=str(key).encode(), headers=own)
    await until(lambda: _are_held(stack, str(key)), seconds=SETTLE_S)
    for service in ("data", "training"):
        store = Artifacts((stack.folder / "services/artifacts").as_uri(), owner=service)
        for _ in range(SPOILED):
            await asyncio.to_thread(store.put_bytes, uuid4().bytes)


async def _are_held(stack: Stack, key: str) -> bool:
    return len((await held_events(stack).list(SPOILED, Which(LISTENER, TOPIC, key))).events) == SPOILED


@asynccontextmanager
async def _watching(probe: Probe) -> AsyncIterator[None]:
    """Watch runs and housekeeping until the block ends, however it does; whoever watches and fails ends the block."""
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(probe.watch_runs()), group.create_task(probe.watch_housekeeping())]
        try:
            await asyncio.wait_for(probe.watched.wait(), SETTLE_S)
            yield
        finally:
            for task in watching:
                task.cancel()


async def _half_rate(stack: Stack, history: History) -> float:
    """Return the rate at which the stack and its clients take half of all processors."""
    load = Clients(stack, history)
    async with load:
        await asyncio.sleep(CALIBRATION_S / 2)
        before, began = _cpu_s(stack), time.monotonic()
        await asyncio.sleep(CALIBRATION_S)
        share = (_cpu_s(stack) - before) / (time.monotonic() - began) / (psutil.cpu_count() or 1)
    return min(max(HALF / share, RATES[0]), RATES[1])


def _cpu_s(stack: Stack) -> float:
    total = 0.0
    for pid in (os.getpid(), *(part.pid for part in stack.parts.values())):
        process = psutil.Process(pid)
        children = [] if pid == os.getpid() else process.children(recursive=True)
        for each in (process, *children):
            with suppress(psutil.NoSuchProcess):  # a child that has just ended counts with its parent
                used = each.cpu_times()
                total += (
                    used.user + used.system + (used.children_user + used.children_system if pid != os.getpid() else 0)
                )
    return total


async def _settled(probe: Probe) -> dict[str, int]:
    """Return how many runs were asked for, began, ended and succeeded, once all have ended, or after a while."""
    asked = len({entry.key for op in ("trigger", "start") for entry in probe.history.of(op)})
    deadline = time.monotonic() + SETTLE_S
    while probe.ended < asked and time.monotonic() < deadline:
        await asyncio.sleep(1)
    counted = {"began": probe.runs["RunStarted"], "ended": probe.ended, "succeeded": probe.runs["RunSucceeded"]}
    return {"asked": asked, **counted}


if __name__ == "__main__":
    sys.exit(main())
