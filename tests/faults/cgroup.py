"""Control groups of version 1: how much memory, or of a processor, some processes are given."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

from tests.faults.rows import needs_root

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000

Controller = Literal["memory", "cpu"]


def needs_group(controller: Controller) -> None:
    """Leave a row out where no such group can be made; the reason says what is missing."""
    members = ROOT / controller / "cgroup.procs"
    if not members.exists():
        needs_root(f"needs control groups of version 1 for {controller}")
    if not os.access(members, os.W_OK):
        needs_root()


@contextmanager
def memory_limit(megabytes: int) -> Iterator[Path]:
    """Lend a group whose members may take so much memory from when they are in it."""
    with _group("memory") as folder:
        (folder / "memory.limit_in_bytes").write_text(str(megabytes << 20))
        try:
            yield folder
        finally:
            (folder / "memory.limit_in_bytes").write_text("-1")


@contextmanager
def processor_share(share: float) -> Iterator[Path]:
    """Lend a group whose members have so much of one processor, all together."""
    with _group("cpu") as folder:
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(int(share * PERIOD_US)))
        try:
            yield folder
        finally:
            (folder / "cpu.cfs_quota_us").write_text("-1")


def enter(folder: Path, pid: int) -> None:
    """Put a process into a group."""
    (folder / "cgroup.procs").write_text(str(pid))


def peak_mib(folder: Path) -> float:
    """Return the most memory that a group has had."""
    return int((folder / "memory.max_usage_in_bytes").read_text()) / (1 << 20)


def killed_in(folder: Path) -> int:
    """Return how many processes of a group the kernel has killed for want of memory."""
    counts = dict(line.split() for line in (folder / "memory.oom_control").read_text().splitlines())
    return int(counts["oom_kill"])


def throttled_in(folder: Path) -> int:
    """Return in how many periods a group wanted more of a processor than it has."""
    counts = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    return int(counts["nr_throttled"])


@contextmanager
def _group(controller: Controller) -> Iterator[Path]:
    """Lend a group; who is in it at the end is let out."""
    folder = ROOT / controller / f"millrace-faults-{uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        while members := (folder / "cgroup.procs").read_text().split():
            for pid in members:
                with suppress(OSError):  # it has just ended
                    enter(folder.parent, int(pid))
        folder.rmdir()
