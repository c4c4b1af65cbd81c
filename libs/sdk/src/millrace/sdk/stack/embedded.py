"""The whole stack of one state folder: up, down and how it is."""

import asyncio
import errno
import fcntl
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from millrace.contracts import SERVICES
from millrace.contracts.catalogue import catalogue
from millrace.sdk.stack.credentials import make_credentials
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.leftovers import MARK, end_leftovers
from millrace.sdk.stack.ports import LOOPBACK
from millrace.sdk.stack.postgres import Postgres
from millrace.sdk.stack.program import Program, wait_until
from millrace.sdk.stack.services import service_environment, service_program
from millrace.sdk.stack.sockets import remove_socket_folder
from millrace.sdk.stack.state import Ports, State
from millrace.sdk.stack.supervise import ProgramStatus, Supervisor, start_supervisor
from millrace.sdk.stack.topics import create_topics

_READY_S = 60.0
_ANSWER_S = 3.0
_STOP_S = 45.0
_POLL_S = 0.1
_NEEDED_BYTES = 1024**3

Phase = Literal["starting", "ready", "stopping", "stopped"]
Tell = Callable[[str, Phase, str], None]


@dataclass(frozen=True)
class PartStatus:
    """How one part of the stack is.

    Attributes:
        ready: Whether it serves now.
        address: Where it answers.
        log: Its log file.
    """

    name: str
    state: str
    ready: bool
    pid: int
    up_s: int
    address: str
    log: str


