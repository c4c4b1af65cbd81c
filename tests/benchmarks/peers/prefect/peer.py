"""Prefect: its server on Debian's PostgreSQL, and flows called in the program that does the runs."""

from pathlib import Path

from millrace.sdk.stack.ports import LOOPBACK, free_ports

from tests.benchmarks.peers.debian import start_debian
from tests.benchmarks.peers.environment import Environment
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running, listening

PROGRAM = "tests.benchmarks.peers.prefect.program"


def start(environment: Environment, running: Running) -> Loop:
    """Start the database, the server, and the program."""
    database, port = free_ports(2)
    start_debian(running, database, ["prefect"])
    settings = {
        "PREFECT_HOME": str(running.folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://postgres@{LOOPBACK}:{database}/prefect",
        "PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    command = [
        environment.python,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--no-ui",
    ]
    running.start("server", command, listening(port), settings)
    return running.loop([environment.python, "-m", PROGRAM], settings)


PREFECT = Peer(
    name="prefect",
    pins=Path(__file__).parent,
    package="prefect",
    bar=50,
    setup="a server, flows called in process without a worker's polling",
    flushes="PostgreSQL's log at every state, told by the program a moment later",
    start=start,
)
