"""One consumer per service: one poll of all its topics is one transaction."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from millrace.contracts.event import Event
from millrace.runtime import held
from millrace.runtime.assignors import assignors_of
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.envelope import Envelope, UnknownTypeError, read_envelope, read_event, read_headers, too_old
from millrace.runtime.errors import InvalidInput, MillraceError
from millrace.runtime.failpoints import failpoint
from millrace.runtime.inbox import HORIZON, claim, prune
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Record, Subscription
from millrace.runtime.telemetry import (
    BATCH_DURATION,
    BATCH_EVENTS,
    CONSUMER_LAG,
    EVENTS_FAILED,
    EVENTS_HANDLED,
    EVENTS_HELD,
    EVENTS_SKIPPED,
    event_span,
)
from millrace.runtime.transaction import Transaction, Transactions

POLL_MS = 1000
MAX_RECORDS = 1000
ROUND_S = 0.01
COMMIT_EVERY_S = 1.0
PRUNE_EVERY_S = 600.0
ATTEMPTS = 5
OUTAGE_CAP_S = 30.0
REVOKE_WAIT_S = 30.0

Foreign = Callable[[Sequence[Record], Any], Awaitable[None]]

log = structlog.get_logger()


@dataclass(frozen=True)
class Listener:
    """A function that takes records of foreign topics as received."""

    topics: Callable[[], Iterable[str]]
    function: Foreign
    start: str


@dataclass(frozen=True, eq=False)
class Item:
    """One record to be settled, as one of: an event, a record of a foreign topic, or what cannot be read."""

    record: Record
    envelope: Envelope | None = None
    event: Event | None = None
    rows: tuple[Subscription, ...] = ()
    listener: Listener | None = None
    unreadable: str = ""

    @property
    def key(self) -> tuple[str, bytes | None]:
        """Return what its order is kept by."""
        return (self.record.topic, self.record.key)


@dataclass
class Progress:
    """How far a service has read: what a check of life looks at."""

    assigned: bool = False
    rounds: int = 0
    handled: int = 0
    failing: dict[TopicPartition, float] = field(default_factory=dict)


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka publishes no types
    """Reads all topics of one service and settles what it reads, at least once and with effect once."""

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        begin: Transactions[Any],
        *,
        one_by_one: bool = False,
        retry_s: float = 0.5,
    ) -> None:
        """Make a consumer that has no subscriptions yet.

        Args:
            service: Names the consumer group.
            settings: The service's.
            begin: Opens the transactions that handlers get.
            one_by_one: One event per transaction: only to measure what batches are worth.
            retry_s: The first wait before an event is tried again, seconds; it doubles each time.
        """
        self.progress = Progress()
        self._service = service
        self._settings = settings
        self._begin = begin
        self._one_by_one = one_by_one
        self._retry_s = retry_s
        self._subscriptions: list[Subscription] = []
        self._listeners: list[Listener] = []
        self._by_topic: dict[str, list[Subscription]] = {}
        self._foreign: dict[str, Listener] = {}
        self._consumer: Any = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._attempts: dict[tuple[str, int, int], int] = {}
        self._uncommitted: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self._pruned_at = 0.0
        self._outages = 0
        self._round_began = 0.0

    def subscribe(self, subscriptions: Iterable[Subscription]) -> None:
        """Add rows to what the service reacts to; before `run`."""
        for row in subscriptions:
            self._subscriptions.append(row)
            for topic in row.topics:
                self._by_topic.setdefault(topic, []).append(row)

    def listen(self, listener: Listener) -> None:
        """Add a function for foreign topics; which ones may change while running."""
        self._listeners.append(listener)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._subscriptions or self._listeners)

    def stuck(self, seconds: float) -> str:
        """Return why this consumer is no longer alive: one round has taken so long; nothing when it is."""
        began = self._round_began
        if began and asyncio.get_running_loop().time() - began > seconds:
            return f"one round of events has taken more than {seconds:.0f} s"
        return ""

    async def run(self) -> None:
        """Read until stopped; lost brokers are waited for."""
        while not self._stopping.is_set():
            try:
                await self._session()
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning("consumer_interrupted", error=type(error).__name__)
                await self._pause(1.0)

    def stop(self) -> None:
        """End after the round at hand, with its offsets committed."""
        self._stopping.set()

    async def _session(self) -> None:
        topics = self._wanted_topics()
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka_servers,
            client_id=f"{self._service}-{self._settings.instance}",
            group_id=self._service,
            # A killed member is back at once under the same name, with no rebalance.
            group_instance_id=f"{self._service}-{self._settings.instance}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=assignors_of(topics),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            rebalance_timeout_ms=60_000,
            max_poll_records=MAX_RECORDS,
            max_partition_fetch_bytes=8 * 1024 * 1024,
            metadata_max_age_ms=30_000,
            fetch_max_wait_ms=500,
        )
        try:
            await asyncio.wait_for(self._consumer.start(), 30)
            self._consumer.subscribe(sorted(topics), listener=self)
            while not self._stopping.is_set() and topics == self._wanted_topics():
                await self._round()
        finally:
            self.progress.assigned = False
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._commit(), 5)
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._consumer.stop(), 10)

    def _wanted_topics(self) -> frozenset[str]:
        self._foreign = {topic: listener for listener in self._listeners for topic in listener.topics()}
        return frozenset(self._by_topic) | frozenset(self._foreign)

    async def _round(self) -> None:
        records = await self._poll()
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._resume(began)
        if records:
            self._idle.clear()
            self._round_began = began
            try:
                await self.settle([self._item(record) for record in records])
            finally:
                self._round_began = 0.0
                self._idle.set()
            BATCH_EVENTS.labels(self._service).observe(len(records))
            BATCH_DURATION.labels(self._service).observe(loop.time() - began)
        self.progress.rounds += 1
        if self._uncommitted and loop.time() - self._committed_at > COMMIT_EVERY_S:
            await self._commit()
            await self._measure_lag()
        if loop.time() - self._pruned_at > PRUNE_EVERY_S:
            self._pruned_at = loop.time()
            await self._prune()
        if records:
            # Larger groups cost less; the first record after a pause has not waited.
            await self._pause(ROUND_S - (loop.time() - began))

    async def _poll(self) -> list[Record]:
        polling = asyncio.ensure_future(self._consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((polling, stopping), return_when=asyncio.FIRST_COMPLETED)
            found = polling.result() if polling.done() else {}
        finally:
            polling.cancel()
            stopping.cancel()
        return [
            Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp)
            for records in found.values()
            for r in records
        ]

    def _item(self, record: Record) -> Item:
        listener = self._foreign.get(record.topic)
        if listener:
            return Item(record, listener=listener)
        try:
            envelope = read_envelope(read_headers(record.headers))
            event = read_event(envelope, record.value)
        except InvalidInput as error:
            return Item(record, unreadable=str(error))
        except UnknownTypeError:
            EVENTS_SKIPPED.labels(record.topic).inc()
            return Item(record)
        rows = tuple(row for row in self._by_topic.get(record.topic, ()) if isinstance(event, row.event))
        return Item(record, envelope, event, rows)

    async def settle(self, items: Sequence[Item]) -> None:
        """Settle one poll's records; those that must be tried again are sought back to."""
        waiting: list[Item] = []

        def waits(item: Item) -> bool:
            return any(item.key == other.key for other in waiting)

        async def attempt(some: Sequence[Item]) -> None:
            # What comes after an event that waits, of the same key, waits too.
            if ready := [item for item in some if not waits(item)]:
                await self._handle(ready)
            waiting.extend([item for item in some if waits(item)])

        async def alone(item: Item, error: Exception) -> None:
            if not await self._bury(item, error):
                waiting.append(item)

        try:
            for some in self._groups(items):
                await settle(some, attempt, alone, self._begin.database)
            self._outages = 0
        except OutageError:
            self._outages += 1
            waiting = list(items)
            log.warning("database_unreachable", service=self._service, rounds=self._outages)
        self._advance(items, _first_offsets(waiting))
        if self._outages:
            await self._pause(min(OUTAGE_CAP_S, 0.2 * 2**self._outages) * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def _groups(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        return [[item] for item in items] if self._one_by_one else [items]

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
                worst = max(self._attempts.values(), default=1)
                wait_s = min(OUTAGE_CAP_S, self._retry_s * 2 ** (worst - 1)) * random.uniform(0.5, 1)  # noqa: S311
                self.progress.failing[place] = asyncio.get_running_loop().time() + wait_s

    def _resume(self, now: float) -> None:
        due = [place for place, at in self.progress.failing.items() if at <= now]
        for place in due:
            del self.progress.failing[place]
            if place in self._consumer.assignment():
                self._consumer.resume(place)

    async def _handle(self, items: Sequence[Item]) -> None:
        async with self._begin() as tx:
            fresh = await claim(tx, [item.envelope.event_id for item in items if item.envelope and not _old(item, tx)])
            todo: list[Item] = []
            for item in items:
                if item.unreadable:
                    self._hold(tx, item, item.unreadable, 1)
                elif item.envelope is None:
                    todo.append(item)
                elif _old(item, tx):
                    self._hold(
                        tx, item, f"too old to deduplicate: emitted {item.envelope.emitted_at:%Y-%m-%d %H:%M}", 1
                    )
                elif item.envelope.event_id in fresh:
                    fresh.discard(item.envelope.event_id)
                    todo.append(item)
            await self.apply(todo, tx)
        failpoint("consume.after_commit")
        for item in items:
            self._attempts.pop(_at(item), None)
        self.progress.handled += len(items)
        _report(self._service, items, todo)

    async def apply(self, items: Sequence[Item], tx: Transaction) -> None:
        """Call the handlers of some events, in order; batch handlers last, each once with all of its events."""
        batches: dict[Subscription, list[Item]] = {}
        foreign: dict[Listener, list[Record]] = {}
        for item in items:
            if item.listener:
                foreign.setdefault(item.listener, []).append(item.record)
            for row in item.rows:
                if row.batch:
                    batches.setdefault(row, []).append(item)
                else:
                    with event_span(self._service, item.event, item.envelope) as envelope:
                        tx.handling(item.event, envelope)
                        await row.function(item.event, tx)
        tx.handling(None, None)
        for row, some in batches.items():
            with ExitStack() as spans:
                for item in some:
                    tx.handling(item.event, spans.enter_context(event_span(self._service, item.event, item.envelope)))
                tx.handling(None, None)
                await row.function([item.event for item in some], tx)
        for listener, records in foreign.items():
            await listener.function(records, tx)

    async def _bury(self, item: Item, error: Exception) -> bool:
        """Hold what can never be handled, or has failed too often; return whether it was held."""
        attempts = self._attempts[_at(item)] = self._attempts.get(_at(item), 0) + 1
        EVENTS_FAILED.labels(item.record.topic).inc()
        reason = str(error) if isinstance(error, MillraceError) else f"{type(error).__name__} in the handler"
        log.warning(
            "event_failed",
            service=self._service,
            topic=item.record.topic,
            partition=item.record.partition,
            offset=item.record.offset,
            type=item.envelope.type if item.envelope else "",
            event_id=str(item.envelope.event_id) if item.envelope else "",
            attempt=attempts,
            error=reason,
            exc_info=None if isinstance(error, MillraceError) else error,
        )
        if not isinstance(error, InvalidInput) and attempts < ATTEMPTS:
            return False
        async with self._begin() as tx:
            if item.envelope:
                await claim(tx, [item.envelope.event_id])
            self._hold(tx, item, f"{type(error).__name__}: {reason}", attempts)
        self._attempts.pop(_at(item), None)
        return True

    def _hold(self, tx: Transaction, item: Item, reason: str, attempts: int) -> None:
        held.hold(tx, self._service, item.record, reason, attempts)
        EVENTS_HELD.labels(item.record.topic).inc()

    async def replay(self, at: held.Coordinates, *, accept_duplicate: bool) -> str:
        """Handle a held record again; return why it is still held, or nothing when it was handled.

        Raises:
            NotFound: No such record is held.
        """
        try:
            async with self._begin() as tx:
                record, whole = await held.take(tx, at)
                if not whole:
                    record = await self._fetch_again(at)
                item = self._item(record)
                await self._replay(item, tx, accept_duplicate=accept_duplicate)
        except InvalidInput as error:
            reason = str(error)
        except MillraceError:
            raise
        except Exception as error:
            log.warning("replay_failed", topic=at.topic, partition=at.partition, offset=at.offset, exc_info=error)
            reason = f"{type(error).__name__} in the handler"
        else:
            return ""
        async with self._begin() as tx:
            held.failed_again(tx, at, reason)
        return reason

    async def _replay(self, item: Item, tx: Transaction, *, accept_duplicate: bool) -> None:
        if item.unreadable:
            raise InvalidInput(item.unreadable)
        if item.envelope is not None:
            if _old(item, tx) and not accept_duplicate:
                raise InvalidInput(
                    "too old to deduplicate: replay it with --accept-duplicate if it was not handled before"
                )
            await claim(tx, [item.envelope.event_id])
        await self.apply([item], tx)

    async def _fetch_again(self, at: held.Coordinates) -> Record:
        reader = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka_servers, enable_auto_commit=False)
        place = TopicPartition(at.topic, at.partition)
        try:
            async with asyncio.timeout(20):
                await reader.start()
                reader.assign([place])
                reader.seek(place, at.offset)
                found = await reader.getone(place)
        except TimeoutError:
            raise InvalidInput(
                f"{at.topic} partition {at.partition} offset {at.offset} is no longer in Kafka"
            ) from None
        finally:
            await reader.stop()
        if found.offset != at.offset:
            raise InvalidInput(f"{at.topic} partition {at.partition} offset {at.offset} is no longer in Kafka")
        return Record(at.topic, at.partition, at.offset, found.key, found.value, tuple(found.headers), found.timestamp)

    async def _commit(self) -> None:
        offsets, self._uncommitted = self._uncommitted, {}
        self._committed_at = asyncio.get_running_loop().time()
        mine = self._consumer.assignment()
        offsets = {place: offset for place, offset in offsets.items() if place in mine}
        if offsets:
            try:
                await self._consumer.commit(offsets)
            except KafkaError as error:
                # Whoever reads on from the older offset finds the events in the inbox.
                log.info("offsets_not_committed", error=type(error).__name__)

    async def _measure_lag(self) -> None:
        behind: dict[str, int] = {}
        for place in self._consumer.assignment():
            end = self._consumer.highwater(place)
            if end is not None:
                read = await self._consumer.position(place)
                behind[place.topic] = behind.get(place.topic, 0) + max(0, end - read)
        for topic, events in behind.items():
            CONSUMER_LAG.labels(self._service, topic).set(events)

    async def _prune(self) -> None:
        async with self._begin() as tx:
            prune(tx)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Let the round at hand end, then commit what it settled."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), REVOKE_WAIT_S)
        if revoked:
            await self._commit()
        self.progress.assigned = False
        self.progress.failing.clear()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Begin where the group stopped; a new listener begins where its row says."""
        late = {t for row in self._subscriptions if row.start == "now" for t in row.topics}
        late -= {t for row in self._subscriptions if row.start == "earliest" for t in row.topics}
        late |= {t for t, listener in self._foreign.items() if listener.start == "now"}
        new = [p for p in assigned if p.topic in late and await self._consumer.committed(p) is None]
        if new:
            ends = await self._consumer.end_offsets(new)
            for place, end in ends.items():
                self._consumer.seek(place, end)
            # Noted at once, so that a crash before the first event does not skip what comes meanwhile.
            await self._consumer.commit(ends)
        self.progress.assigned = True


def _first_offsets(items: Sequence[Item]) -> dict[TopicPartition, int]:
    found: dict[TopicPartition, int] = {}
    for item in items:
        place = TopicPartition(item.record.topic, item.record.partition)
        found[place] = min(item.record.offset, found.get(place, item.record.offset))
    return found


def _at(item: Item) -> tuple[str, int, int]:
    return (item.record.topic, item.record.partition, item.record.offset)


def _old(item: Item, tx: Transaction) -> bool:
    return item.envelope is not None and too_old(item.envelope, tx.now, HORIZON)


def _report(service: str, items: Sequence[Item], handled: Sequence[Item]) -> None:
    EVENTS_HANDLED.labels(service).inc(len(handled))
    ids = [str(item.envelope.event_id) for item in items if item.envelope]
    log.info(
        "events_handled",
        service=service,
        events=len(items),
        fresh=len(handled),
        held=sum(bool(item.unreadable) for item in items),
        first=ids[0] if ids else "",
        last=ids[-1] if ids else "",
    )
