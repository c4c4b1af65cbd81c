"""Migrations: plain SQL, forward only, each in a transaction of its own, under one lock."""

import asyncio
import time
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable

import asyncpg
from millrace.runtime.connection import LOST, Connector
from millrace.runtime.errors import Unavailable
from millrace.runtime.failpoints import failpoint

LOCK = 7_316_241_151  # any number, the same for every service
WAIT_S = 30.0
RETRY_S = 0.3

CREATE = """
CREATE TABLE IF NOT EXISTS schema_version (
    package text NOT NULL,
    migration text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (package, migration)
)
"""


def migrations(service: str, *, post: bool = False) -> list[tuple[str, str, str]]:
    """Return (package, name, SQL) of the runtime's and a service's migrations, in order.

    Args:
        service: Whose.
        post: Whether to add those meant for after the old code is gone (`_post_`).
    """
    return [
        (package, path.name, path.read_text())
        for package in dict.fromkeys(("millrace.runtime", f"millrace.{service}"))
        for path in _files(resources.files(package).joinpath("migrations"))
        if "_pre_" in path.name or post
    ]


def _files(folder: Traversable) -> Iterable[Traversable]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.endswith(".sql")), key=lambda path: path.name)


async def migrate(dsn: str, service: str, *, post: bool = False) -> list[str]:
    """Apply what is missing; return the names of what was applied.

    Raises:
        Unavailable: The database did not answer in time.
    """
    connection = await _connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await connection.execute(CREATE)
        await failpoint("migrate.locked")
        rows = await connection.fetch("SELECT package, migration FROM schema_version")
        done = {(row["package"], row["migration"]) for row in rows}
        applied = []
        for package, name, sql in migrations(service, post=post):
            if (package, name) not in done:
                async with connection.transaction():
                    await connection.execute(sql)
                    await connection.execute(
                        "INSERT INTO schema_version (package, migration) VALUES ($1, $2)", package, name
                    )
                    await failpoint("migrate.before_commit")
                applied.append(name)
        return applied
    finally:
        await connection.close()


async def missing(connection: asyncpg.Connection, service: str) -> list[str]:
    """Return the names of migrations that this code needs and the database does not have."""
    rows = await connection.fetch("SELECT package, migration FROM schema_version")
    done = {(row["package"], row["migration"]) for row in rows}
    return [name for package, name, _ in migrations(service) if (package, name) not in done]


async def _connect(dsn: str) -> asyncpg.Connection:
    deadline = time.monotonic() + WAIT_S
    connector = Connector(dsn)
    while True:
        try:
            return await connector.open(command_timeout=None)
        except (asyncpg.PostgresError, TimeoutError, *LOST) as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the database does not answer within {WAIT_S:.0f} s: {type(error).__name__}"
                ) from None
            await asyncio.sleep(RETRY_S)
