"""How soon the stack is ready, and what it costs while nothing happens.

`millrace up` on a folder that has run before; each service alone, beside its database and its broker; and the processor
time of all processes together, supervisor, broker and PostgreSQL included, while nobody asks anything.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from millrace.contracts import SERVICES
from millrace.sdk.stack.embedded import Embedded
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.state import Ports
from millrace.sdk.stack.supervise import Supervisor
from rich.console import Console
from rich.table import Table

from tests.benchmarks.bars import tell

UP_S, ALONE_S, IDLE_SHARE = 15.0, 3.0, 0.15
CALM_S, MEASURED_S = 15.0, 30.0
WAIT_S = 60.0
BLOCK = 40
"""How many ports one stack takes."""


def main() -> int:
    """Measure, print a table, and at last the numbers on a line; return 1 when a bound is missed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends the stack too
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="millrace-startup-") as folder, _stack(Path(folder)) as stack:
        up_s = _up_again(Path(folder))
        console.print(f"`millrace up` on an existing folder: {up_s:.1f} s")
        idle, queries = _idle(stack)
        alone = _alone(stack)
    _print(console, alone, idle, queries)
    idle_share = sum(idle.values())
    found = {
        "up_s": round(up_s, 2),
        "slowest_service_s": round(max(alone.values()), 2),
        "idle_cpu_share": round(idle_share, 4),
        "idle_transactions_per_s": round(sum(queries.values()), 1),
    }
    return tell(found, at_most={"up_s": UP_S, "slowest_service_s": ALONE_S, "idle_cpu_share": IDLE_SHARE})


@contextmanager
def _stack(folder: Path) -> Iterator[Embedded]:
    """Yield a stack that has run and was stopped; whatever runs at the end is stopped."""
    stack = Embedded(folder)
    first = next(port for port in free_ports(200) if port % BLOCK == 0)
    stack.up(ports=Ports(first))
    stack.down()
    try:
        yield stack
    finally:
        stack.down()


def _up_again(folder: Path) -> float:
    command = [str(Path(sys.executable).with_name("millrace")), "up", "--state", str(folder), "--json"]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _idle(stack: Embedded) -> tuple[dict[str, float], dict[str, float]]:
    """Return what each part takes while nothing happens: its share of one core, and its transactions per second."""
    time.sleep(CALM_S)
    before, asked, began = _cpu_s(stack), _transactions(stack), time.monotonic()
    time.sleep(MEASURED_S)
    after, later, seconds = _cpu_s(stack), _transactions(stack), time.monotonic() - began
    shares = {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}
    return shares, {name: (later[name] - asked[name]) / seconds for name in SERVICES}


def _transactions(stack: Embedded) -> dict[str, int]:
    """Return how many transactions each database has seen."""
    told = stack.postgres.execute("postgres", "SELECT datname, xact_commit FROM pg_stat_database")
    return {name: int(count) for name, count in (line.split("|") for line in told.splitlines())}


def _cpu_s(stack: Embedded) -> dict[str, float]:
    supervisor = psutil.Process(Supervisor(stack.state).pid())
    found = {"supervisor": _own_s(supervisor)}
    for part in stack.status():
        process = psutil.Process(part.pid)
        found[part.name] = sum(_own_s(each) for each in (process, *process.children(recursive=True)))
    return found


def _own_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    # What children took that have ended since: PostgreSQL's helpers come and go.
    return float(used.user + used.system + used.children_user + used.children_system)


def _alone(stack: Embedded) -> dict[str, float]:
    """Return how long each service takes from the start of its process until it says that it is ready."""
    supervisor = Supervisor(stack.state)
    for name in SERVICES:
        supervisor.begin_stop(name)
    _until(lambda: not any(supervisor.status()[name].pid for name in SERVICES))
    found = {}
    for name in SERVICES:
        began = time.monotonic()
        supervisor.start(name)
        address = f"http://127.0.0.1:{stack.state.ports().http(name)}/readyz"
        _until(partial(_answers, address))
        found[name] = time.monotonic() - began
        supervisor.begin_stop(name)
        _until(lambda name=name: not supervisor.status()[name].pid)
    return found


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=1):
            return True
    except (URLError, OSError):
        return False


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT_S} s")
        time.sleep(0.02)


def _print(console: Console, alone: dict[str, float], idle: dict[str, float], queries: dict[str, float]) -> None:
    table = Table("part", "ready after, s", "idle, % of a core", "idle, transactions/s")
    for name, share in idle.items():
        ready = f"{alone[name]:.2f}" if name in alone else ""
        table.add_row(name, ready, f"{share * 100:.2f}", f"{queries[name]:.1f}" if name in queries else "")
    table.add_row("all", "", f"{sum(idle.values()) * 100:.2f}", f"{sum(queries.values()):.1f}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
