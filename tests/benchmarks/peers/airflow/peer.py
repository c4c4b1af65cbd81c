"""Airflow: API server, scheduler with its local executor and DAG processor on PostgreSQL, a client of the API."""

import os
import secrets
from pathlib import Path

from millrace.sdk.stack.ports import LOOPBACK, free_ports

from tests.benchmarks.peers.environment import Environment, run
from tests.benchmarks.peers.load import IN_FLIGHT
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running, listening

PROGRAM = "tests.benchmarks.peers.airflow.program"
MIGRATE_S = 300.0


def start(environment: Environment, running: Running) -> Loop:
    """Start the database, Airflow's three servers, and the client."""
    database, port = free_ports(2)
    dsn = running.database("airflow", tcp=(LOOPBACK, database)).dsn("airflow")
    settings = settings_of(running.folder, dsn, port)
    airflow = [environment.python, "-m", "airflow"]
    run([*airflow, "db", "migrate"], MIGRATE_S, environment={**os.environ, **settings})
    running.start("api", [*airflow, "api-server", "--host", LOOPBACK, "--port", str(port)], listening(port), settings)
    for name in ("scheduler", "dag-processor"):
        running.start(name, [*airflow, name], lambda: True, settings)
    return running.loop([environment.python, "-m", PROGRAM, f"http://{LOOPBACK}:{port}"])


def settings_of(folder: Path, dsn: str, port: int) -> dict[str, str]:
    """Return what Airflow is told by its environment: its defaults, but for room for as many runs as are in flight."""
    return {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn.replace("postgresql:", "postgresql+psycopg2:"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": str(IN_FLIGHT),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(IN_FLIGHT),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{LOOPBACK}:{port}/execution/",
        "AIRFLOW__API__BASE_URL": f"http://{LOOPBACK}:{port}",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
    }


AIRFLOW = Peer(
    name="airflow",
    pins=Path(__file__).parent,
    package="apache-airflow",
    bar=100,
    setup="API server, scheduler with its local executor, DAG processor; runs triggered by the API",
    flushes="PostgreSQL's log at every state",
    start=start,
)
