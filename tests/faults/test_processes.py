"""Rows about processes: one that crashes in a loop, freezes, is replaced, loses its clock, its memory, its power."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from millrace.contracts import SERVICES
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import until

from tests.faults.judge import Judged
from tests.faults.load import Load
from tests.faults.rows import needs_root, row
from tests.faults.stack import Stack, running
from tests.faults.topics import ends
from tests.journeys.shop import ENDED

LOOP_S = 60.0
#: Longer than any lease, session or lock lasts.
FROZEN_S = 30.0
TAKEN_OVER_S = 60.0
OFF_S = 3.0
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
CLOCKS = ("+1h", "-1h", "+0 x1.2")
CGROUPS = Path("/sys/fs/cgroup/memory")
REPLICAS = ("", "-1")


@pytest.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack with two replicas of every service."""
    async with running(tmp_path_factory.mktemp("pair"), replicas=len(REPLICAS)) as made:
        yield made


async def a_run_ends(load: Load, seconds: float) -> None:
    """Start a run and return when it has ended."""
    event = await load.light()

    async def ended() -> bool:
        try:
            run = await load.run_of(event)
        except MillraceError:
            return False
        return run is not None and run.state in ENDED

    await until(ended, seconds=seconds)


@row(3)
async def test_row_03_while_one_service_crashes_in_a_loop_the_others_go_on(stack: Stack, judged: Judged) -> None:
    broken = stack.parts["feature"]
    async with judged(3, stack, f"feature's start exits 1 for {LOOP_S:g} s", settle_s=120) as fault:
        before, starts = await ends(stack.servers), broken.starts
        broken.prefix = ["false"]
        stack.signal("feature", signal.SIGKILL)
        try:
            await asyncio.sleep(LOOP_S / 2)
            await a_run_ends(fault.load, 20)
            await asyncio.sleep(LOOP_S / 2)
        finally:
            broken.prefix = []
        after = await ends(stack.servers)
        crashed = broken.starts - starts
        fault.over()

    assert crashed > LOOP_S / 2
    waiting = sum(after[place] - before[place] for place in after if place.topic == "control.tasks.feature")
    assert waiting <= 2 * len(fault.history.of("trigger")), "control dispatches again what nobody can take"


@row(4)
async def test_row_04_what_was_frozen_finds_others_at_its_work(pair: Stack, judged: Judged) -> None:
    async with judged(4, pair, f"SIGSTOP of one replica of each service, then of the other, {FROZEN_S:g} s") as fault:
        for ordinal in REPLICAS:
            frozen = [f"{service}{ordinal}" for service in SERVICES]
            for part in frozen:
                pair.signal(part, signal.SIGSTOP)
            try:
                await asyncio.gather(a_run_ends(fault.load, TAKEN_OVER_S), asyncio.sleep(FROZEN_S))
            finally:
                for part in frozen:
                    pair.signal(part, signal.SIGCONT)
            if ordinal != REPLICAS[-1]:
                await pair.ready()
        fault.over()


@row(5)
async def test_row_05_no_call_fails_while_every_process_is_replaced(pair: Stack, judged: Judged) -> None:
    async with judged(5, pair, "SIGTERM of all 14 processes, one after another") as fault:
        for ordinal in REPLICAS:
            for service in SERVICES:
                await pair.restart(f"{service}{ordinal}")
        fault.over()

    for op in ("start", "predict", "read"):
        assert fault.history.of(op, "ok")
        assert not fault.history.of(op, "unknown")
        assert not fault.history.of(op, "fail")


@asynccontextmanager
async def clocks(stack: Stack) -> AsyncIterator[list[Path]]:
    """Start every service under a clock of its own; yield the files that say how wrong each is."""
    files = {service: stack.folder / f"{service}.clock" for service in SERVICES}
    for service, file in files.items():
        file.write_text("+0\n")
        told = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1"}
        # What only measures how long something takes is not set by anybody.
        told |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        stack.parts[service].environment |= told
    try:
        await asyncio.gather(*(stack.restart(service) for service in SERVICES))
        yield list(files.values())
    finally:
        for service in SERVICES:
            stack.parts[service].environment.pop("LD_PRELOAD")
        await asyncio.gather(*(stack.restart(service) for service in SERVICES))


@row(21)
async def test_row_21_a_clock_that_is_wrong_moves_no_timer_token_or_lease(stack: Stack, judged: Judged) -> None:
    if not LIBRARY.exists():
        needs_root("needs libfaketime")
    told = f"the clock of each service in turn: {', '.join(CLOCKS)}"
    async with clocks(stack) as files, judged(21, stack, told) as fault:
        for file in files:
            for wrong in (*CLOCKS, "+0"):
                file.write_text(f"{wrong}\n")
                await asyncio.sleep(OFF_S)
        fault.over()

    for op in ("start", "predict", "read"):
        assert not fault.history.of(op, "fail")
    assert fault.seen is not None
    lost = [told.value for told in fault.seen.told if told.type == "TaskFailed" and told.value["error"] == "lost"]
    assert not lost


@contextmanager
def memory_limit(name: str, megabytes: int) -> Iterator[Path]:
    """Yield a memory cgroup whose members may take so much more; what is left in it is let out at the end."""
    folder = CGROUPS / name
    try:
        folder.mkdir()
    except OSError:
        needs_root("needs root and a memory cgroup (v1)")
    try:
        (folder / "memory.limit_in_bytes").write_text(str(megabytes << 20))
        yield folder
    finally:
        (folder / "memory.limit_in_bytes").write_text("-1")
        while members := (folder / "cgroup.procs").read_text().split():
            for pid in members:
                with suppress(OSError):  # it has just ended
                    (CGROUPS / "cgroup.procs").write_text(pid)
        folder.rmdir()


def killed_in(folder: Path) -> int:
    """Return how many processes of a cgroup the kernel has killed for want of memory."""
    counts = dict(line.split() for line in (folder / "memory.oom_control").read_text().splitlines())
    return int(counts["oom_kill"])


def server_of_children(pid: int) -> int:
    """Return the process that forks a service's task children."""
    found = [child.pid for child in psutil.Process(pid).children() if "forkserver" in " ".join(child.cmdline())]
    assert found
    return found[0]


@row(31)
async def test_row_31_what_the_kernel_kills_for_memory_is_done_again(stack: Stack, judged: Judged) -> None:
    async with judged(31, stack, "OOM kill of data's task children and of feature", settle_s=120) as fault:
        with memory_limit("millrace-faults-children", 4) as children:
            (children / "cgroup.procs").write_text(str(server_of_children(stack.pid("data"))))
            await fault.load.full()
            await until(lambda: asyncio.to_thread(killed_in, children), seconds=30)
        with memory_limit("millrace-faults-service", 2) as service:
            (service / "cgroup.procs").write_text(str(stack.pid("feature")))
            await until(lambda: asyncio.to_thread(killed_in, service), seconds=30)
        fault.over()


@row(38)
async def test_row_38_after_a_power_cut_all_is_as_it_was(stack: Stack, judged: Judged) -> None:
    order = random.sample(sorted(stack.parts), len(stack.parts))
    async with judged(38, stack, f"kill -9 of everything; started as {', '.join(order)}") as fault:
        for name in order:
            stack.hold_down(name)
        everything = [psutil.Process(pid) for name in order if (pid := stack.pid(name))]
        for process in [*everything, *(child for one in everything for child in one.children(recursive=True))]:
            process.kill()
        for name in order:
            await asyncio.sleep(random.uniform(0, 1))
            stack.let_up(name)
        fault.over()
