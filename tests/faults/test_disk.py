"""Disks that are full: the broker's, PostgreSQL's, that of artifacts, that of logs."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from millrace.contracts import SERVICES
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import until

from tests.faults.disk import can_mount, filled, small_disk
from tests.faults.judge import Judged
from tests.faults.load import Load
from tests.faults.rows import needs_root, row
from tests.faults.stack import Stack, running

FULL_S = 8.0
#: A disk stays full until whoever writes there has said so; there may be room in what it has taken before.
FELT_S = 40.0
NO_SPACE = "No space left on device"
_MEGABYTES = {"kafka": 256, "postgres": 512, "services": 64, "services/artifacts": 64}


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Folders of a stack, each on a small disk of its own; `services` holds the logs."""
    if not can_mount(tmp_path):
        needs_root()
    with ExitStack() as mounted:
        yield {name: mounted.enter_context(small_disk(tmp_path / name, size)) for name, size in _MEGABYTES.items()}


@row(19)
async def test_row_19_a_full_disk_is_a_clean_error_and_all_goes_on_once_there_is_room(
    tmp_path: Path, disks: dict[str, Path], judged: Judged
) -> None:
    folders = {name: disks[name] for name in ("kafka", "postgres")}
    async with running(tmp_path, folders=folders) as stack:
        async with judged(19, stack, "full in turn: broker, PostgreSQL, artifacts, logs") as fault:
            for name in ("kafka", "postgres", "services/artifacts"):
                with filled(disks[name]):
                    await asyncio.gather(felt(stack, name, fault.load), asyncio.sleep(FULL_S))
                async with asyncio.timeout(fault.bound_s):
                    await fault.load.probe()
            lives = {name: stack.parts[name].starts for name in SERVICES}
            with filled(disks["services"]):
                await asyncio.sleep(FULL_S)
                measured = await stack.metrics("control")
            fault.over()

        assert measured["millrace_log_writes_lost_total"] > 0
        assert {name: stack.parts[name].starts for name in SERVICES} == lives
        assert not [entry for entry in fault.history.entries if "internal error" in str(entry.value)]


async def felt(stack: Stack, disk: str, load: Load) -> None:
    """Return when who writes to a disk has said that there is no room on it.

    Raises:
        AssertionError: It did not, in all the time that the disk was full.
    """
    if disk in stack.parts:
        log = stack.parts[disk].log
        await until(partial(_says, log, log.stat().st_size), seconds=FELT_S)
    else:
        await until(partial(_is_refused, load, await load.full()), seconds=FELT_S)


async def _says(log: Path, since: int) -> bool:
    """Whether a log says so after so many bytes."""
    with log.open("rb") as file:
        file.seek(since)
        return NO_SPACE.encode() in file.read()


async def _is_refused(load: Load, event: str) -> bool:
    """Whether a step of what an event started has failed because there was no room for what it made."""
    try:
        run = await load.run_of(event)
    except MillraceError:
        return False
    return run is not None and any("Unavailable: " in task.error and NO_SPACE in task.error for task in run.tasks)
