"""One transaction for many; when anything in it raises, it is replayed by halves until what is bad stands alone."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from millrace.runtime.connection import hindered
from millrace.runtime.database import Database

T = TypeVar("T")


class OutageError(Exception):
    """The database does not answer as it should: nothing that failed says anything of what was tried."""


async def settle(
    items: Sequence[T],
    attempt: Callable[[Sequence[T]], Awaitable[None]],
    alone: Callable[[T, Exception], Awaitable[None]],
    database: Database,
) -> None:
    """Settle all items in order, in as few transactions as will go through.

    Args:
        items: What is to be done, in order.
        attempt: Does some of them in one transaction, or raises and has done nothing.
        alone: Decides on one item that raised by itself.
        database: Where it is done: an outage is judged from the connection, not from an error's class.

    Raises:
        OutageError: The database does not answer, or `alone` raised; what was not settled is to be tried again.
    """
    if not items:
        return
    try:
        await attempt(items)
    except Exception as error:
        if hindered(error) or not await database.healthy():
            raise OutageError from error
        if len(items) == 1:
            await _decide(items[0], error, alone)
            return
        middle = len(items) // 2
        await settle(items[:middle], attempt, alone, database)
        await settle(items[middle:], attempt, alone, database)


async def _decide(item: T, error: Exception, alone: Callable[[T, Exception], Awaitable[None]]) -> None:
    try:
        await alone(item, error)
    except Exception as failed:
        raise OutageError from failed
