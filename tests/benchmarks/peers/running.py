"""A peer's processes: started one after another, counted together, ended in reverse order with all they started."""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import psutil
from millrace.sdk.stack.ports import is_free
from millrace.sdk.stack.postgres import Postgres
from millrace.sdk.stack.program import Child, Program, last_lines, wait_until

from tests.benchmarks.peers.environment import NotRun
from tests.benchmarks.peers.load import ANSWER
from tests.benchmarks.processes import cpu_s, kill, tree

ROOT = Path(__file__).resolve().parents[3]
START_S = 180.0
DRAIN_S = 600.0
STOP_S = 10.0
#: The programs of peers are modules of this repository; nobody is told of what they do.
SURROUNDINGS = {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}


class Part(Protocol):
    """What runs as one process and those that it starts."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def stop(self) -> None:
        """End it in order, or by force when that takes too long."""


class Loop:
    """The program of a peer that does runs in a closed loop (`load.py`), for as long as it is told."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as written:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def go(self, seconds: float) -> tuple[int, float]:
        """Begin runs for so long; return how many were done, and the seconds until the last had ended.

        Raises:
            NotRun: The program ended, or took ten minutes more than it was given.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the program was started without pipes")
        limit = threading.Timer(seconds + DRAIN_S, lambda: kill(tree(self.pid)))
        limit.start()
        try:
            with suppress(BrokenPipeError):  # what it said last is in its log
                self._process.stdin.write(f"{seconds}\n")
                self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith(ANSWER):
                    _, done, took_s = line.split()
                    return int(done), float(took_s)
        finally:
            limit.cancel()
        raise NotRun(f"its program ended in the middle of the load:\n{last_lines(self._log)}")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


class Running:
    """What runs of a peer, until the block ends.

    Attributes:
        folder: Where its data and logs are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[str, Part] = {}
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._look()
        with ExitStack() as ends:
            ends.callback(kill, self._seen)
            for part in self._parts.values():
                ends.callback(part.stop)

    def _look(self) -> None:
        """Remember what runs, so that it is ended even when whoever started it has ended before."""
        for part in self._parts.values():
            with suppress(psutil.NoSuchProcess):
                self._seen.update(tree(part.pid))

    def start(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        """Start a process and return when it is ready.

        Raises:
            CannotStart: It ended, or was not ready in time.
        """
        surroundings = {**SURROUNDINGS, **(environment or {})}
        program = Program(name, tuple(command), self.folder / f"{name}.log", surroundings, user)
        self._parts[name] = child = Child(program)
        child.start()
        wait_until(ready, child.alive, program, START_S)

    def database(self, *names: str, tcp: tuple[str, int] | None = None) -> Postgres:
        """Start the PostgreSQL that our own services have, with databases of these names, and return it.

        Raises:
            CannotStart: It did not start.
        """
        self._parts["database"] = postgres = Postgres(self.folder / "postgres", self.folder / "postgres.log", tcp=tcp)
        postgres.start()
        for name in names:
            postgres.create_database(name)
        return postgres

    def loop(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Loop:
        """Start the program that does the runs."""
        self._parts["loop"] = loop = Loop(command, {**SURROUNDINGS, **(environment or {})}, self.folder / "loop.log")
        return loop

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time that each part has used."""
        self._look()
        return {name: cpu_s(part.pid) for name, part in self._parts.items()}


def listening(port: int) -> Callable[[], bool]:
    """Return what tells whether somebody listens on a port of the loopback address."""
    return lambda: not is_free(port)
