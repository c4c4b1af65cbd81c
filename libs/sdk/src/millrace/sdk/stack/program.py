"""A program of the stack, and how one is run without a supervisor."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from millrace.sdk.stack.failure import CannotStart

_POLL_S = 0.02
_SHOWN_LINES = 15


@dataclass(frozen=True)
class Program:
    """A long-running process: how it is started, stopped and where it writes.

    Attributes:
        log: File that takes its standard output and error.
        user: System user it runs as; None for the present one.
        stop_signal: Signal that asks it to end in order.
        stop_s: Time it may take to end before it is killed, seconds.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 30


class Child:
    """One program run as a child of this process, for tests and one-off steps."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it was never started."""
        return self._process.pid if self._process else 0

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; it may not be ready yet."""
        self.program.log.parent.mkdir(parents=True, exist_ok=True)
        with self.program.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.program.environment},
                start_new_session=True,
                **run_as(self.program.user),
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self.alive():
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self, number: signal.Signals | None = None) -> None:
        """End it in order, or by force when it takes longer than it may."""
        self.send(number or self.program.stop_signal)
        if self._process is None:
            return
        try:
            self._process.wait(self.program.stop_s)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass(frozen=True)
class Account:
    """A system user."""

    name: str
    uid: int
    gid: int


def account(name: str) -> Account:
    """Return the system user of this name.

    Raises:
        KeyError: There is none.
    """
    entry = pwd.getpwnam(name)
    return Account(name, entry.pw_uid, entry.pw_gid)


class RunAs(TypedDict):
    """What `subprocess` takes to run a program as another user."""

    user: int | None
    group: int | None
    extra_groups: tuple[int, ...] | None


def run_as(user: str | None) -> RunAs:
    """Return what `subprocess` takes to run a program as `user`, or as the present one."""
    if user is None:
        return RunAs(user=None, group=None, extra_groups=None)
    found = account(user)
    return RunAs(user=found.uid, group=found.gid, extra_groups=())


def last_lines(log: Path, count: int = _SHOWN_LINES) -> str:
    """Return the end of a log file, indented; empty when there is none."""
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines)


def wait_until(ready: Callable[[], bool], alive: Callable[[], bool], program: Program, timeout_s: float) -> None:
    """Return when `ready()` holds.

    Raises:
        CannotStart: The program ended, or was not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if ready():
            return
        if not alive():
            raise CannotStart(
                f"{program.name} ended while starting; {program.log} ends with\n{last_lines(program.log)}"
            )
        time.sleep(_POLL_S)
    raise CannotStart(
        f"{program.name} was not ready within {timeout_s:.0f} s; {program.log} ends with\n{last_lines(program.log)}"
    )
