"""A whole stack of processes that can each be killed, frozen, cut off and started again."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGKILL, SIGTERM, Signals
from urllib.error import URLError
from urllib.request import urlopen

import grpc
from millrace.contracts import SERVICES
from millrace.contracts.catalogue import catalogue
from millrace.runtime.migrate import migrate
from millrace.runtime.testing.authority import Authority
from millrace.runtime.testing.process import (
    Deployment,
    ServiceProcess,
    own_settings,
    service_of,
    shared_settings,
)
from millrace.runtime.topics import create_topics
from millrace.sdk.stack.kafka import Cluster, Kafka
from millrace.sdk.stack.leftovers import MARK, end_leftovers
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.postgres import Postgres
from millrace.sdk.stack.program import Program

from tests.faults.effects import EffectService
from tests.faults.part import LOOK_S, Part, keep

REPOSITORY = Path(__file__).parents[2]
#: The data service as it is, and one more kind of task.
MODULES = {"data": "tests.faults.data_with_effects"}
READY_S = 60.0
LOOPBACK = "127.0.0.1"


class Stack:
    """Kafka, PostgreSQL, the seven services and the outside effect service, each kept running.

    Attributes:
        folder: All that it keeps.
        parts: Its processes: `postgres`, `kafka` (or `kafka-1` to `kafka-3`), the services by name, second replicas as
            `data-1`, and `effects`.
        servers: Where Kafka answers.
        prepared: What a load has declared, once it has.
        ready_s: How long what is started may take until it is ready.
    """

    def __init__(
        self, folder: Path, postgres: Postgres, brokers: Sequence[Kafka], deployment: Deployment, effects: EffectService
    ) -> None:
        self.folder = folder
        self.postgres = postgres
        self.brokers = brokers
        self.deployment = deployment
        self.authority = deployment.authority
        self.effects = effects
        self.servers = ",".join(broker.servers for broker in brokers)
        self.parts = {part.name: part for part in self._parts()}
        self.prepared: object = None
        self.ready_s = READY_S

    @property
    def landing(self) -> Path:
        """The folder from which files may be ingested."""
        return self.folder / "landing"

    def pid(self, part: str) -> int:
        """Return the process id of a part; 0 while it does not run."""
        return self.parts[part].pid

    def signal(self, part: str, number: Signals) -> None:
        """Send a part a signal; SIGSTOP and SIGCONT go to its children too."""
        self.parts[part].signal(number)

    def hold_down(self, part: str) -> None:
        """Do not start a part again when it ends."""
        self.parts[part].held = True

    def let_up(self, part: str) -> None:
        """Keep a part running again."""
        self.parts[part].held = False

    async def restart(
        self, part: str, number: Signals = SIGTERM, *, seconds: float = READY_S, **environment: str
    ) -> None:
        """End a part, start it with this environment besides, and return when it is ready.

        The environment stays for later starts: take it out of the part's own once the part is up, where it must not.
        """
        own = self.parts[part]
        own.held = True
        await asyncio.to_thread(own.end, number)
        own.environment |= environment
        own.start()
        own.held = False
        await self.ready(part, seconds=seconds)

    async def add(self, program: Program, is_ready: Callable[[], bool]) -> None:
        """Have one more program kept running until the stack ends, and return when it is ready."""
        self.parts[program.name] = Part(program.name, lambda: self._marked(program), is_ready)
        await self._start([program.name])

    def build(self, part: str, python: str = sys.executable) -> None:
        """Have a service be of the build that a Python has installed, from its next start on."""
        process = self.deployment.services[part]
        process.command = (python, *process.command[1:])

    async def mend(self) -> None:
        """Have every part run as usual again, whatever a test has left behind.

        Raises:
            AssertionError: One cannot.
        """
        for part in self.parts.values():
            await asyncio.to_thread(part.mend)
        await self.ready()

    async def ready(self, *parts: str, seconds: float = READY_S) -> float:
        """Wait until parts, or all, say that they are ready; return the seconds it took.

        Raises:
            AssertionError: One was not in time; with the end of what it wrote.
        """
        began = time.monotonic()
        waiting = [self.parts[name] for name in parts or self.parts]
        while waiting := [part for part in waiting if not await asyncio.to_thread(part.ready)]:
            if time.monotonic() - began > seconds:
                told = "\n".join(f"{part.name} (pid {part.pid}):\n{part.last_lines()}" for part in waiting)
                raise AssertionError(f"not ready within {seconds:g} s:\n{told}")
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began

    def channel(self, service: str, principal: str = "dev") -> grpc.aio.Channel:
        """Return a channel to a service, or to one of its replicas by the part's name."""
        return self.deployment.channel(service, principal)

    async def metrics(self, part: str) -> dict[str, float]:
        """Return what a service measures: `name{labels}` -> value; nothing while it does not answer."""
        return await asyncio.to_thread(_metrics, self.deployment.services[part].http)

    async def start(self) -> None:
        """Start everything, in order, and return when it is ready."""
        await asyncio.gather(
            *(asyncio.to_thread(broker.prepare) for broker in self.brokers), asyncio.to_thread(self.postgres.prepare)
        )
        servers = [name for name in self.parts if name.startswith(("postgres", "kafka", "effects"))]
        await self._start(servers)
        copies = 3 if len(self.brokers) > 1 else 1
        await asyncio.gather(
            create_topics(self.servers, catalogue(), replication_factor=copies),
            *(asyncio.to_thread(self.postgres.ensure_owned_database, service) for service in self._services()),
        )
        await self._start(self.deployment.services)
        await self.rolled_out()

    async def rolled_out(self) -> None:
        """Apply what is for after a roll-out: no process of a former version is left."""
        for service in self._services():
            await migrate(self.postgres.dsn(service, role=service), service, post=True)

    async def stop(self) -> None:
        """End everything and every channel; nothing is left but the folder."""
        await self.deployment.close()
        for part in self.parts.values():
            part.held = True
            if part.name != "postgres":
                part.signal(SIGKILL)
        postgres = self.parts["postgres"]
        postgres.signal(SIGCONT)
        await asyncio.to_thread(postgres.end, SIGINT, 10)
        for part in self.parts.values():
            await asyncio.to_thread(part.end, SIGKILL)
        await asyncio.to_thread(end_leftovers, self.folder)
        await asyncio.to_thread(self.postgres.stop)

    def _services(self) -> set[str]:
        return {service_of(name) for name in self.deployment.services}

    async def _start(self, names: Iterable[str]) -> None:
        for name in names:
            self.parts[name].start()
            self.let_up(name)
        await self.ready(*names, seconds=self.ready_s)

    def _parts(self) -> list[Part]:
        made = [Part("postgres", lambda: self._marked(self.postgres.program()), self.postgres.ready)]
        for number, broker in enumerate(self.brokers, 1):
            name = "kafka" if len(self.brokers) == 1 else f"kafka-{number}"
            made.append(Part(name, partial(self._broker, broker), broker.ready))
        for name, process in self.deployment.services.items():
            made.append(Part(name, partial(self._service, name, process), process.is_ready))
        made.append(Part("effects", lambda: self._marked(self.effects.program()), self.effects.ready))
        return made

    def _broker(self, broker: Kafka) -> Program:
        return self._marked(broker.program())

    def _service(self, name: str, process: ServiceProcess) -> Program:
        return self._marked(Program(name, process.command, process.log, environment=process.environment))

    def _marked(self, program: Program) -> Program:
        mark = {MARK: str(self.folder), "PYTHONPATH": str(REPOSITORY)}
        return replace(program, environment={**program.environment, **mark})


