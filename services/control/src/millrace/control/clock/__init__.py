"""Lets happen what is due: timeouts, retries, joins whose time is over, schedules, queued runs whose turn has come."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog
from millrace.contracts.catalogue import queue_topics
from millrace.control.domain.events import topics_of_patterns
from millrace.control.handlers import fire_due, look_at_pools, look_at_results, look_at_schedules, look_at_triggers
from millrace.control.store import LOOK, Look, Store, Turn, look_of
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.database import Transactions
from millrace.runtime.errors import MillraceError
from millrace.runtime.failpoints import failpoint
from millrace.runtime.telemetry import TRIGGER_ERROR, TRIGGER_MATCH
from millrace.runtime.topics import AS_THE_OTHERS, create_topics

log = structlog.get_logger()

HELD_BY_ANOTHER_S = 0.05
"""When is looked again for what a run is to be told that somebody else holds just now, seconds."""
APPLIED = "applied"
"""On which each replica is told of other topics and queues; where that is lost, it sees them by its next look."""
APART_S = 0.05
"""At least so far apart are looks for what has its time: of many things, those that come meanwhile are one look."""


class Clock:
    """Looks at what is due: when it is, when somebody in this process says so, and at least once in `poll_s`."""

    def __init__(self, begin: Transactions[Store], poll_s: float, *told: Callable[[Look], None]) -> None:
        """Make a clock.

        Args:
            begin: Opens transactions.
            poll_s: How often it looks where nothing is known to be due, seconds.
            told: Each is called with what every look finds.
        """
        self._begin = begin
        self._poll_s = poll_s
        self._told = told
        self._next_s = poll_s

    async def run(self) -> None:
        """Go on until cancelled; a database that does not answer is waited for."""
        while True:
            self._next_s = self._poll_s
            try:
                if Store.signals.take_applied():
                    await self._begin.database.announce(APPLIED)
                while await self.look():
                    pass
            except MillraceError as error:
                log.warning("clock_interrupted", reason=str(error))
            await Store.signals.wait_until_due(self._next_s)

    async def look(self) -> bool:
        """Let happen what is due now; return whether anything did."""
        look = look_of(await self._begin.look(LOOK))
        due, turns = look.runs, look.turns
        self._next_s = min(self._poll_s, max(APART_S, look.next_s if look.next_s is not None else self._poll_s))
        for told in self._told:
            told(look)
        Store.signals.changed(look.waiting)
        Store.signals.chains = look.chains
        if due or turns:
            await failpoint("control.due")
        done: list[int] = []

        async def fire(run_ids: Sequence[UUID]) -> None:
            async with self._begin() as tx:
                fired = await fire_due(run_ids, tx)
            done.append(fired)
            if fired < len(run_ids):
                Store.signals.due_in(HELD_BY_ANOTHER_S)

        async def start(some: Sequence[Turn]) -> None:
            async with self._begin() as tx:
                happened = await look_at_triggers(some, tx)
            done.append(happened)

        async def fire_schedules(some: Sequence[Turn]) -> None:
            async with self._begin() as tx:
                happened = await look_at_schedules(some, tx)
            done.append(happened)

        async def let_in(some: Sequence[Turn]) -> None:
            async with self._begin() as tx:
                happened = await look_at_pools((turn.namespace for turn in some), tx)
            done.append(happened)

        async def tell_results(some: Sequence[Turn]) -> None:
            async with self._begin() as tx:
                told = await look_at_results(some, tx)
            done.append(told)

        pools = [turn for turn in turns if turn.of_pools]
        results = [turn for turn in turns if turn.key]
        schedules = [turn for turn in turns if turn.schedule]
        triggers = [turn for turn in turns if not (turn.schedule or turn.key or turn.of_pools)]
        # A run that raises costs only itself; what is put off here is looked for again in `poll_s`.
        try:
            await settle(pools, let_in, _put_off, self._begin.database)
            await settle(results, tell_results, _put_off, self._begin.database)
            await settle(due, fire, _put_off, self._begin.database)
            await settle(triggers, start, self._trigger_failed, self._begin.database)
            await settle(schedules, fire_schedules, _put_off, self._begin.database)
        except OutageError:
            return False
        return any(done)

    async def _trigger_failed(self, turn: Turn, error: Exception) -> None:
        await _put_off(turn, error)
        at = datetime.fromtimestamp(self._begin.database.clock.time(), UTC)
        said = str(error) if isinstance(error, MillraceError) else type(error).__name__
        Store.seen.failed((turn.namespace, turn.trigger), at, f"what is due of it could not be done: {said}")


async def _put_off(what: UUID | Turn, error: Exception) -> None:
    log.error("due_failed", what=str(what), exc_info=error)


class Health:
    """Keeps how triggers fare, and tells it as metrics: soon after there is news, and now and then.

    Args:
        begin: Opens transactions.
        poll_s: How often is looked for what other replicas have seen, seconds.
        pause_s: How long nothing is kept after something was, seconds.
        most_told: Of how many triggers there are metrics: the first by namespace and name.
    """

    def __init__(
        self, begin: Transactions[Store], *, poll_s: float = 60.0, pause_s: float = 5.0, most_told: int = 1_000
    ) -> None:
        self._begin, self._poll_s, self._pause_s, self._most_told = begin, poll_s, pause_s, most_told
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            poll_s = self._poll_s
            try:
                await self.look()
            except MillraceError as error:
                log.warning("trigger_health_not_kept", reason=str(error))
                poll_s = 0.0
            await asyncio.sleep(self._pause_s)
            await Store.seen.wait(poll_s)

    async def look(self) -> None:
        """Keep what was seen, and tell what is kept.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._begin() as tx:
            tx.save_seen()
            rows = await tx.fares(self._most_told)
        for row in rows:
            for gauge, at in ((TRIGGER_MATCH, row["matched_at"]), (TRIGGER_ERROR, row["failed_at"])):
                gauge.labels(row["namespace"], row["name"]).set(at.timestamp() if at is not None else 0)
        there = {(row["namespace"], row["name"]) for row in rows}
        for gone in self._told - there:
            TRIGGER_MATCH.remove(*gone)
            TRIGGER_ERROR.remove(*gone)
        self._told = there


