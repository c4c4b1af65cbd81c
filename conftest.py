"""One real PostgreSQL and one real Kafka per test session or worker, started when the first test asks."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.postgres import Postgres
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

JOURNEYS = "tests/journeys/"


class Together(LoadScopeScheduling):
    """Gives a worker whole files, as the tests of one share what it starts; and all journeys, which share one."""

    def _split_scope(self, nodeid: str) -> str:
        return JOURNEYS if nodeid.startswith(JOURNEYS) else nodeid.split("::", 1)[0]


def pytest_configure() -> None:
    """End as on Ctrl-C when asked to by a time limit, so that the servers end too; no example is judged by its time."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    return Together(config, log)


@pytest.fixture(scope="session")
def stack_folder() -> Iterator[Path]:
    """A short path: a unix socket's address has 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(stack_folder: Path) -> Iterator[Postgres]:
    """A running PostgreSQL: `.dsn(database)`, `.create_database(name, template=None)`, `.drop_database(name)`."""
    server = Postgres(stack_folder / "postgres", stack_folder / "postgres.log", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def broker(stack_folder: Path) -> Iterator[Kafka]:
    """A running Kafka: `.servers`, and `.kill()` and `.start()` for tests of what a broker's death does."""
    with _kafka(stack_folder / "kafka") as server:
        yield server


@pytest.fixture
def lone_broker(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka of one test's own, which may freeze it: it is out of its cluster for a moment after that, too."""
    with _kafka(tmp_path / "kafka") as server:
        yield server


@contextmanager
def _kafka(folder: Path) -> Iterator[Kafka]:
    port, controller_port = free_ports(2)
    server = Kafka(folder, folder.with_suffix(".log"), port=port, controller_port=controller_port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