@asynccontextmanager
async def running(
    folder: Path,
    *,
    services: Sequence[str] = SERVICES,
    replicas: int = 1,
    brokers: int = 1,
    tcp: bool = False,
    environment: Mapping[str, Mapping[str, str]] | None = None,
    prefixes: Mapping[str, Sequence[str]] | None = None,
    hosts: Mapping[str, str] | None = None,
    folders: Mapping[str, Path] | None = None,
    ready_s: float = READY_S,
) -> AsyncIterator[Stack]:
    """Run a whole stack until the block ends.

    Args:
        folder: All that it keeps.
        services: Which of them.
        replicas: How many processes of each service.
        brokers: 1, or 3 with replication 3 and `min.insync.replicas=2`.
        tcp: PostgreSQL listens on TCP, each service with a user and a password (SCRAM) of its own.
        environment: part -> what it is told besides.
        prefixes: part -> what stands before its command.
        hosts: part -> the address it listens on; loopback by default. It must exist.
        folders: `postgres` or `kafka` -> another folder for its data.
        ready_s: How long what is started first may take until it is ready.
    """
    folder = folder.resolve()
    (folder / "landing").mkdir(parents=True, exist_ok=True)
    stack = await asyncio.to_thread(_composed, folder, services, replicas, brokers, tcp, hosts or {}, folders or {})
    stack.ready_s = ready_s
    for name, more in (environment or {}).items():
        stack.parts[name].environment |= more
    for name, prefix in (prefixes or {}).items():
        stack.parts[name].prefix = [*prefix]
    for part in stack.parts.values():
        part.be_usual()
    keepers = [asyncio.create_task(keep(stack.parts.values())), asyncio.create_task(stack.authority.renew())]
    try:
        await stack.start()
        yield stack
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.wait(keepers)
        await stack.stop()


