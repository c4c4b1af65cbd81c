"""Lets happen what is due: timeouts, retries, queued runs whose turn has come."""

from collections.abc import Iterable

import structlog
from millrace.control.handlers import fire_due, start_next_in_queues
from millrace.control.store import Store
from millrace.runtime.errors import MillraceError
from millrace.runtime.transaction import Transactions

log = structlog.get_logger()


class Clock:
    """Looks at what is due, at most once in `poll_s` while nothing happens."""

    def __init__(self, begin: Transactions[Store], poll_s: float) -> None:
        self._begin = begin
        self._poll_s = poll_s

    async def run(self) -> None:
        """Go on until cancelled; a database that does not answer is waited for."""
        while True:
            try:
                while await self.look():
                    pass
            except MillraceError as error:
                log.warning("clock_interrupted", reason=str(error))
            await Store.signals.wait_until_due(self._poll_s)

    async def look(self) -> bool:
        """Let happen what is due now; return whether anything was."""
        async with self._begin() as tx:
            due, turns = await tx.due()
            if due:
                await fire_due(due, tx)
        if turns:
            async with self._begin() as tx:
                await start_next_in_queues(turns, tx)
        return bool(due or turns)


class Topics:
    """The topics that sources name, kept up with what is applied here and by other replicas."""

    def __init__(self, begin: Transactions[Store], poll_s: float) -> None:
        self._begin = begin
        self._poll_s = poll_s
        self._from_start: dict[str, bool] = {}

    def earliest(self) -> Iterable[str]:
        """Return the topics that are read from their start."""
        return [topic for topic, from_start in self._from_start.items() if from_start]

    def latest(self) -> Iterable[str]:
        """Return the topics that are read from when they were named."""
        return [topic for topic, from_start in self._from_start.items() if not from_start]

    async def run(self) -> None:
        """Go on looking until cancelled."""
        while True:
            try:
                await self.look()
            except MillraceError as error:
                log.warning("sources_not_read", reason=str(error))
            await Store.signals.wait_for_source(self._poll_s)

    async def look(self) -> None:
        """Take up the sources there are now."""
        async with self._begin() as tx:
            self._from_start = await tx.topics()
