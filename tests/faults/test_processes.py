"""Rows about processes: one that crashes in a loop, freezes, is replaced, loses its clock, its memory, its power."""

import asyncio
import math
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from millrace.contracts import SERVICES
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import until

from tests.faults.cgroup import enter, killed_in, memory_limit, needs_group
from tests.faults.declared import FULL as FULL_RUN
from tests.faults.judge import Judged
from tests.faults.load import Load
from tests.faults.places import acted, end, start_armed
from tests.faults.rows import MEASURED, needs_root, row
from tests.faults.stack import Stack, running
from tests.faults.ticks import EVERY_S, WAIT_S, ticking
from tests.faults.topics import ends
from tests.journeys.shop import ENDED

LOOP_S = 60.0
#: A service looks at what it needs every few seconds, and says so in its metrics.
CLEARED_S = 20.0
#: Longer than any lease, session or lock lasts; also a border of the metric of how long tasks took.
FROZEN_S = 60.0
TAKEN_OVER_S = 60.0
#: One task of those under way has worked and has not said so: its lease is held.
HOLD = "tasks.worked=sleep:8@10"
#: Likewise the first one, of a service that has few.
HOLD_FIRST = "tasks.worked=sleep:8@1"
OFF_S = 3.0
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
#: What a clock is told -> by how much it is then ahead, seconds.
JUMPS = {"+1h": 3600.0, "-1h": -3600.0}
#: The latest that a timer fires, whatever its host's clock says.
LATE_S = 10.0
#: A clock that is a fifth too fast.
DRIFT, DRIFT_PER_S = "+0 x1.2", 0.2
#: By how much a clock may be off what it is told: it drifts from the start of its process on.
NEAR_S = 300.0
SEEN_S = 15.0
REPLICAS = ("", "-1")


@pytest.fixture(scope="module")
async def pair(module_folder: Path) -> AsyncIterator[Stack]:
    """A stack with two replicas of every service."""
    async with running(module_folder, replicas=len(REPLICAS)) as made:
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
            alert = await is_ready(stack, "feature")
        finally:
            broken.prefix = []
        after = await ends(stack.servers)
        crashed = broken.starts - starts
        fault.over()
        await fault.recovered()
        await until(partial(is_ready, stack, "feature"), seconds=CLEARED_S)

    assert crashed > LOOP_S / 2
    assert alert is None, "ServiceNotReady is raised while it does not answer"
    waiting = sum(after[place] - before[place] for place in after if place.topic == "control.tasks.feature")
    assert fault.seen is not None
    full = sum(run.workflow == FULL_RUN for run in fault.seen.runs.values())
    assert 0 < waiting <= full, "control dispatches again what nobody can take"


async def is_ready(stack: Stack, service: str) -> float | None:
    """Return what a service measures of whether it is of use; None where it does not answer."""
    return (await stack.metrics(service)).get(f'millrace_ready{{service="{service}"}}')


@row(4)
async def test_row_04_what_was_frozen_finds_others_at_its_work(pair: Stack, judged: Judged) -> None:
    late = []
    async with judged(4, pair, f"SIGSTOP of one replica of each service, then of the other, {FROZEN_S:g} s") as fault:
        for ordinal in REPLICAS:
            holder = f"data{ordinal}"
            await holding_a_lease(pair, holder)
            frozen = [holder, *(f"{service}{ordinal}" for service in SERVICES if service != "data")]
            for part in frozen:
                pair.signal(part, signal.SIGSTOP)
            try:
                await asyncio.gather(a_run_ends(fault.load, TAKEN_OVER_S), asyncio.sleep(FROZEN_S))
            finally:
                for part in frozen:
                    pair.signal(part, signal.SIGCONT)
            if ordinal == REPLICAS[-1]:
                fault.over()
            else:
                await pair.ready()
            late.append(await until(partial(late_ends, pair, holder)))

    assert fault.seen is not None
    again = [task for run in fault.seen.runs.values() for task in run.tasks if task.attempts > 1]
    assert len(again) >= sum(late), "who holds a lease that has lapsed has lost it"
    assert {task.state for task in again} == {"succeeded"}
    took_s = [told.value["duration_s"] for told in fault.seen.told if told.type == "TaskSucceeded"]
    assert max(took_s) < FROZEN_S, "what ended late was refused"


async def holding_a_lease(stack: Stack, part: str, hold: str = HOLD) -> None:
    """Start a part anew, and return while it holds the lease of a task that has worked."""
    await end(stack, part)
    since = stack.parts[part].log.stat().st_size
    start_armed(stack, part, hold)
    await acted(stack, part, hold.partition("=")[0], since)


