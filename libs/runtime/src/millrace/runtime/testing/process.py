"""A whole service as a process of its own: real sockets, real signals, real kills."""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import grpc
from millrace.contracts.catalogue import catalogue
from millrace.runtime.client import Channels, Token
from millrace.runtime.testing import Server, create_topics, fresh_database, until
from millrace.runtime.testing.authority import Authority

START_S = 60.0
_READING: set[tuple[str, str]] = set()
"""The services of all deployments, each with its broker."""


class ServiceProcess:
    """One process of a service, run by `python -m millrace.runtime` or by a module that stands in for it.

    Args:
        name: The service, or `<service>-<ordinal>` for one of its replicas.
        environment: What it is told when it starts.
        ports: Where it answers gRPC and probes.
        module: What is run in place of the runtime, with the service's name.
        host: The address that it listens on.

    Attributes:
        target: Where it answers gRPC: `host:port`.
        http: Where it answers probes: a URL.
        command: How it is run.
    """

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        ports: tuple[int, int],
        log: Path,
        *,
        module: str = "millrace.runtime",
        host: str = "127.0.0.1",
    ) -> None:
        self.target = f"{host}:{ports[0]}"
        self.http = f"http://{host}:{ports[1]}"
        self.log = log
        self.command = (sys.executable, "-m", module, service_of(name))
        self.environment = dict(environment)
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, **environment: str) -> None:
        """Start it and wait until it is ready.

        Raises:
            AssertionError: It is not ready in time, or has ended; its last lines are shown.
        """
        with self.log.open("ab") as log:
            settings = os.environ | self.environment | environment
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own program, started in no time
                self.command, env=settings, stdout=log, stderr=log
            )
        process = self._process

        async def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{self._name} ended with {process.returncode}:\n{self._last_lines()}")
            return await asyncio.to_thread(self.is_ready)

        try:
            await until(ready, seconds=START_S)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self._last_lines()}") from None

    @property
    def pid(self) -> int:
        """The process's id; 0 before it is started."""
        return self._process.pid if self._process else 0

    def is_ready(self) -> bool:
        """Return what /readyz says."""
        try:
            with urlopen(f"{self.http}/readyz", timeout=2) as answer:  # noqa: S310 - our own service on loopback
                return bool(answer.status == 200)  # noqa: PLR2004 - OK
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """End it as by `kill -9`."""
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def terminate(self, seconds: float = 30) -> int:
        """End it by SIGTERM; return its exit code.

        Raises:
            TimeoutExpired: It did not end in time.
        """
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def wait(self, seconds: float = 30) -> int:
        """Return the exit code of a process that ends by itself."""
        return self._process.wait(seconds) if self._process else 0

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


class Deployment:
    """Some services beside one another, with what they share.

    Args:
        authority: Who signs tokens and grants.
        settings: Settings of each process, without their prefix.
        ports: Where each answers gRPC and probes.
        modules: What is run in place of the runtime, by service.

    Attributes:
        services: The processes, by name.
    """

    def __init__(
        self,
        authority: Authority,
        settings: Mapping[str, Mapping[str, str]],
        ports: Mapping[str, tuple[int, int]],
        modules: Mapping[str, str] | None = None,
    ) -> None:
        self.authority = authority
        self.settings = settings
        self.services = {
            name: ServiceProcess(
                name,
                {f"{service_of(name).upper()}_{k}": v for k, v in own.items()},
                ports[name],
                authority.folder / f"{name}.log",
                module=(modules or {}).get(service_of(name), "millrace.runtime"),
                host=own.get("GRPC_HOST", "127.0.0.1"),
            )
            for name, own in settings.items()
        }
        self._channels: dict[str, Channels] = {}

    def channel(self, service: str, principal: str = "dev") -> grpc.aio.Channel:
        """Return a channel to a service, as a principal."""
        if principal not in self._channels:
            targets = {name: process.target for name, process in self.services.items()}
            endpoints = targets | endpoints_of(targets)
            self._channels[principal] = Channels(endpoints, Token(self.authority.token_file(principal)))
        return self._channels[principal].to(service)

    async def close(self) -> None:
        """End every process and channel."""
        for channels in self._channels.values():
            await channels.close()
        for process in self.services.values():
            process.kill()


