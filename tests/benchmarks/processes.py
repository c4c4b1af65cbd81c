"""What processes and all that they started have used, and their end."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

TRIES = 10
KILL_S = 10.0


def cpu_s(pid: int) -> float:
    """Return the processor time that a process and all it started have used; of this process, its own alone.

    Raises:
        psutil.NoSuchProcess: It has ended.
    """
    if pid == os.getpid():
        return time.process_time()
    for _ in range(TRIES):
        with suppress(psutil.NoSuchProcess):  # a child has just ended: its parent has its time now, so from the start
            return _tree_cpu_s(pid)
    return _tree_cpu_s(pid)


def _tree_cpu_s(pid: int) -> float:
    used_s = 0.0
    for process in tree(pid):
        times = process.cpu_times()
        used_s += times.user + times.system + times.children_user + times.children_system
    return used_s


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started and that still run.

    Raises:
        psutil.NoSuchProcess: It has ended.
    """
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def kill(processes: Iterable[psutil.Process]) -> None:
    """End those that still run, and none that has their number by now."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=KILL_S)
