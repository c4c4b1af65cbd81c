"""Processes of a stack whose supervisor is gone, such as after kill -9 of it."""

import os
from contextlib import suppress
from pathlib import Path

import psutil

#: In the environment of every process of a stack: which folder it belongs to.
MARK = "MILLRACE_STATE_FOLDER"
_END_S = 15.0


def end_leftovers(folder: Path) -> int:
    """End every process that belongs to the stack of `folder`; return how many there were."""
    found = [process for process in psutil.process_iter() if process.pid != os.getpid() and _belongs(process, folder)]
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=_END_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_END_S)
    return len(found)


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return bool(process.environ().get(MARK) == str(folder))
    except (psutil.Error, OSError):
        return False
