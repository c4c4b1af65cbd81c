"""Airflow: API server, scheduler with its local executor and DAG processor on PostgreSQL, a client of the API."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from millrace.sdk.stack.ports import LOOPBACK, free_ports
from millrace.sdk.stack.postgres import Postgres

from tests.benchmarks.peers.environment import Environment, run
from tests.benchmarks.peers.load import IN_FLIGHT
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running, listening

PROGRAM = "tests.benchmarks.peers.airflow.program"
MIGRATE_S = 600.0
SCHEDULES = "SELECT id FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'"
HAS_READ = "SELECT dag_id FROM serialized_dag"


def start(environment: Environment, running: Running) -> Loop:
    """Start the database, Airflow's three servers, and the client."""
    database, port = free_ports(2)
    postgres = running.database("airflow", tcp=(LOOPBACK, database))
    settings = settings_of(running.folder / "airflow", postgres.dsn("airflow"), port)
    airflow = [environment.python, "-m", "airflow"]
    run([*airflow, "db", "migrate"], MIGRATE_S, environment={**os.environ, **settings})
    running.start("api", [*airflow, "api-server", "--host", LOOPBACK, "--port", str(port)], listening(port), settings)
    running.start("scheduler", [*airflow, "scheduler", "--skip-serve-logs"], finds(postgres, SCHEDULES), settings)
    running.start("processor", [*airflow, "dag-processor"], finds(postgres, HAS_READ), settings)
    return running.loop([environment.python, "-m", PROGRAM, f"http://{LOOPBACK}:{port}"])


def settings_of(home: Path, dsn: str, port: int) -> dict[str, str]:
    """Return what Airflow is told beyond its defaults: room and time for the load, and nothing that only costs."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn.replace("postgresql:", "postgresql+psycopg2:"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": str(2 * IN_FLIGHT),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": str(IN_FLIGHT),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{LOOPBACK}:{port}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__LOGGING__UVICORN_LOGGING_LEVEL": "WARNING",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    }


def finds(postgres: Postgres, sql: str) -> Callable[[], bool]:
    """Return what tells whether Airflow's database has a row of a query."""
    return lambda: bool(postgres.execute("airflow", sql))


AIRFLOW = Peer(
    name="airflow",
    pins=Path(__file__).parent,
    package="apache-airflow",
    bar=100,
    setup="API server, scheduler with its local executor, DAG processor; runs triggered and waited for by the API",
    flushes="PostgreSQL's log at every state and value",
    start=start,
)
