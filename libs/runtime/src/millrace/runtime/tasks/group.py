"""Processes that work starts are in one group with it, and end with it, however that ends."""

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def lead() -> None:
    """Have this process lead a group of its own, and die with the one that forked it, even while it cannot run."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_own() -> None:
    """End this process's group, this process with it."""
    os.killpg(0, signal.SIGKILL)


def end(pid: int | None) -> None:
    """End the group that a process leads, where there is anything left of it."""
    if pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
