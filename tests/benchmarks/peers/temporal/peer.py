"""Temporal: the server built from its Go module, Debian's PostgreSQL, a worker and a client in Python."""

from pathlib import Path
from string import Template

from millrace.sdk.stack.ports import LOOPBACK, free_ports

from tests.benchmarks.peers.debian import start_debian
from tests.benchmarks.peers.environment import Environment, run
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running, listening

PROGRAM = "tests.benchmarks.peers.temporal.program"
SCHEMAS = {"temporal": "temporal", "temporal_visibility": "visibility"}
ROLES = ("frontend", "history", "matching", "worker")
TOOL_S = 120.0


def start(environment: Environment, running: Running) -> Loop:
    """Start the database, the server, the worker, and the client."""
    database, *ports = free_ports(1 + 2 * len(ROLES))
    start_debian(running, database, SCHEMAS)
    make_tables(environment, database)
    config = running.folder / "server.yaml"
    named = dict(zip([*ROLES, *(f"{role}_members" for role in ROLES)], ports, strict=True))
    text = Template((Path(__file__).parent / "server.yaml").read_text())
    config.write_text(text.substitute(named, database=database))
    command = [str(environment.folder / "bin/server"), "--config-file", str(config), "--allow-no-auth", "start"]
    running.start("server", command, listening(named["frontend"]))
    program = [environment.python, "-m", PROGRAM, f"{LOOPBACK}:{named['frontend']}"]
    told = running.folder / "worker.ready"
    running.start("worker", [*program, "worker", str(told)], told.exists)
    return running.loop([*program, "client"])


def make_tables(environment: Environment, port: int) -> None:
    """Make Temporal's tables by its own tool.

    Raises:
        NotRun: It failed.
    """
    tool = [str(environment.folder / "bin/sql"), "--plugin", "postgres12", "--endpoint", LOOPBACK, "--port", str(port)]
    tool += ["--user", "postgres"]
    for name, schema in SCHEMAS.items():
        run([*tool, "--database", name, "setup-schema", "--version", "0.0"], TOOL_S)
        run([*tool, "--database", name, "update-schema", "--schema-name", f"postgresql/v12/{schema}"], TOOL_S)


TEMPORAL = Peer(
    name="temporal",
    pins=Path(__file__).parent,
    package="go.temporal.io/server",
    bar=15,
    setup="one server with four shards, a worker and a client in Python; steps are activities",
    flushes="PostgreSQL's log at every transition",
    start=start,
)
