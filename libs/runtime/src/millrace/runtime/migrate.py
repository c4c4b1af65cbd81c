"""Migrations: plain SQL, forward only, under one lock; whoever uses the tables meanwhile goes on.

Each is a transaction of its own, which waits only a moment for a table: behind one that waits, everybody else does.
One that begins with `-- outside a transaction` has statements that PostgreSQL takes nowhere else, above all
`CREATE INDEX CONCURRENTLY IF NOT EXISTS`; each of them must bear to be done again.
"""

import asyncio
import re
import time
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from importlib.util import find_spec

import asyncpg
from millrace.runtime.connection import LOST, Connector
from millrace.runtime.errors import Unavailable
from millrace.runtime.failpoints import failpoint

LOCK = 7_316_241_151  # any number, the same for every service
WAIT_S = 30.0
RETRY_S = 0.3
OUTSIDE = "-- outside a transaction\n"
LOCK_S = 1
"""As long as a transaction waits for a table: nobody else can write to it meanwhile."""
OTHERS_S = 60
"""As long as a statement outside a transaction waits for those at work: nobody waits behind it."""
TABLE_S = 120.0
"""As long as one migration is tried again, where others keep it from a table."""

CREATE = """
CREATE TABLE IF NOT EXISTS schema_version (
    package text NOT NULL,
    migration text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (package, migration)
)
"""


# What a build leaves that was cut short: no query uses it, and IF NOT EXISTS would take it for done.
INVALID = """
SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relname = ANY($1) AND pg_table_is_visible(c.oid)
"""


def migrations(service: str, *, post: bool = False) -> list[tuple[str, str, str]]:
    """Return (package, name, SQL) of the runtime's and a service's migrations, in order.

    Args:
        service: Whose.
        post: Whether to add those meant for after the old code is gone (`_post_`).
    """
    return [
        (package, path.name, path.read_text())
        for package in _packages(service)
        for path in _files(resources.files(package).joinpath("migrations"))
        if "_pre_" in path.name or post
    ]


def _packages(service: str) -> list[str]:
    """Return whose tables a service has: the runtime's, and its own; a team's worker has none of its own."""
    own = f"millrace.{service}"
    return [*dict.fromkeys(("millrace.runtime", *([own] if find_spec(own) is not None else [])))]


def _files(folder: Traversable) -> Iterable[Traversable]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.endswith(".sql")), key=lambda path: path.name)


async def migrate(dsn: str, service: str, *, post: bool = False) -> list[str]:
    """Apply what is missing; return the names of what was applied.

    Raises:
        Unavailable: The database did not answer in time, or others did not let go of a table.
    """
    connection = await _connect(dsn)
    try:
        await _lock(connection)
        await connection.execute(CREATE)
        await failpoint("migrate.locked")
        rows = await connection.fetch("SELECT package, migration FROM schema_version")
        done = {(row["package"], row["migration"]) for row in rows}
        applied = []
        for package, name, sql in migrations(service, post=post):
            if (package, name) not in done:
                await apply(connection, package, name, sql)
                applied.append(name)
        return applied
    finally:
        await connection.close()


async def apply(connection: asyncpg.Connection, package: str, name: str, sql: str, *, wait_s: float = TABLE_S) -> None:
    """Apply one migration, again and again for a while where others are in its way.

    Raises:
        Unavailable: They still are.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            if sql.startswith(OUTSIDE):
                await _build(connection, sql)
            async with connection.transaction():
                if not sql.startswith(OUTSIDE):
                    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
                    await connection.execute(sql)
                await connection.execute(
                    "INSERT INTO schema_version (package, migration) VALUES ($1, $2)", package, name
                )
                await failpoint("migrate.before_commit")
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} cannot be applied: others do not let go of its table") from error
            await asyncio.sleep(LOCK_S)
        else:
            return


async def missing(connection: asyncpg.Connection, service: str) -> list[str]:
    """Return the names of migrations that this code needs and the database does not have."""
    rows = await connection.fetch("SELECT package, migration FROM schema_version")
    done = {(row["package"], row["migration"]) for row in rows}
    return [name for package, name, _ in migrations(service) if (package, name) not in done]


async def _lock(connection: asyncpg.Connection) -> None:
    """Be the only one that migrates; whoever waits must not do so in a statement, for which a build would wait."""
    while True:
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            return
        await asyncio.sleep(RETRY_S)


async def _build(connection: asyncpg.Connection, sql: str) -> None:
    """Execute statement by statement, after what an earlier attempt has left half built."""
    await connection.execute(f"SET lock_timeout = '{OTHERS_S}s'")
    for index in await connection.fetch(INVALID, re.findall(r"INDEX CONCURRENTLY IF NOT EXISTS (\w+)", sql)):
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index[0]}")
    plain = re.sub(r"^\s*--.*$", "", sql, flags=re.MULTILINE)
    for statement in filter(str.strip, plain.split(";")):
        await connection.execute(statement)


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
