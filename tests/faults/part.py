"""One process of the stack, kept running: what ends is started again, unless it is held down."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals

import psutil
from millrace.sdk.stack.program import Child, Program, account, last_lines

RESTART_S = 0.3
LOOK_S = 0.05
_TO_A_TREE = frozenset({SIGSTOP, SIGCONT})


class Part:
    """One process of the stack.

    Args:
        program: Says how it is run.
        is_ready: Whether it serves now.

    Attributes:
        environment: What it is told besides at its next start.
        prefix: What stands before its command at its next start, such as `ip netns exec NAME`.
        held: It is not started again when it ends.
        starts: How often it was started.
    """

    def __init__(self, name: str, program: Callable[[], Program], is_ready: Callable[[], bool]) -> None:
        self.name = name
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []
        self.held = True
        self.starts = 0
        self._program = program
        self._is_ready = is_ready
        self._child = Child(program())
        self._ended_at = 0.0
        self._usual: tuple[dict[str, str], list[str]] = ({}, [])
        self._started = self._usual

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._child.pid if self.alive() else 0

    @property
    def log(self) -> Path:
        """The file that takes what it writes."""
        return self._program().log

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.alive()

    def ready(self) -> bool:
        """Whether it runs and serves."""
        return self.alive() and self._is_ready()

    def start(self) -> None:
        """Start it; it may not be ready yet."""
        self._ended_at = 0.0
        self.starts += 1
        self._started = (dict(self.environment), [*self.prefix])
        self._child = Child(self._prefixed())
        self._child.start()

    def be_usual(self) -> None:
        """Take how it is told to run now for how it is to be after each test."""
        self._usual = (dict(self.environment), [*self.prefix])

    def mend(self) -> None:
        """Have it run as usual, whatever a test has left behind."""
        self.signal(SIGCONT)
        self.environment, self.prefix = dict(self._usual[0]), [*self._usual[1]]
        if self._started != self._usual:
            self.end(SIGKILL)
        self.held = False

    def signal(self, number: Signals) -> None:
        """Send it a signal; what stops or continues goes to all its children too."""
        if not self.alive():
            return
        if number not in _TO_A_TREE:
            self._child.send(number)
            return
        with suppress(psutil.NoSuchProcess):
            whole = psutil.Process(self.pid)
            for process in [whole, *whole.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def end(self, number: Signals, seconds: float = 30) -> None:
        """Send it a signal and wait until it has ended, by force when it takes longer."""
        self._child.program = replace(self._child.program, stop_s=seconds)
        self._child.stop(number)

    def keep(self, now: float) -> None:
        """Start it again when it has been gone for a moment."""
        if self.held or self.alive():
            self._ended_at = 0.0
        elif not self._ended_at:
            self._ended_at = now
        elif now - self._ended_at >= RESTART_S:
            self.start()

    def last_lines(self) -> str:
        """Return the end of what it wrote."""
        return last_lines(self.log, 30)

    def _prefixed(self) -> Program:
        """Return its program as it is run next; a prefix may need rights that its user does not have."""
        program = by_its_user(self._program())
        environment = {**program.environment, **self.environment}
        return replace(program, command=(*self.prefix, *program.command), environment=environment)


def by_its_user(program: Program) -> Program:
    """Return a program that changes to its user by itself: for Python to do so takes a fork, in which gRPC crashes."""
    if program.user is None:
        return program
    found = account(program.user)
    change = ("setpriv", f"--reuid={found.uid}", f"--regid={found.gid}", "--clear-groups")
    return replace(program, command=(*change, *program.command), user=None)


async def keep(parts: Iterable[Part]) -> None:
    """Keep parts running until cancelled."""
    while True:
        for part in parts:
            part.keep(time.monotonic())
        await asyncio.sleep(LOOK_S)
