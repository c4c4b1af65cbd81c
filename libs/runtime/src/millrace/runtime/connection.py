"""How a connection to PostgreSQL is opened, and what tells that the server, not what was asked, is at fault."""

import socket
from collections.abc import Awaitable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
from millrace.runtime.errors import Unavailable

T = TypeVar("T")

SESSION = {
    "timezone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    # A frozen owner's locks would hold up its successor.
    "idle_in_transaction_session_timeout": "5s",
    # So would those of one that the network no longer reaches.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
    # Fresh hot tables have stale statistics, and the planner then prefers to read them whole.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
#: Longer than the server itself gives a statement.
COMMAND_TIMEOUT_S = 35.0
ACQUIRE_TIMEOUT_S = 10.0


class NoAnswerError(asyncpg.PostgresConnectionError):  # type: ignore[misc] # asyncpg publishes no types
    """The server says nothing, not even that a statement takes too long: it is frozen, or out of reach."""


LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # A server that ends says so between two statements; asyncpg takes that for one that is under way.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""What asyncpg raises when the connection, not the statement, is at fault."""
MOVED = (asyncpg.ReadOnlySQLTransactionError, asyncpg.AdminShutdownError)
"""What a server says that is no longer the one to write to; the other connections to it are of no use either."""
HINDERED = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    NoAnswerError,
)
"""Of a server that cannot do it whatever is asked: read-only, disk or connections used up, somebody's lock, frozen."""
TRANSIENT = (
    *HINDERED,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.QueryCanceledError,
)
"""What the server says when the same transaction may go through a moment later."""

#: The same on this side: a peer that has not acknowledged for 10 s is gone.
_WATCHED = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}


class Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg publishes no types
    """A connection whose socket notices a peer that is gone, and whose silence is not taken for the caller's timeout.

    asyncpg says TimeoutError of a server that does not answer, as a handler's own code may say of anything else. So it
    is told apart here, where only the server can be meant.
    """

    __slots__ = ()

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:  # noqa: ANN401 - asyncpg's
        super().__init__(protocol, transport, *rest)
        _watch(transport.get_extra_info("socket"))

    async def execute(self, *args: Any, **options: Any) -> str:  # noqa: ANN401 - asyncpg's, here and below
        """Run a statement."""
        return await _answered(super().execute(*args, **options))

    async def executemany(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Run a statement for each row given."""
        await _answered(super().executemany(*args, **options))

    async def fetch(self, *args: Any, **options: Any) -> list[asyncpg.Record]:  # noqa: ANN401
        """Return a query's rows."""
        return await _answered(super().fetch(*args, **options))

    async def fetchrow(self, *args: Any, **options: Any) -> asyncpg.Record | None:  # noqa: ANN401
        """Return a query's first row."""
        return await _answered(super().fetchrow(*args, **options))

    async def fetchval(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return one value of a query's first row."""
        return await _answered(super().fetchval(*args, **options))


class Connector:
    """Opens connections to one database, at whichever of its hosts will do.

    Args:
        dsn: As libpq has it: `postgresql://role@one:5432,two:5432/name?target_session_attrs=read-write`.
    """

    def __init__(self, dsn: str) -> None:
        self._addresses = one_host_each(dsn)

    async def open(self, *_: object, **options: Any) -> asyncpg.Connection:  # noqa: ANN401 - asyncpg's
        """Return a connection to the first host that will do; the one that did last is asked first.

        Args:
            options: What `asyncpg.connect` takes besides the address.
        """
        options = {"connection_class": Connection, "command_timeout": COMMAND_TIMEOUT_S, **options}
        # A host that is gone without a word leaves time for the next.
        options["timeout"] = ACQUIRE_TIMEOUT_S / len(self._addresses)
        failure: BaseException = OSError("no host")
        for address in list(self._addresses):
            try:
                connection = await asyncpg.connect(address, **options)
            except LOST as error:
                failure = error
            else:
                self._addresses.sort(key=lambda other: other != address)
                return connection
        raise failure


def hindered(error: BaseException) -> bool:
    """Return whether a transaction failed because of the server's state or of others, whatever was tried in it."""
    return isinstance(error, Unavailable) and isinstance(error.__cause__, HINDERED)


def one_host_each(dsn: str) -> list[str]:
    """Return a DSN for every host that one names."""
    parts = urlsplit(dsn)
    role, at, hosts = parts.netloc.rpartition("@")
    return [parts._replace(netloc=f"{role}{at}{host}").geturl() for host in hosts.split(",")]


async def _answered(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except TimeoutError as error:
        raise NoAnswerError("the server does not answer") from error


def _watch(door: socket.socket | None) -> None:
    if door is None or door.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    door.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _WATCHED.items():
        if hasattr(socket, name):
            door.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
