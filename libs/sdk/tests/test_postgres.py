from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from millrace.sdk.stack.postgres import Postgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "postgres", tmp_path / "postgres.log", durable=False)
    server.start()
    yield server
    server.stop()


def test_data_survives_kill_9_of_the_server(server: Postgres) -> None:
    server.execute("postgres", "CREATE TABLE kept AS SELECT 7 AS number")

    server.kill()
    server.start()

    assert server.execute("postgres", "SELECT number FROM kept").strip() == "7"


def test_data_survives_an_immediate_stop(server: Postgres) -> None:
    server.execute("postgres", "CREATE TABLE kept AS SELECT 7 AS number")

    server.stop(immediate=True)
    server.start()

    assert server.execute("postgres", "SELECT number FROM kept").strip() == "7"


async def test_a_service_owns_its_database_and_cannot_enter_anothers(postgres: Postgres) -> None:
    own = postgres.ensure_owned_database("stack_one")
    other = postgres.ensure_owned_database("stack_two")
    assert postgres.ensure_owned_database("stack_one") == own  # a second start changes nothing

    connection = await asyncpg.connect(own)
    await connection.execute("CREATE TABLE mine (id int)")
    await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(other.replace("stack_two@", "stack_one@"))

    postgres.drop_database("stack_one")
    postgres.drop_database("stack_two")


def test_a_database_can_be_copied_from_a_template(postgres: Postgres) -> None:
    postgres.create_database("stack_template")
    postgres.execute("stack_template", "CREATE TABLE kept AS SELECT 7 AS number")

    postgres.create_database("stack_copy", template="stack_template")

    assert postgres.execute("stack_copy", "SELECT number FROM kept").strip() == "7"
    postgres.drop_database("stack_copy")
    postgres.drop_database("stack_template")


def test_a_long_folder_name_does_not_stop_the_server(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("name" * 20)
    server = Postgres(folder, tmp_path / "log", durable=False)

    server.start()
    answer = server.execute("postgres", "SELECT 1")
    server.stop()

    assert answer.strip() == "1"
    assert not server.socket.exists()


def test_vectors_are_available(postgres: Postgres) -> None:
    postgres.create_database("stack_vectors")

    postgres.execute("stack_vectors", "CREATE EXTENSION vector")

    postgres.drop_database("stack_vectors")
