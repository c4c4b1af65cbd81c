"""A service's own database, and the transactions that are opened on it."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar

import asyncpg
from millrace.runtime.clock import DatabaseClock
from millrace.runtime.connection import (
    ACQUIRE_TIMEOUT_S,
    LOST,
    MOVED,
    SESSION,
    TRANSIENT,
    Connection,
    Connector,
)
from millrace.runtime.errors import InvalidInput, Unavailable
from millrace.runtime.failpoints import failpoint
from millrace.runtime.handover import Handover
from millrace.runtime.transaction import Transaction, UnexpectedError

S = TypeVar("S", bound=Transaction)

NO_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
"""What the server says of a null character: in a text, and as an escape in JSON."""

NOW = "SELECT now()"
CHANNEL = "outbox"
"""On which the process that relays is told that another one has committed events."""
HEALTH = "SELECT now(), current_setting('transaction_read_only') = 'off'"
FRESH_S = 3.0
"""A database that has answered so short a time ago, and failed in nothing since, is not asked whether it does."""
WRITABLE_S = 10.0
"""Nor one that has taken writes so short a time ago whether it takes them."""
TIME_S = 5.0
"""After this it is asked for its time again: transactions that hope take that for known."""


class Database:
    """A service's own database: a small pool whose every use is one transaction.

    Attributes:
        handover: What transactions with events were committed here, for the relay.
        clock: Its time.
        listeners: What is called here when any process announces something, by channel; heard on the relay's session.
    """

    def __init__(self, dsn: str, pool_size: int = 8) -> None:
        self.handover = Handover()
        self.clock = DatabaseClock()
        self.listeners: dict[str, Callable[[], None]] = {}
        self._dsn = dsn
        self._connector = Connector(dsn)
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self._answered_at = self._wrote_at = -math.inf

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            connect=self._connector.open,
            connection_class=Connection,
            min_size=1,
            max_size=self._pool_size,
            init=_set_codecs,
            reset=_no_reset,
            max_inactive_connection_lifetime=60,
            server_settings=SESSION,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TimeoutError:
                pool.terminate()

    async def connect(self, **settings: str) -> asyncpg.Connection:
        """Return a connection outside the pool, for one that holds a session lock."""
        return await self._connector.open(server_settings=SESSION | settings)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection; for what is no transaction, such as a check of health.

        Raises:
            Unavailable: The database does not answer in time.
        """
        if self._pool is None:
            raise Unavailable("the database is not open")
        try:
            # Not by the pool's own timeout: it makes a task of each use.
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
                connection = await self._pool.acquire()
        except (*LOST, *TRANSIENT, TimeoutError) as error:
            self.failed()
            raise Unavailable(f"the database does not answer: {type(error).__name__}") from error
        try:
            yield connection
        finally:
            # One that cannot be given back is closed, and what was done on it stands.
            with suppress(TimeoutError, *LOST):
                await self._pool.release(connection, timeout=ACQUIRE_TIMEOUT_S)

    def answered(self) -> None:
        """Note that it has just answered."""
        self._answered_at = time.monotonic()

    def wrote(self) -> None:
        """Note that it takes writes."""
        self._wrote_at = time.monotonic()

    def failed(self) -> None:
        """Note that something went wrong just now: whether it was the database, it is asked, also whether it writes."""
        self._answered_at = self._wrote_at = -math.inf

    async def healthy(self) -> bool:
        """Return whether the database takes writes and answers: of itself just now, or within a second or two."""
        at = time.monotonic()
        known = at - self._answered_at < FRESH_S and at - self._wrote_at < WRITABLE_S
        if known and at - self.clock.seen_at < TIME_S:
            return True
        try:
            async with asyncio.timeout(2), self.connection() as connection:
                now, writable = await connection.fetchrow(HEALTH)
        except (Unavailable, TimeoutError, asyncpg.PostgresError, *LOST):
            return False
        self.clock.saw(now, time.monotonic())
        self.answered()
        if writable:
            self.wrote()
        else:
            self._wrote_at = -math.inf
            await self.leave()
        return bool(writable)

    async def announce(self, channel: str = CHANNEL) -> None:
        """Tell all processes that something was committed in this one: events to be sent, or what a channel is for.

        Outside any transaction: those that notify commit one after another. One that dies before leaves others to look.

        Raises:
            Unavailable: The database does not answer in time, was lost, or takes no writes.
        """
        try:
            async with self.connection() as connection:
                await connection.execute(f"NOTIFY {channel}")
        except (*LOST, *TRANSIENT) as error:
            self.failed()
            raise Unavailable(f"the database could not tell others: {type(error).__name__}") from error

    async def leave(self) -> None:
        """Open new connections from now on, to whichever server takes writes; those in use are closed after it."""
        if self._pool:
            await self._pool.expire_connections()


