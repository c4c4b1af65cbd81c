"""Held events, handled again: page by page, each in one transaction with the answer to whoever asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from millrace.runtime import held, held_keys
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.consume.items import Item, Readers
from millrace.runtime.consume.reader import Reader
from millrace.runtime.consume.settlement import apply
from millrace.runtime.database import Database
from millrace.runtime.errors import Conflict, InvalidInput, MillraceError, Unavailable
from millrace.runtime.inbox import claim
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Record, Unread
from millrace.runtime.transaction import Transaction

FETCH_S = 4.0  # less than a transaction may be idle

KEY_PAGE = """
SELECT * FROM (
    SELECT h.*, sum(size_bytes) OVER (ORDER BY id) - size_bytes AS before_bytes FROM (
        SELECT * FROM held WHERE consumer = $1 AND topic = $2 AND sha256(key) = sha256($3) AND state = 'parked'
        ORDER BY id LIMIT $4) h
) page WHERE before_bytes < $5 ORDER BY id
"""
PAGE_BYTES = 16 * 1024 * 1024

log = structlog.get_logger()


@dataclass
class Replayed:
    """How a page of held events went.

    Attributes:
        handled: How many were handled, and are held no longer.
        failed: How many are held still.
        reason: Why the first of these is.
    """

    handled: int = 0
    failed: int = 0
    reason: str = ""


class Replay:
    """Handles held events of one service again."""

    def __init__(self, service: str, settings: ServiceSettings, database: Database, readers: Readers) -> None:
        self._service = service
        self._settings = settings
        self._database = database
        self._readers = readers

    async def page(self, tx: Transaction, rows: Sequence[asyncpg.Record], *, accept_duplicate: bool) -> Replayed:
        """Handle events that are held as dead, in order; what fails costs only itself.

        Raises:
            Unavailable: The database does not answer as it should; nothing is done.
        """
        told = Replayed()
        ready: list[Item] = []
        for item in await self._read(rows):
            if reason := item.unreadable or ("" if accept_duplicate else _too_old(item, tx)):
                self._note(tx, item, reason, told)
            else:
                ready.append(item)

        async def attempt(some: Sequence[Item]) -> None:
            await self._handle(some, tx)
            told.handled += len(some)

        async def alone(item: Item, error: Exception) -> None:
            self._note(tx, item, _reason(item, error), told)

        await self._settled(settle(ready, attempt, alone, self._database))
        return told

    async def drain(self, tx: Transaction, topic: str, key: bytes, limit: int) -> tuple[Replayed, bool]:
        """Handle the first events of a parked key, in order, up to one that fails; return also whether the key flows.

        What can never be handled becomes dead, and those behind it go on. A key whose events are all handled flows
        again by the call after, which finds none.

        Raises:
            Unavailable: The database does not answer as it should; nothing is done.
        """
        told = Replayed()
        rows = await tx.fetch(KEY_PAGE, self._service, topic, key, limit, PAGE_BYTES)
        if not rows:
            return told, await held_keys.release(tx, self._service, topic, key)
        if not await held_keys.drain(tx, self._service, topic, key):
            return told, True
        # Again, now that nobody else drains it.
        rows = await tx.fetch(KEY_PAGE, self._service, topic, key, limit, PAGE_BYTES)

        async def attempt(some: Sequence[Item]) -> None:
            if not told.reason:
                await self._handle(some, tx)
                told.handled += len(some)

        async def alone(item: Item, error: Exception) -> None:
            if isinstance(error, InvalidInput):
                held.bury(tx, item.held_id, _reason(item, error))
            else:
                self._note(tx, item, _reason(item, error), told)

        await self._settled(settle(await self._read(rows), attempt, alone, self._database))
        return told, False

    async def _settled(self, settling: object) -> None:
        try:
            await settling  # type: ignore[misc]
        except OutageError as outage:
            raise Unavailable("the database does not answer as it should") from outage

    async def _handle(self, items: Sequence[Item], tx: Transaction) -> None:
        async with tx.part() as part:
            for item in items:
                if item.unreadable:
                    raise InvalidInput(item.unreadable)
                if not item.wanted:
                    raise Conflict("nobody here takes it: it is for another version of this service")
            held.forget(part, [item.held_id for item in items])
            await apply(self._service, await _unhandled(items, part), part)

    def _note(self, tx: Transaction, item: Item, reason: str, told: Replayed) -> None:
        held.failed_again(tx, item.held_id, reason)
        told.failed += 1
        told.reason = told.reason or reason

    async def _read(self, rows: Sequence[asyncpg.Record]) -> list[Item]:
        cut = [row for row in rows if not held.whole(row)]
        again = await self._fetch_again(cut) if cut else {}
        items = []
        for row in rows:
            item = self._readers.read(again.get(row["id"]) or held.record_of(row))
            items.append(replace(item, held_id=row["id"], claimed=row["claimed"]))
        return items

    async def _fetch_again(self, cut: Sequence[asyncpg.Record]) -> dict[int, Record]:
        """Return records whose values were not kept whole, from Kafka; one that is gone is unread.

        What is at the place now may be another one: the topic may have been deleted and made again.
        """
        found: dict[int, Record] = {}
        reader = Reader(self._settings)
        try:
            async with asyncio.timeout(FETCH_S):
                await reader.start()
                for row in cut:
                    again = await reader.record_at(row["topic"], row["partition"], row["offset"])
                    same = again and held.content(again) == (row["size_bytes"], row["sha256"])
                    found[row["id"]] = again if again and same else _gone(held.record_of(row))
        except (TimeoutError, KafkaError) as error:
            raise Unavailable("Kafka, which has the rest of them, does not answer in time: ask for fewer") from error
        finally:
            await reader.stop()
        return found


async def _unhandled(items: Sequence[Item], tx: Transaction) -> list[Item]:
    """Return what was not handled: what was claimed when it was held, and the rest where no twin of it was since."""
    fresh = await claim(tx, [item.envelope.event_id for item in items if item.envelope])
    found = []
    for item in items:
        if item.envelope and not item.claimed:
            if item.envelope.event_id not in fresh:
                continue
            fresh.discard(item.envelope.event_id)
        found.append(item)
    return found


def _gone(record: Record) -> Record:
    gone = f"{record.topic} partition {record.partition} offset {record.offset} is no longer in Kafka"
    return Record(record.topic, record.partition, record.offset, record.key, None, (), 0, Unread(gone))


def _too_old(item: Item, tx: Transaction) -> str:
    told = "too old to deduplicate: replay it with --accept-duplicate if it was not handled before"
    return told if item.too_old(tx.now) else ""


def _reason(item: Item, error: Exception) -> str:
    if isinstance(error, MillraceError):
        return str(error)
    at = item.record
    log.warning("replay_failed", topic=at.topic, partition=at.partition, offset=at.offset, exc_info=error)
    return f"{type(error).__name__} in the handler"
