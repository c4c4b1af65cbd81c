"""A database with the runtime's tables and one of the tests' own, and a service name that nobody else uses."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from millrace.runtime import telemetry
from millrace.runtime.database import Database, Transactions
from millrace.runtime.testing import create_topics, fresh_database
from runtime_effects import Effects
from task_service import TaskService
from test_outbox import PARTITIONS

_names = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Log lines as a service writes them; rendered for a terminal, a traceback takes seconds."""
    with Path(os.devnull).open("w") as stream:
        telemetry.start("test", stream=stream)
        yield


@pytest.fixture
def service_name() -> str:
    return f"svc{next(_names)}"


@pytest.fixture
async def dsn(postgres: Any) -> str:
    made = await fresh_database(postgres, "runtime")
    connection = await asyncpg.connect(made)
    await connection.execute("CREATE TABLE effect (place bigserial, name text)")
    await connection.close()
    return made


@pytest.fixture
async def begin(dsn: str) -> AsyncIterator[Transactions[Effects]]:
    async with Database(dsn) as database:
        yield Transactions(database, Effects)


@pytest.fixture
async def versions_topic(broker: Any) -> str:
    await create_topics(broker.servers, {"data.versions": 2})
    return "data.versions"


@pytest.fixture
async def tasks(service_name: str, broker: Any, dsn: str, tmp_path: Path) -> AsyncIterator[TaskService]:
    topics = (f"control.tasks.{service_name}", f"{service_name}.tasks", f"{service_name}.lineage")
    await create_topics(broker.servers, dict.fromkeys(topics, PARTITIONS))
    made = TaskService(service_name, dsn, broker.servers, tmp_path)
    yield made
    made.stop()