async def late_ends(stack: Stack, part: str) -> float:
    """Return how many tasks of a part have worked well that it had accepted before it was frozen."""
    counts = {"+Inf": 0.0, f"{FROZEN_S}": 0.0}
    for name, value in (await stack.metrics(part)).items():
        if name.startswith("millrace_task_duration_seconds_bucket{") and 'outcome="succeeded"' in name:
            for border in counts:
                counts[border] += value if f'le="{border}"' in name else 0
    return counts["+Inf"] - counts[f"{FROZEN_S}"]


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
async def clocks(stack: Stack) -> AsyncIterator[dict[str, Path]]:
    """Start every service under a clock of its own; yield by service the files that say how wrong each is."""
    files = {service: stack.folder / f"{service}.clock" for service in SERVICES}
    for service, file in files.items():
        file.write_text("+0\n")
        told = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1"}
        # What only measures how long something takes is not set by anybody.
        told |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        stack.parts[service].environment |= told
    try:
        await asyncio.gather(*(stack.restart(service) for service in SERVICES))
        yield files
    finally:
        for service in SERVICES:
            stack.parts[service].environment.pop("LD_PRELOAD")
        await asyncio.gather(*(stack.restart(service) for service in SERVICES))


@row(21)
async def test_row_21_a_clock_that_is_wrong_moves_no_timer_token_or_lease(
    stack: Stack, judged: Judged, record_property: Callable[[str, object], None]
) -> None:
    if not LIBRARY.exists():
        needs_root("needs libfaketime")
    told = f"the clock of each service in turn: {', '.join([*JUMPS, DRIFT])}"
    async with clocks(stack) as files, judged(21, stack, told) as fault:
        async with ticking(stack) as ticks:
            await turned(stack, files)
        fault.over()

    record_property(MEASURED, str(ticks))
    assert ticks.gaps_s() == {EVERY_S}, "each moment fires once"
    assert len(ticks.moments) * EVERY_S > ticks.ran_s - LATE_S
    assert ticks.begun_late_s < LATE_S
    assert WAIT_S <= ticks.waited_s[0] <= ticks.waited_s[1] < WAIT_S + LATE_S
    for op in ("start", "predict", "read"):
        assert not fault.history.of(op, "fail")
    assert fault.seen is not None
    lost = [told.value for told in fault.seen.told if told.type == "TaskFailed" and told.value["error"] == "lost"]
    assert not lost


async def turned(stack: Stack, files: dict[str, Path]) -> None:
    """Have the clock of each service in turn jump, and then drift."""
    for service, file in files.items():
        for wrong, ahead_s in JUMPS.items():
            file.write_text(f"{wrong}\n")
            await until(partial(is_about, stack, service, ahead_s), seconds=SEEN_S)
            await asyncio.sleep(OFF_S)
        file.write_text(f"{DRIFT}\n")
        await until(partial(is_about, stack, service, 0), seconds=SEEN_S)
        drifted_s = await ahead(stack, service) + OFF_S * DRIFT_PER_S / 2
        await until(partial(is_past, stack, service, drifted_s), seconds=SEEN_S)
        file.write_text("+0\n")


async def ahead(stack: Stack, service: str) -> float:
    """Return how far a service says that its clock is ahead of its database's, seconds; NaN where it says nothing."""
    return -(await stack.metrics(service)).get("millrace_clock_skew_seconds", math.nan)


async def is_about(stack: Stack, service: str, seconds: float) -> bool:
    """Whether a service says that its clock is ahead by about so much."""
    return abs(await ahead(stack, service) - seconds) < NEAR_S


async def is_past(stack: Stack, service: str, seconds: float) -> bool:
    """Whether a service says that its clock is ahead by more than that."""
    return await ahead(stack, service) > seconds


def server_of_children(pid: int) -> int:
    """Return the process that forks a service's task children."""
    found = [child.pid for child in psutil.Process(pid).children() if "forkserver" in " ".join(child.cmdline())]
    assert found
    return found[0]


@row(31)
async def test_row_31_what_the_kernel_kills_for_memory_is_done_again(stack: Stack, judged: Judged) -> None:
    needs_group("memory")
    async with judged(31, stack, "OOM kill of data's task children and of feature at work", settle_s=120) as fault:
        with memory_limit(4) as children:
            enter(children, server_of_children(stack.pid("data")))
            await fault.load.full()
            await until(lambda: asyncio.to_thread(killed_in, children), seconds=30)
        await asyncio.gather(holding_a_lease(stack, "feature", HOLD_FIRST), fault.load.full())
        # What it has given back to its own heap it may take again: only a limit of nothing at all is surely passed.
        with memory_limit(0) as service:
            enter(service, stack.pid("feature"))
            await until(lambda: asyncio.to_thread(killed_in, service), seconds=30)
        fault.over()

    assert fault.seen is not None
    again = [task for run in fault.seen.runs.values() for task in run.tasks if task.attempts > 1]
    # Of data the kernel may take a child at work, or the process that forks them while none is.
    assert "feature.materialise" in {task.kind for task in again}
    assert {task.state for task in again} == {"succeeded"}


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
