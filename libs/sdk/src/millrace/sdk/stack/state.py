"""The state folder: all that one embedded stack keeps, and where its parts answer."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from millrace.contracts import SERVICES
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.ports import LOOPBACK, is_free
from millrace.sdk.stack.sockets import socket_folder

DEFAULT_FOLDER = Path(".millrace")
PARTS = ("postgres", "kafka", *SERVICES)
#: The principal of who started the stack; may do everything in it.
DEVELOPER = "developer"
#: Below the ports that the system hands to clients (from 32768), which might take a killed server's own.
FIRST_PORT = 17100
_PORTS = 40
_LAST_PORT = 65535


@dataclass(frozen=True)
class Ports:
    """The ports of one stack: a block of 40, counted from `first`."""

    first: int = FIRST_PORT

    @property
    def kafka(self) -> int:
        """Port of the broker."""
        return self.first

    @property
    def kafka_controller(self) -> int:
        """Port of the broker's own controller."""
        return self.first + 1

    def grpc(self, service: str) -> int:
        """Port on which a service answers."""
        return self.first + 10 + SERVICES.index(service)

    def http(self, service: str) -> int:
        """Port of a service's health and metrics."""
        return self.first + 30 + SERVICES.index(service)

    def named(self) -> dict[str, int]:
        """Return every port with what it is for."""
        return {
            "kafka": self.kafka,
            "kafka's controller": self.kafka_controller,
            **{f"{service}, gRPC": self.grpc(service) for service in SERVICES},
            **{f"{service}, HTTP": self.http(service) for service in SERVICES},
        }

    def check_free(self) -> None:
        """Return if each port of the block can be listened on.

        Raises:
            CannotStart: One is in use.
        """
        if not 0 < self.first <= _LAST_PORT - _PORTS:
            raise CannotStart(f"--port {self.first} leaves no {_PORTS} ports: choose 1 to {_LAST_PORT - _PORTS}")
        for use, port in self.named().items():
            if not is_free(port):
                raise CannotStart(
                    f"port {port} ({use}) is in use by another program: end that program, "
                    f"or take another block of {_PORTS} ports with `millrace up --port {self.first + 1000}`"
                )


@dataclass(frozen=True)
class State:
    """The paths of one state folder.

    Attributes:
        folder: Absolute path of the folder.
    """

    folder: Path

    @property
    def secrets(self) -> Path:
        """Keys and tokens; readable by their owner only."""
        return self.folder / "secrets"

    @property
    def run(self) -> Path:
        """What only the running stack needs."""
        return self.folder / "run"

    @property
    def lock(self) -> Path:
        """Held by the `up` or `down` at work."""
        return self.run / "lock"

    @property
    def supervisor_config(self) -> Path:
        """The supervisor's configuration, written at each start."""
        return self.run / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor takes orders."""
        return socket_folder(self.run) / "supervisor.sock"

    @property
    def artifacts(self) -> Path:
        """What services hand one another."""
        return self.folder / "artifacts"

    @property
    def jwks(self) -> Path:
        """The public key that tokens are checked with."""
        return self.secrets / "jwks.json"

    @property
    def grants(self) -> Path:
        """Who may do what."""
        return self.secrets / "grants.json"

    @property
    def _settings(self) -> Path:
        return self.folder / "stack.json"

    def log(self, program: str) -> Path:
        """Return the log file of a program of the stack."""
        return self.folder / "logs" / f"{program}.log"

    def token(self, name: str) -> Path:
        """Return the file with the token of a service, or of the developer."""
        return self.secrets / f"{name}.token"

    def make(self) -> None:
        """Make the folders that are missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n")
        for folder in (self.run, self.artifacts, self.folder / "logs"):
            folder.mkdir(exist_ok=True)
        for folder in (self.secrets, self.supervisor_socket.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                raise CannotStart(f"{folder} belongs to another user: remove it, or choose another folder with --state")

    def ports(self) -> Ports:
        """Return the ports this stack was last started with, or the default ones."""
        return Ports(json.loads(self._settings.read_text())["first_port"]) if self._settings.exists() else Ports()

    def save_ports(self, ports: Ports) -> None:
        """Keep the ports for the next start and for the commands that ask the services."""
        self._settings.write_text(json.dumps({"first_port": ports.first}) + "\n")

    def endpoints(self) -> dict[str, str]:
        """Return where each service answers gRPC."""
        return {service: f"{LOOPBACK}:{self.ports().grpc(service)}" for service in SERVICES}
