"""What a worker's tasks have started ends with the worker, however that ends: a process beside it sees to that.

That process runs this file by itself: it imports nothing of ours, and is there in milliseconds.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path

MARK = "MILLRACE_WORKER"
SWEEPS = 5
SWEEP_S = 0.1

#: What closes when the process is gone that is guarded, by its id: a fork has none yet.
_guards: dict[int, int] = {}


def start() -> None:
    """Have all that this process starts from now on end with it, and what that starts in turn.

    Known by its environment, which keeps the mark that is put into this one's: a process that is started with an
    environment of its own and leads a group of its own is let live. Does nothing where there is no /proc.
    """
    if os.getpid() in _guards or not Path("/proc/self/environ").exists():
        return
    resource_tracker.ensure_running()  # unmarked: it tidies up after all that has ended
    mark = os.environ[MARK] = f"{os.getpid()}-{os.urandom(8).hex()}"
    ours, _guards[os.getpid()] = os.pipe()
    guard = subprocess.Popen(  # noqa: S603 - this file
        [sys.executable, "-I", "-S", __file__, mark],
        env={},
        stdin=ours,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(ours)
    guard.returncode = 0  # nobody waits for it: it ends after this process


def main(mark: str) -> None:
    """Wait for the worker to be gone, then kill what it has left."""
    sys.stdin.read()
    for _ in range(SWEEPS):  # what was just being started shows its environment a moment later
        _sweep(f"{MARK}={mark}".encode())
        time.sleep(SWEEP_S)


def _sweep(marked: bytes) -> None:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has just ended, or is another user's
                if marked in (folder / "environ").read_bytes().split(b"\0"):
                    _kill(int(folder.name))


def _kill(pid: int) -> None:
    """Kill a process, with the group that it leads."""
    if os.getpgid(pid) == pid:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
