"""The process supervisor of the stack: supervisord, its configuration and its orders."""

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.program import Program, last_lines
from millrace.sdk.stack.state import State
from supervisor.xmlrpc import SupervisorTransport

_START_S = 15.0
_POLL_S = 0.05
#: A program that keeps ending is tried with growing pauses of 1, 2, 3 … s, then given up.
_START_RETRIES = 8
_LOG_BYTES = 10 * 1024 * 1024
_LOG_FILES = 3
_FAULT_ALREADY_STARTED = 60
_FAULT_NOT_RUNNING = 70


@dataclass(frozen=True)
class ProgramStatus:
    """What the supervisor knows of a program.

    Attributes:
        state: The supervisor's word: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN.
        pid: Process id; 0 when it does not run.
        up_s: How long it has run, seconds.
        said: The supervisor's note, such as how it ended.
    """

    name: str
    state: str
    pid: int
    up_s: int
    said: str


def supervisor_config(state: State, programs: Iterable[Program]) -> str:
    """Return the configuration of a supervisor for these programs; none starts by itself."""
    sections = [_config(state)]
    sections += [_program_config(program) for program in programs]
    return "\n".join(sections)


def start_supervisor(state: State, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
    """Start the supervisor in the background and return when it takes orders.

    Raises:
        CannotStart: It did not come up.
    """
    state.supervisor_config.write_text(supervisor_config(state, programs))
    state.supervisor_socket.unlink(missing_ok=True)
    log = state.log("supervisor")
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(state.supervisor_config)]
    settings = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_START_S, env=settings)
    deadline = time.monotonic() + _START_S
    while done.returncode == 0 and time.monotonic() < deadline:
        if Supervisor(state).pid():
            return
        time.sleep(_POLL_S)
    said = done.stderr.strip() or last_lines(log)
    raise CannotStart(f"the process supervisor did not start; it said\n{said}")


class Supervisor:
    """Orders to the supervisor of a state folder, and what it knows."""

    def __init__(self, state: State) -> None:
        self._socket = state.supervisor_socket

    def pid(self) -> int:
        """Return its process id; 0 when it does not run."""
        try:
            with self._orders() as orders:
                return int(orders.getPID())
        except (OSError, HTTPException):
            return 0

    def start(self, name: str) -> None:
        """Start a program, unless it runs; it may not be ready yet."""
        self._order("startProcess", name, _FAULT_ALREADY_STARTED)

    def begin_stop(self, name: str) -> None:
        """Tell a program to end, unless it has."""
        self._order("stopProcess", name, _FAULT_NOT_RUNNING)

    def shutdown(self) -> None:
        """End the supervisor and whatever still runs under it."""
        with self._orders() as orders:
            orders.shutdown()

    def status(self) -> dict[str, ProgramStatus]:
        """Return what is known of each program; empty when the supervisor does not run."""
        try:
            with self._orders() as orders:
                found = orders.getAllProcessInfo()
        except (OSError, HTTPException):
            return {}
        return {row["name"]: _status(row) for row in found}

    def _order(self, order: str, name: str, fine: int) -> None:
        with self._orders() as orders:
            try:
                getattr(orders, order)(name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != fine:
                    raise CannotStart(f"the supervisor refused {order} {name}: {fault.faultString}") from fault

    @contextmanager
    def _orders(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            yield xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor
        finally:
            transport.close()


def _status(row: Mapping[str, object]) -> ProgramStatus:
    started, now, pid = (int(str(row[name])) for name in ("start", "now", "pid"))
    return ProgramStatus(
        name=str(row["name"]),
        state=str(row["statename"]),
        pid=pid,
        up_s=now - started if pid else 0,
        said=str(row["spawnerr"] or row["description"]),
    )


def _config(state: State) -> str:
    return f"""[supervisord]
logfile={_value(state.log("supervisor"))}
logfile_maxbytes={_LOG_BYTES}
logfile_backups={_LOG_FILES}
loglevel=info
silent=true
pidfile={_value(state.run / "supervisor.pid")}
identifier=millrace
{"user=root" if os.geteuid() == 0 else ""}

[unix_http_server]
file={_value(state.supervisor_socket)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


def _program_config(program: Program) -> str:
    return f"""[program:{program.name}]
command={_value(shlex.join(program.command))}
directory=/
autostart=false
autorestart=true
startsecs=1
startretries={_START_RETRIES}
stopsignal={program.stop_signal.name.removeprefix("SIG")}
stopwaitsecs={program.stop_s:.0f}
killasgroup=true
redirect_stderr=true
stdout_logfile={_value(program.log)}
stdout_logfile_maxbytes={_LOG_BYTES}
stdout_logfile_backups={_LOG_FILES}
{f"user={program.user}" if program.user else ""}
"""


def _value(value: str | Path) -> str:
    return str(value).replace("%", "%%")