def _composed(
    folder: Path,
    services: Sequence[str],
    replicas: int,
    brokers: int,
    tcp: bool,
    hosts: Mapping[str, str],
    folders: Mapping[str, Path],
) -> Stack:
    names = [name if n == 0 else f"{name}-{n}" for n in range(replicas) for name in services]
    ports = iter(free_ports(2 + 2 * brokers + 2 * len(names)))
    door = (hosts.get("postgres", LOOPBACK), next(ports)) if tcp else None
    postgres = Postgres(folders.get("postgres", folder / "postgres"), folder / "postgres.log", durable=False, tcp=door)
    effects = EffectService(folder / "effects", next(ports), hosts.get("effects", LOOPBACK))
    kafkas = _brokers(folder, [(next(ports), next(ports)) for _ in range(brokers)], hosts, folders)
    doors = {name: (next(ports), next(ports)) for name in names}
    (own := folder / "services").mkdir(exist_ok=True)
    authority = Authority(own)
    postgres.prepare()
    targets = {name: f"{hosts.get(name, LOOPBACK)}:{port}" for name, (port, _) in doors.items()}
    shared = shared_settings(authority, ",".join(kafka.servers for kafka in kafkas), targets)
    settings = {
        name: {
            **shared,
            **own_settings(authority, name, doors[name]),
            "GRPC_HOST": hosts.get(name, LOOPBACK),
            "HTTP_HOST": hosts.get(name, LOOPBACK),
            "POSTGRES_DSN": postgres.dsn(service_of(name), role=service_of(name)),
            "INSTANCE": name.partition("-")[2] or "0",
        }
        for name in names
    }
    for name in names:
        if service_of(name) == "data":
            settings[name]["ALLOWED_ROOTS"] = json.dumps([str(folder / "landing")])
    stack = Stack(folder, postgres, kafkas, Deployment(authority, settings, doors, MODULES), effects)
    for name in names:
        stack.parts[name].environment["EFFECTS_URL"] = effects.url
    return stack


def _brokers(
    folder: Path, ports: Sequence[tuple[int, int]], hosts: Mapping[str, str], folders: Mapping[str, Path]
) -> list[Kafka]:
    host = hosts.get("kafka", LOOPBACK)
    cluster = Cluster({node: f"{host}:{controller}" for node, (_, controller) in enumerate(ports, 1)})
    make = partial(Kafka, host=host, cluster=cluster)
    names = ["kafka"] if len(ports) == 1 else [f"kafka-{node}" for node in cluster.voters]
    return [
        make(folders.get(name, folder / name), folder / f"{name}.log", port=port, controller_port=controller, node=node)
        for name, node, (port, controller) in zip(names, cluster.voters, ports, strict=True)
    ]


def _metrics(url: str) -> dict[str, float]:
    try:
        with urlopen(f"{url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except (URLError, OSError):
        return {}
    split = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in split}
