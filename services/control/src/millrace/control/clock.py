"""Lets happen what is due: timeouts, retries, queued runs whose turn has come."""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

import structlog
from millrace.contracts.catalogue import queue_topics
from millrace.control.handlers import fire_due, start_next_in_queues
from millrace.control.store import Store, Turn
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.errors import MillraceError
from millrace.runtime.failpoints import failpoint
from millrace.runtime.topics import AS_THE_OTHERS, create_topics
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
        """Let happen what is due now; return whether anything did."""
        async with self._begin() as tx:
            due, turns = await tx.due()
        if due or turns:
            await failpoint("control.due")
        done: list[int] = []

        async def fire(run_ids: Sequence[UUID]) -> None:
            async with self._begin() as tx:
                fired = await fire_due(run_ids, tx)
            done.append(fired)

        async def start(some: Sequence[Turn]) -> None:
            async with self._begin() as tx:
                await start_next_in_queues(some, tx)
            done.append(len(some))

        # A run that raises costs only itself; what is put off here is looked for again in `poll_s`.
        try:
            await settle(due, fire, _put_off, self._begin.database)
            await settle(turns, start, _put_off, self._begin.database)
        except OutageError:
            return False
        return any(done)


async def _put_off(what: UUID | Turn, error: Exception) -> None:
    run_id = what.run_id if isinstance(what, Turn) else what
    log.error("due_failed", run_id=str(run_id), exc_info=error)


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


class Queues:
    """The queues of teams: their topics are made, and what their workers report is taken.

    Args:
        begin: Opens transactions.
        servers: Kafka.
        take: Is told of each queue whose reports are to be taken from now on.
        poll_s: How often is looked for those that another replica was asked for, seconds.
    """

    def __init__(self, begin: Transactions[Store], servers: str, take: Callable[[str], None], poll_s: float) -> None:
        self._begin, self._servers, self._take, self._poll_s = begin, servers, take, poll_s
        self._taken: set[str] = set()

    async def run(self) -> None:
        """Go on looking until cancelled."""
        while True:
            try:
                await self.look()
            except MillraceError as error:
                log.warning("queues_not_made", reason=str(error))
            await Store.signals.wait_for_queue(self._poll_s)

    async def look(self) -> None:
        """Make the topics that are missing, and take up the queues there are now.

        Raises:
            Unavailable: The database or the broker does not answer.
        """
        asked = await self.take_up()
        if asked:
            await create_topics(self._servers, queue_topics(asked), replication_factor=AS_THE_OTHERS)
            async with self._begin() as tx:
                tx.save_live(asked)
            await self.take_up()

    async def take_up(self) -> list[str]:
        """Take up the queues whose topics are there, and return the others."""
        async with self._begin() as tx:
            queues = await tx.all_queues()
        for name in sorted(name for name, live in queues.items() if live and name not in self._taken):
            self._taken.add(name)
            self._take(name)
        return [name for name, live in queues.items() if not live]
