"""Dagster: jobs executed in the program that does the runs, kept in PostgreSQL."""

from pathlib import Path

from millrace.sdk.stack.ports import LOOPBACK, free_ports

from tests.benchmarks.peers.environment import Environment
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running

PROGRAM = "tests.benchmarks.peers.dagster.program"
INSTANCE = """\
storage:
  postgres:
    postgres_db:
      {{hostname: {host}, port: {port}, username: postgres, password: {password}, db_name: dagster}}
telemetry:
  enabled: false
"""


def start(environment: Environment, running: Running) -> Loop:
    """Start the database and the program."""
    (port,) = free_ports(1)
    postgres = running.database("dagster", tcp=(LOOPBACK, port))
    home = running.folder / "dagster"
    home.mkdir()
    instance = INSTANCE.format(host=LOOPBACK, port=port, password=postgres.password("postgres"))
    (home / "dagster.yaml").write_text(instance)
    return running.loop([environment.python, "-m", PROGRAM], {"DAGSTER_HOME": str(home)})


DAGSTER = Peer(
    name="dagster",
    pins=Path(__file__).parent,
    package="dagster",
    bar=30,
    setup="jobs executed in process by 32 processes, without its daemon and without a new process for each run",
    flushes="PostgreSQL's log at every event",
    start=start,
)