class Embedded:
    """The stack of one state folder.

    Args:
        folder: The state folder; made when missing.
        services: Which of the seven to run.
        roots: Folders from which `data.ingest` may read.
    """

    def __init__(self, folder: Path, services: Sequence[str] = SERVICES, roots: Sequence[Path] = ()) -> None:
        self.state = State(folder.expanduser().resolve())
        self.services = services
        self._roots = [*roots] or [self.state.folder.parent]
        self._supervisor = Supervisor(self.state)

    @property
    def postgres(self) -> Postgres:
        """The stack's PostgreSQL."""
        return Postgres(self.state.folder / "postgres", self.state.log("postgres"))

    @property
    def kafka(self) -> Kafka:
        """The stack's Kafka."""
        ports = self.state.ports()
        log = self.state.log("kafka")
        return Kafka(self.state.folder / "kafka", log, port=ports.kafka, controller_port=ports.kafka_controller)

    def up(self, tell: Tell = lambda *_: None, ports: Ports | None = None) -> None:
        """Start everything and return when each part is ready; what was kept before is there again.

        Args:
            tell: Called with a part's name, its phase and a note.
            ports: Where to listen; by default as the last time.

        Raises:
            CannotStart: With what is in the way and what to do.
        """
        self._check_space()
        with told_of_a_full_disk(self.state.folder):
            self.state.make()
            with self._alone():
                try:
                    self._start(tell, ports or self.state.ports())
                except BaseException:
                    self._remove_socket_folders()
                    raise

    def down(self, tell: Tell = lambda *_: None) -> bool:
        """Stop everything in order; return whether anything ran."""
        if not self.state.run.exists():
            return False
        with self._alone():
            running = bool(self._supervisor.pid())
            if running:
                self._stop(tell)
            ended = end_leftovers(self.state.folder)
            self._remove_socket_folders()
            return bool(ended) or running

    def running(self) -> bool:
        """Whether the stack was started and not stopped."""
        return bool(self._supervisor.pid())

    def status(self) -> list[PartStatus]:
        """Return how each part is."""
        known = self._supervisor.status()
        return [self._part_status(name, known.get(name)) for name in ("postgres", "kafka", *self.services)]

    def pid(self, name: str) -> int:
        """Return the process id of a part; 0 when it does not run."""
        found = self._supervisor.status().get(name)
        return found.pid if found else 0

    def _start(self, tell: Tell, ports: Ports) -> None:
        if pid := self._supervisor.pid():
            raise CannotStart(
                f"the stack in {self.state.folder} runs already (process {pid}): "
                "look with `millrace status`, end it with `millrace down`"
            )
        end_leftovers(self.state.folder)
        ports.check_free()
        self.state.save_ports(ports)
        make_credentials(self.state)
        postgres, kafka = self.postgres, self.kafka
        tell("postgres", "starting", "")
        postgres.prepare()
        kafka.prepare(lambda note: tell("kafka", "starting", note))
        programs = [postgres.program(), kafka.program(), *(service_program(self.state, name) for name in self.services)]
        environment = service_environment(self.state, postgres, kafka, self._roots)
        start_supervisor(self.state, programs, {**environment, MARK: str(self.state.folder)})
        try:
            self._start_programs(tell, postgres, kafka, {program.name: program for program in programs})
        except BaseException:
            with suppress(OSError):  # what was in the way is what is told, not that the supervisor is gone too
                self._stop(lambda *_: None)
            raise

    def _start_programs(self, tell: Tell, postgres: Postgres, kafka: Kafka, programs: dict[str, Program]) -> None:
        for name in ("postgres", "kafka"):
            self._supervisor.start(name)
        self._wait(programs["postgres"], postgres.ready)
        for service in self.services:
            postgres.ensure_owned_database(service)
        tell("postgres", "ready", str(postgres.socket))
        tell("kafka", "starting", "")
        self._wait(programs["kafka"], kafka.ready)
        asyncio.run(create_topics(kafka.servers, catalogue()))
        tell("kafka", "ready", kafka.servers)
        for service in self.services:
            tell(service, "starting", "")
            self._supervisor.start(service)
        for service in self.services:
            self._wait(programs[service], partial(self._service_ready, service))
            tell(service, "ready", self.state.endpoints()[service])

    def _wait(self, program: Program, ready: Callable[[], bool]) -> None:
        first = self._supervisor.status()[program.name].pid

        def alive() -> bool:
            known = self._supervisor.status()[program.name]
            return known.state in {"STARTING", "RUNNING"} and known.pid == first

        try:
            wait_until(ready, alive, program, _READY_S)
        except CannotStart as error:
            unmet = self._unmet(program.name) if program.name in self.services and alive() else ""
            raise CannotStart(f"{program.name} is not ready: {unmet}\n{error}" if unmet else str(error)) from error

    def _stop(self, tell: Tell) -> None:
        for names in (self.services, ("kafka",), ("postgres",)):
            deadline = time.monotonic() + _STOP_S
            for name in names:
                tell(name, "stopping", "")
                self._supervisor.begin_stop(name)
            while self._pids(names) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            for name in names:
                tell(name, "stopped", "")
        self._supervisor.shutdown()
        deadline = time.monotonic() + _STOP_S
        while self._supervisor.pid() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _remove_socket_folders(self) -> None:
        for folder in (self.postgres.socket, self.state.supervisor_socket.parent):
            remove_socket_folder(folder)

    def _pids(self, names: Sequence[str]) -> list[int]:
        known = self._supervisor.status()
        return [known[name].pid for name in names if name in known and known[name].pid]

    def _part_status(self, name: str, known: ProgramStatus | None) -> PartStatus:
        running = known is not None and known.pid != 0
        ready = running and self._ready(name)
        return PartStatus(
            name=name,
            state="ready" if ready else known.state.lower() if known else "stopped",
            ready=ready,
            pid=known.pid if known else 0,
            up_s=known.up_s if known else 0,
            address=self._address(name),
            log=str(self.state.log(name)),
        )

    def _address(self, name: str) -> str:
        servers = {"postgres": str(self.postgres.socket), "kafka": self.kafka.servers}
        return servers.get(name) or self.state.endpoints()[name]

    def _ready(self, name: str) -> bool:
        if name == "postgres":
            return self.postgres.ready()
        return self.kafka.ready() if name == "kafka" else self._service_ready(name)

    def _service_ready(self, service: str) -> bool:
        return not self._unmet(service)

    def _unmet(self, service: str) -> str:
        """Return what a service says it still lacks; nothing when it is ready."""
        address = f"http://{LOOPBACK}:{self.state.ports().http(service)}/readyz"
        try:
            with urllib.request.urlopen(address, timeout=_ANSWER_S):  # the scheme is a constant
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode(errors="replace").strip() or str(error)
        except OSError as error:
            return f"it does not answer ({error})"

    def _check_space(self) -> None:
        there = next(folder for folder in (self.state.folder, *self.state.folder.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if free < _NEEDED_BYTES:
            raise CannotStart(_full(self.state.folder, f"only {free // 1024**2} MB are free"))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock, so that one `up` or `down` works on it at a time."""
        with self.state.lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CannotStart(
                    f"another `millrace up` or `down` is at work on {self.state.folder}: wait for it to end"
                ) from error
            yield


@contextmanager
def told_of_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn the system's "no space left" into what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise CannotStart(_full(folder, "no space is left")) from error


def _full(folder: Path, fact: str) -> str:
    need = _NEEDED_BYTES // 1024**2
    return f"the disk of {folder} is full ({fact}, {need} MB are needed): free some, or choose another with --state"