class Transactions(Generic[S]):
    """Opens transactions of one kind of Store: `async with begin() as tx`."""

    def __init__(self, database: Database, store: type[S]) -> None:
        self.database = database
        self.store = store

    @asynccontextmanager
    async def __call__(self, first: str = NOW, *args: Any) -> AsyncIterator[S]:  # noqa: ANN401 - the query's
        """Open a transaction; it is committed at the end, or rolled back when anything raises.

        Args:
            first: Its first query, of one row that has `now()` as `now`: kept as `opening`.
            args: The parameters of that.

        Raises:
            InvalidInput: It was given a text that PostgreSQL cannot keep.
            Unavailable: The database does not answer, or the connection was lost; whether the commit took place is
                then unknown, and the inbox or the stored answer tells.
        """
        async with self.database.connection() as connection:
            tx = self.store(connection)
            async with self._ended(tx, connection):
                began = time.monotonic()
                await connection.execute("BEGIN")
                (tx.opening,) = await connection.fetch(first, *args)
                tx.now = tx.opening["now"]
                self.database.clock.saw(tx.now, began)
                yield tx

    async def look(self, sql: str, *args: Any) -> asyncpg.Record:  # noqa: ANN401 - the query's
        """Return what one query finds, which is all that is asked of the database.

        Args:
            sql: A query of one row that has `now()` as `now`.
            args: The parameters of that.

        Raises:
            Unavailable: As above.
        """
        async with self.database.connection() as connection:
            tx = self.store(connection, hopes=True)
            async with self._ended(tx, connection):
                began = time.monotonic()
                (found,) = await connection.fetch(sql, *args)
                self.database.clock.saw(found["now"], began)
        return found

    @asynccontextmanager
    async def hoping(self) -> AsyncIterator[S]:
        """Open a transaction that `hopes`: it begins at its first read, and without one is a single statement.

        Its `now` is the database's time as this process carries it on.

        Raises:
            UnexpectedError: It hoped in vain: it is to be done again, by `begin()`.
            InvalidInput: As above, and likewise Unavailable.
        """
        async with self.database.connection() as connection:
            tx = self.store(connection, hopes=True)
            tx.now = datetime.fromtimestamp(self.database.clock.time(), UTC)
            try:
                async with self._ended(tx, connection):
                    yield tx
            except (asyncpg.UniqueViolationError, asyncpg.CheckViolationError) as error:
                raise UnexpectedError(str(error)) from error

    @asynccontextmanager
    async def _ended(self, tx: S, connection: asyncpg.Connection) -> AsyncIterator[None]:
        try:
            yield
            await tx.flush()
            await failpoint("transaction.flushed")
            await tx.commit()
            await failpoint("transaction.committed")
        except BaseException as error:
            tx.let_go()
            self.database.failed()
            if tx.begun and not _is_gone(connection):
                await _rollback(connection)
            if tx.written:
                self.database.handover.look_again()  # a commit that was lost with its connection may stand
            if isinstance(error, MOVED):
                await self.database.leave()
            if isinstance(error, TRANSIENT) or (isinstance(error, LOST) and _is_gone(connection)):
                raise Unavailable(f"the database could not do it now: {type(error).__name__}") from error
            if isinstance(error, NO_TEXT):
                raise InvalidInput("a text has a null character in it, which cannot be kept") from error
            raise
        self.database.answered()
        if tx.emitted:
            self.database.handover.give(tx.written)
        tx.committed()


def _is_gone(connection: asyncpg.Connection) -> bool:
    """Return whether a connection is lost; the pool takes one back as soon as it is, and it then says only that."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


async def _rollback(connection: asyncpg.Connection) -> None:
    try:
        await asyncio.wait_for(connection.execute("ROLLBACK"), 5)
    except (asyncpg.PostgresError, TimeoutError, *LOST):
        connection.terminate()


async def _set_codecs(connection: asyncpg.Connection) -> None:
    # jsonb columns take and give Python values.
    await connection.set_type_codec("jsonb", encoder=_dumps, decoder=json.loads, schema="pg_catalog")


def _dumps(value: object) -> str:
    return json.dumps(value, default=str, allow_nan=False)


async def _no_reset(_: asyncpg.Connection) -> None:
    """Nothing outlives a transaction here, so that nothing needs to be reset."""