@asynccontextmanager
async def deployed(
    names: tuple[str, ...],
    postgres: Server,
    servers: str,
    folder: Path,
    extra: Mapping[str, Mapping[str, str]] | None = None,
    grants: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Deployment]:
    """Run some services as processes, each on a fresh database, until the block ends.

    Consumer groups have the services' names, so two deployments of one service on one broker would share its reading: a
    test session runs them one after another. What an earlier one left behind is dropped by its fresh database only if
    it is read; a test looks for its own ids.

    Args:
        names: Which services.
        postgres: The tests' PostgreSQL.
        servers: The tests' Kafka.
        folder: Where artifacts, logs and keys go.
        extra: More settings: service -> name without prefix -> value.
        grants: Who may do what; `dev` may do everything when not given.

    Raises:
        AssertionError: Another deployment runs one of the services on that broker.
    """
    readers = {(servers, service_of(name)) for name in names}
    if readers & _READING:
        shared = sorted(service for _, service in readers & _READING)
        raise AssertionError(f"another deployment runs {', '.join(shared)} on {servers}: give it a broker of its own")
    _READING.update(readers)
    try:
        async with _running(names, postgres, servers, folder, extra or {}, grants) as deployment:
            yield deployment
    finally:
        _READING.difference_update(readers)


@asynccontextmanager
async def _running(
    names: tuple[str, ...],
    postgres: Server,
    servers: str,
    folder: Path,
    extra: Mapping[str, Mapping[str, str]],
    grants: Mapping[str, Mapping[str, str]] | None,
) -> AsyncIterator[Deployment]:
    await create_topics(servers, {topic.name: topic.partitions for topic in catalogue()})
    authority = Authority(folder, grants)
    ports = {name: (free_port(), free_port()) for name in names}
    shared = shared_settings(authority, servers, {name: f"127.0.0.1:{port}" for name, (port, _) in ports.items()})
    settings = {
        name: {
            **shared,
            **own_settings(authority, name, ports[name]),
            "POSTGRES_DSN": await fresh_database(postgres, name),
            **extra.get(name, {}),
        }
        for name in names
    }
    made = Deployment(authority, settings, ports)
    renewing = asyncio.create_task(authority.renew())
    try:
        await asyncio.gather(*(process.start() for process in made.services.values()))
        yield made
    finally:
        renewing.cancel()
        await made.close()


def shared_settings(authority: Authority, servers: str, targets: Mapping[str, str]) -> dict[str, str]:
    """Return what all processes of a deployment are told.

    Args:
        authority: Who signs tokens; artifacts go into its folder.
        servers: Kafka.
        targets: Where each process answers gRPC.
    """
    artifacts = authority.folder / "artifacts"
    artifacts.mkdir(exist_ok=True)
    return {
        "KAFKA_SERVERS": servers,
        "ARTIFACTS_URL": artifacts.as_uri(),
        "AUTH_JWKS": str(authority.jwks),
        "AUTH_GRANTS": str(authority.grants),
        "ENDPOINTS": json.dumps(endpoints_of(targets)),
    }


def own_settings(authority: Authority, name: str, ports: tuple[int, int]) -> dict[str, str]:
    """Return what one process is told of itself, its database apart."""
    return {
        "GRPC_PORT": str(ports[0]),
        "HTTP_PORT": str(ports[1]),
        "TOKEN_FILE": str(authority.token_file(f"service:{service_of(name)}")),
    }


def service_of(name: str) -> str:
    """Return the service that a process is of: `data` for `data` and `data-1`."""
    return name.partition("-")[0]


def endpoints_of(targets: Mapping[str, str]) -> dict[str, str]:
    """Return where each service answers, given its processes': one address, or several with commas between."""
    found: dict[str, list[str]] = {}
    for name, target in targets.items():
        found.setdefault(service_of(name), []).append(target)
    return {name: ",".join(own) for name, own in found.items()}


def free_port() -> int:
    """Return a port of loopback that this process keeps for a server of its own: no other program is handed it."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    atexit.register(kept.close)
    return int(kept.getsockname()[1])
