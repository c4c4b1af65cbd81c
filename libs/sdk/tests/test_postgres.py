from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from millrace.sdk.stack.ports import free_ports
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


async def test_a_server_on_tcp_asks_every_role_for_its_own_password(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres", tmp_path / "log", durable=False, tcp=("127.0.0.1", free_ports(1)[0]))
    server.start()
    try:
        own = server.ensure_owned_database("stack_own")
        server.ensure_owned_database("stack_other")

        connection = await asyncpg.connect(own)
        assert await connection.fetchval("SELECT current_user") == "stack_own"
        await connection.close()
        for wrong in (server.password("stack_other"), "", "x"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(own, password=wrong)
        kept = server.execute("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'stack_own'")
        assert kept.startswith("SCRAM-SHA-256$")
    finally:
        server.stop()
