"""Transactions that take for granted what is nearly always so, and what is done where it was not."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from millrace.runtime.database import NOW, Transactions
from millrace.runtime.errors import Unavailable
from millrace.runtime.telemetry import HOPED_IN_VAIN

T = TypeVar("T")

FIRST_S = 0.05
LONGEST_S = 5.0

log = structlog.get_logger()


class Hope:
    """Does things in hope, and for a while without it after that was in vain: the longer, the more often it was.

    Args:
        service: Whose; it is counted under that how often it was in vain.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._in_vain = 0
        self._again_at = 0.0

    async def do(
        self,
        begin: Transactions[Any],
        attempt: Callable[[Any], Awaitable[T]],
        first: str = NOW,
        *args: Any,  # noqa: ANN401 - the query's
        possible: bool = True,
    ) -> T:
        """Return what `attempt` returns of the transaction that was committed.

        Whatever is raised in hope, the outage of the database apart, says nothing: it is raised again without.

        Args:
            begin: Opens transactions.
            attempt: What is done in one; it may be called for a second one when nothing of the first is left.
            first: The first query of one without hope.
            args: The parameters of that.
            possible: Whether there is any hope.
        """
        if possible and begin.database.clock.seen and time.monotonic() >= self._again_at:
            try:
                async with begin.hoping() as tx:
                    done = await attempt(tx)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - it may have failed for what it took for granted
                self._again_at = time.monotonic() + min(LONGEST_S, FIRST_S * 2**self._in_vain)
                self._in_vain += 1
                HOPED_IN_VAIN.labels(self._service).inc()
                log.debug("hoped_in_vain", error=type(error).__name__)
            else:
                self._in_vain = 0
                return done
        async with begin(first, *args) as tx:
            return await attempt(tx)
