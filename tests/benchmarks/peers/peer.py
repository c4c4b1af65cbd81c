"""What a peer is, and how one is measured: installed, started, warmed, put under load, ended."""

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
from millrace.sdk.stack.failure import CannotStart

from tests.benchmarks.peers.environment import Environment, NotRun, installed, pinned
from tests.benchmarks.peers.load import STEPS
from tests.benchmarks.peers.running import Loop, Running

WARM_UP_S = 5.0
MEASURED_S = float(os.environ.get("BENCH_PEER_S", "20"))  # fewer give a first idea only


@dataclass(frozen=True)
class Peer:
    """Another engine that does runs of five steps that do nothing, each kept before the next.

    Attributes:
        pins: The folder that says what is installed, and in which versions.
        package: The pinned package whose version is the peer's.
        bar: How many times our processor time per step its own must be, at least.
        setup: How it runs here, in a few words.
        flushes: What is on the disk when a step counts as done.
        start: Starts all its processes, and returns the last: the loop.
    """

    name: str
    pins: Path
    package: str
    bar: float
    setup: str
    flushes: str
    start: Callable[[Environment, Running], Loop]


@dataclass(frozen=True)
class Found:
    """What a peer did under the load.

    Attributes:
        cpu_ms_per_step: Processor time of all its processes, client and database included, milliseconds.
    """

    version: str
    runs_per_s: float
    cpu_ms_per_step: float


def measure(peer: Peer, cache: Path, *, warm_up_s: float = WARM_UP_S, measured_s: float = MEASURED_S) -> Found:
    """Return what a peer does under the load of control's benchmark, with nothing of ours beside it.

    Raises:
        NotRun: It could not be installed, started, or kept running.
    """
    environment = installed(peer.pins, cache.absolute())
    try:
        with tempfile.TemporaryDirectory(prefix=f"millrace-{peer.name}-") as scratch:
            folder = Path(scratch)
            folder.chmod(0o755)  # PostgreSQL may be run by another user
            with Running(folder) as running:
                loop = peer.start(environment, running)
                loop.go(warm_up_s)
                before = running.cpu_s()
                done, took_s = loop.go(measured_s)
                used_s = sum(running.cpu_s().values()) - sum(before.values())
    except CannotStart as failed:
        raise NotRun(str(failed)) from None
    except psutil.NoSuchProcess as gone:
        raise NotRun(f"process {gone.pid} ended under the load") from None
    return Found(pinned(peer.pins, peer.package), done / took_s, used_s / (done * STEPS) * 1000)


def measure_all(peers: Iterable[Peer], cache: Path) -> dict[str, Found | NotRun]:
    """Return what each peer does, or why it does not, by name; one after another."""
    found: dict[str, Found | NotRun] = {}
    for peer in peers:
        try:
            found[peer.name] = measure(peer, cache)
        except NotRun as reason:
            found[peer.name] = reason
    return found