class Topics:
    """The topics that sources name, kept up with what is applied here and by other replicas.

    Which topics a pattern names, the broker is asked.
    """

    def __init__(
        self, begin: Transactions[Store], poll_s: float, there: Callable[[], Awaitable[Iterable[str]]]
    ) -> None:
        """Make it.

        Args:
            begin: Opens transactions.
            poll_s: How often the broker is asked, where a source is a pattern, seconds.
            there: Returns the topics that the broker has.
        """
        self._begin = begin
        self._poll_s = poll_s
        self._there = there
        self._named: Mapping[str, bool] = {}
        self._matched: dict[str, bool] = {}

    def earliest(self) -> Iterable[str]:
        """Return the topics that are read from their start."""
        return [topic for topic, from_start in self._all().items() if from_start]

    def latest(self) -> Iterable[str]:
        """Return the topics that are read from when they were named."""
        return [topic for topic, from_start in self._all().items() if not from_start]

    def told(self, look: Look) -> None:
        """Take up what sources name."""
        named = look.topics
        news = any("*" in name for name in named.keys() - self._named.keys())
        self._named = named
        if news:
            Store.signals.pattern_applied()

    async def run(self) -> None:
        """Go on asking which topics there are of patterns, until cancelled."""
        while True:
            await Store.signals.wait_for_pattern(self._poll_s)
            try:
                await self._match()
            except MillraceError as error:
                log.warning("topics_not_read", reason=str(error))

    async def look(self) -> None:
        """Take up the sources that there are now."""
        self._named = look_of(await self._begin.look(LOOK)).topics
        try:
            await self._match()
        except MillraceError as error:
            log.warning("topics_not_read", reason=str(error))

    async def _match(self) -> None:
        if any("*" in name for name in self._named):
            self._matched = topics_of_patterns(self._named, await self._there())

    def _all(self) -> Mapping[str, bool]:
        exact = {name: from_start for name, from_start in self._named.items() if "*" not in name}
        return self._matched | exact


class Queues:
    """The queues of teams: their topics are made, and what their workers report is taken.

    Args:
        begin: Opens transactions.
        servers: Kafka.
        take: Is told of each queue whose reports are to be taken from now on.
    """

    def __init__(self, begin: Transactions[Store], servers: str, take: Callable[[str], None]) -> None:
        self._begin, self._servers, self._take = begin, servers, take
        self._taken: set[str] = set()

    def told(self, look: Look) -> None:
        """Have it looked after queues that are not live yet, or not taken here: another replica was asked for them."""
        if any(not live or name not in self._taken for name, live in look.queues.items()):
            Store.signals.queue_applied()

    async def run(self) -> None:
        """Look after queues that somebody was asked for, until cancelled; what fails, the clock has done again."""
        while True:
            await Store.signals.wait_for_queue()
            try:
                await self.look()
            except MillraceError as error:
                log.warning("queues_not_made", reason=str(error))

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
