"""Workers that start as fast as they are killed: what they import is imported once, and each is forked from there."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import uvloop
from millrace.sdk.worker import WorkerSettings, kinds_of, serve


class Nursery:
    """A process that forks workers of a queue.

    Args:
        queue: Whose tasks they do.
        module: Where the functions are, a module in the folder.
        folder: Where it runs; what the workers log is there.
        environment: What the workers are told.
    """

    def __init__(self, queue: str, module: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.log = folder / "workers.log"
        command = [sys.executable, "-m", __name__, queue, module, str(self.log)]
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | environment | {"PYTHONPATH": os.pathsep.join((root, str(folder)))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._worker = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.kill()
        self._process.communicate(timeout=10)

    def start(self) -> int:
        """Start a worker; return its process's id."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("it has no pipes")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._worker = int(self._process.stdout.readline())
        return self._worker

    def kill(self) -> None:
        """End the worker as by `kill -9`."""
        if self._worker:
            os.kill(self._worker, signal.SIGKILL)
            self._worker = 0


def main(queue: str, module: str, log: str) -> None:
    """Fork a worker for each line that is read, and write its process's id."""
    kinds = kinds_of(module, queue)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    for _ in sys.stdin:
        if worker := os.fork():
            sys.stdout.write(f"{worker}\n")
            sys.stdout.flush()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        kept = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            os.dup2(kept, stream.fileno())
        uvloop.run(serve(queue, kinds, WorkerSettings()))
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
