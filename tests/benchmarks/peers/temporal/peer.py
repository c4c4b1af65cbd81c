"""Temporal: the server built from its Go module, Debian's PostgreSQL, a worker and a client in Python."""

import os
import shutil
from pathlib import Path
from string import Template

from millrace.sdk.stack.ports import LOOPBACK, free_ports

from tests.benchmarks.peers.environment import Environment, NotRun, run
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running, listening

PROGRAM = "tests.benchmarks.peers.temporal.program"
SCHEMAS = {"temporal": "temporal", "temporal_visibility": "visibility"}
ROLES = ("frontend", "history", "matching", "worker")
TOOL_S = 120.0
SETTINGS = (
    f"listen_addresses={LOOPBACK}",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=128MB",
    "max_wal_size=1GB",
    "jit=off",
)


def start(environment: Environment, running: Running) -> Loop:
    """Start the database, the server, the worker, and the client."""
    database, *ports = free_ports(1 + 2 * len(ROLES))
    start_database(running, database)
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


def start_database(running: Running, port: int) -> None:
    """Start Debian's PostgreSQL with the settings of ours: Temporal needs its extension btree_gin, which ours lacks.

    Raises:
        NotRun: It is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise NotRun("it needs Debian's PostgreSQL: apt-get install postgresql")
    data = running.folder / "postgres"
    data.mkdir(mode=0o700)
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(data, user, user)
    run([str(found[-1]), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-instructions"], TOOL_S, user=user)
    options = [option for setting in (*SETTINGS, f"port={port}") for option in ("-c", setting)]
    running.start(
        "database", [str(found[-1].with_name("postgres")), "-D", str(data), *options], listening(port), user=user
    )


def make_tables(environment: Environment, port: int) -> None:
    """Make Temporal's databases and tables by its own tool.

    Raises:
        NotRun: It failed.
    """
    tool = [str(environment.folder / "bin/sql"), "--plugin", "postgres12", "--endpoint", LOOPBACK, "--port", str(port)]
    tool += ["--user", "postgres"]
    for name, schema in SCHEMAS.items():
        run([*tool, "--database", name, "create-database"], TOOL_S)
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
