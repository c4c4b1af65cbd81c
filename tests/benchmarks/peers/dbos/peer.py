"""DBOS: a library in the program that does the runs, and its database."""

from pathlib import Path

from tests.benchmarks.peers.environment import Environment
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running

PROGRAM = "tests.benchmarks.peers.dbos.program"


def start(environment: Environment, running: Running) -> Loop:
    """Start the database and the program."""
    postgres = running.database("dbos")
    return running.loop([environment.python, "-m", PROGRAM, postgres.dsn("dbos")])


DBOS = Peer(
    name="dbos",
    pins=Path(__file__).parent,
    package="dbos",
    bar=3,
    setup="asynchronous workflow and steps, started in process",
    flushes="PostgreSQL's log at every step",
    start=start,
)
