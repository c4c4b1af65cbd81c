"""Disks that are full: the broker's, PostgreSQL's, that of artifacts, that of logs."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from millrace.contracts import SERVICES

from tests.faults.disk import can_mount, filled, small_disk
from tests.faults.judge import Judged
from tests.faults.rows import needs_root, row
from tests.faults.stack import running

FULL_S = 8.0
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
                    await asyncio.sleep(FULL_S)
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
