"""The loop that reads: polls, offsets, rebalances."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from millrace.runtime.assignors import assignors_of
from millrace.runtime.consume.items import Item, Readers
from millrace.runtime.consume.pace import Pace
from millrace.runtime.consume.positions import Positions
from millrace.runtime.consume.queues import Queues
from millrace.runtime.consume.reader import BoundedConsumer
from millrace.runtime.consume.settlement import Settlement
from millrace.runtime.database import Transactions
from millrace.runtime.failpoints import failpoint
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Record
from millrace.runtime.telemetry import BATCH_DURATION

POLL_S = 0.5
COMMIT_EVERY_S = 1.0
OUTAGE_CAP_S = 30.0
LOOK_EVERY_S = 1.0
SILENCE_S = 10.0
NONE_S = 0.2
REVOKE_WAIT_S = 30.0

log = structlog.get_logger()


@dataclass
class Progress:
    """How far a service has read: what a check of life looks at."""

    assigned: bool = False
    rounds: int = 0
    failing: dict[TopicPartition, float] = field(default_factory=dict)


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka publishes no types
    """Reads a service's own topics, or the foreign ones, and settles what it reads: at least once, with effect once."""

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        begin: Transactions[Any],
        *,
        readers: Readers,
        foreign: bool = False,
        one_by_one: bool = False,
        retry_s: float = 0.5,
    ) -> None:
        """Make a consumer.

        Args:
            service: Names the consumer group; that of the foreign topics ends in `.foreign`.
            settings: The service's.
            begin: Opens the transactions that handlers get.
            readers: Who takes what.
            foreign: Whether to read the foreign topics, in a group of their own, rather than the service's own: records
                from outside do not wait for a round of events, nor events for a change of the topics.
            one_by_one: One event per transaction: only to measure what batches are worth.
            retry_s: The first wait before an event is tried again, seconds; it doubles each time.
        """
        self.progress = Progress()
        self._service = service
        self._settings = settings
        self.begin = begin
        self._retry_s = retry_s
        self._readers = readers
        self._group = f"{service}.foreign" if foreign else service
        self._topics = readers.foreign if foreign else readers.own
        self._queues = Queues(readers, following=readers.follows and not foreign)
        self._settlement = Settlement(service, begin, one_by_one=one_by_one)
        self._positions = Positions(service, settings.kafka_servers, self._readers)
        self._pace = Pace()
        self._consumer: Any = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._polling: asyncio.Timeout | None = None
        self._uncommitted: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self._round_began = 0.0
        self._answers = -1
        self._answered_at = 0.0

    @property
    def handled(self) -> int:
        """How many records have been settled."""
        return self._settlement.handled

    def round_age_s(self) -> float:
        """Return how long the round at hand takes so far; 0 between two."""
        return asyncio.get_running_loop().time() - self._round_began if self._round_began else 0.0

    def stuck(self, seconds: float) -> str:
        """Return why this consumer is no longer alive: a round has settled nothing for so long; nothing when it is."""
        since = max(self._round_began, self._settlement.settled_at)
        if self._round_began and asyncio.get_running_loop().time() - since > seconds:
            return f"a round of events has settled nothing for more than {seconds:.0f} s"
        return ""

    def out_of_touch(self) -> str:
        """Return why nothing can be read now; nothing when it can, or when a round is being settled."""
        if self._round_began or not self._topics():
            return ""
        if not self.progress.assigned:
            return "no partitions assigned yet"
        reading = self._consumer.assignment() - self._consumer.paused()
        if self._consumer.answers != self._answers or not reading or not self._consumer.asking:
            self._answers, self._answered_at = self._consumer.answers, time.monotonic()
        if time.monotonic() - self._answered_at > SILENCE_S:
            return f"the broker has not answered for {SILENCE_S:.0f} s"
        return ""

    async def run(self) -> None:
        """Read until stopped; lost brokers are waited for."""
        while not self._stopping.is_set():
            try:
                if self._topics():
                    await self._session()
                else:
                    await self._pause(NONE_S)
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning("consumer_interrupted", error=type(error).__name__)
                await self._pause(1.0)

    def stop(self) -> None:
        """End after the round at hand, with its offsets committed."""
        self._stopping.set()
        if self._polling is not None:
            with suppress(RuntimeError):  # it is ending just now
                self._polling.reschedule(asyncio.get_running_loop().time())

    async def _session(self) -> None:
        topics = self._topics()
        self._consumer = BoundedConsumer(
            self._settings,
            client_id=f"{self._group}-{self._settings.instance}",
            group_id=self._group,
            # A killed member is back at once under the same name, with no rebalance.
            group_instance_id=f"{self._service}-{self._settings.instance}",
            partition_assignment_strategy=assignors_of(topics),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            rebalance_timeout_ms=60_000,
            max_poll_interval_ms=int(self._settings.max_poll_s * 1000),
            max_poll_records=None,
            metadata_max_age_ms=10_000,
            fetch_max_wait_ms=500,
        )
        try:
            await asyncio.wait_for(self._consumer.start(), 30)
            await self._queues.look(self._consumer)
            if topics != self._topics():
                return  # before the group knows this member, which comes back at once and reads all of them
            self._consumer.subscribe(sorted(topics), listener=self)
            while not self._stopping.is_set() and topics == self._topics():
                await self._round()
                await self._queues.look(self._consumer)
                if back := await self._positions.returned(self._consumer, topics):
                    # What was noted of the topic that is gone says nothing of the one that is there now.
                    self._uncommitted = {p: at for p, at in self._uncommitted.items() if p.topic not in back}
        finally:
            self.progress.assigned = False
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._commit(), 5)
            with suppress(KafkaError):
                await self._consumer.stop()

    async def _round(self) -> None:
        records = await self._poll()
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._resume(began)
        if records:
            await failpoint("consume.polled")
            self._idle.clear()
            self._round_began = began
            try:
                await self._settle([self._readers.read(record) for record in records])
            finally:
                self._round_began = 0.0
                self._idle.set()
            BATCH_DURATION.labels(self._service).observe(loop.time() - began)
            self._pace.took(len(records), began, loop.time())
        self.progress.rounds += 1
        if self._uncommitted and loop.time() - self._committed_at > COMMIT_EVERY_S:
            await self._commit()
            await self._positions.measure_lag(self._consumer)
        await self._pause(self._pace.next_at - loop.time())

    async def _poll(self) -> list[Record]:
        """Return what has come, up to a round; under a backlog the next round is fetched meanwhile, else not.

        Fetched ahead, the first record to come would make up the next round by itself, and what comes after it would
        wait at the broker for the round after that.
        """
        consumer = self._consumer
        self._positions.open(consumer, self.progress.failing)
        consumer.ask()
        found: dict[TopicPartition, list[Any]] = {}
        now = asyncio.get_running_loop().time()
        ends_at = min([now + POLL_S, *self.progress.failing.values()])
        try:
            with suppress(TimeoutError):
                # Of its own, getmany waits for partitions while it has none, however long that takes.
                async with asyncio.timeout_at(ends_at) as self._polling:
                    found = await consumer.getmany(timeout_ms=POLL_S * 1000, max_records=self._pace.most)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            mended = await self._positions.mend(consumer, error)
            self._uncommitted |= mended
        finally:
            self._polling = None
        if self._stopping.is_set():
            return []  # who leaves takes nothing more upon itself: it is read by whoever reads on
        if 0 < sum(map(len, found.values())) < self._pace.most:
            consumer.rest()
        return [consumer.record(r) for records in found.values() for r in records]

    async def _settle(self, items: Sequence[Item]) -> None:
        self._advance(items, await self._settlement.settle(items))
        if outages := self._settlement.outages:
            await self._outlast(min(OUTAGE_CAP_S, 0.2 * 2**outages) * random.uniform(0.5, 1))  # noqa: S311 - jitter

    async def _outlast(self, seconds: float) -> None:
        """Wait for the database, looking once a second, for at most so long."""
        while seconds > 0 and not self._stopping.is_set():
            await self._pause(min(LOOK_EVERY_S, seconds))
            seconds -= LOOK_EVERY_S
            if await self.begin.database.healthy():
                return

    def _advance(self, items: Sequence[Item], unsettled: dict[TopicPartition, int]) -> None:
        ends: dict[TopicPartition, int] = {}
        for item in items:
            ends[TopicPartition(item.record.topic, item.record.partition)] = item.record.offset + 1
        mine = self._consumer.assignment() if self._consumer else set()
        for place, end in ends.items():
            if place not in mine:
                continue
            self._uncommitted[place] = unsettled.get(place, end)
            if place in unsettled:
                self._consumer.seek(place, unsettled[place])
                self._consumer.pause(place)
                worst = max((self._settlement.attempts.get(item.place, 1) for item in items), default=1)
                wait_s = min(OUTAGE_CAP_S, self._retry_s * 2 ** (worst - 1)) * random.uniform(0.5, 1)  # noqa: S311
                self.progress.failing[place] = asyncio.get_running_loop().time() + wait_s

    def _resume(self, now: float) -> None:
        # What is not failing, the next fetch asks for.
        for place in [place for place, at in self.progress.failing.items() if at <= now]:
            del self.progress.failing[place]

    async def _commit(self) -> None:
        offsets, self._uncommitted = self._uncommitted, {}
        self._committed_at = asyncio.get_running_loop().time()
        mine = self._consumer.assignment()
        offsets = {place: offset for place, offset in offsets.items() if place in mine}
        if offsets:
            await failpoint("consume.before_offsets")
            try:
                await self._consumer.commit(offsets)
                await failpoint("consume.after_offsets")
            except KafkaError as error:
                # Whoever reads on from the older offset finds the events in the inbox.
                log.info("offsets_not_committed", error=type(error).__name__)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Let the round at hand end, then commit what it settled."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), REVOKE_WAIT_S)
        await failpoint("consume.revoked")
        if revoked:
            await self._commit()
        self.progress.assigned = False
        self.progress.failing.clear()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Begin where the group stopped; a new listener begins where its row says."""
        await failpoint("consume.assigned")
        self._consumer.tell_all()
        await self._positions.begin(self._consumer, assigned)
        self.progress.assigned = True
