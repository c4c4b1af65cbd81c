"""How a round of records is settled: claimed, handled, held or put back."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from typing import Any
from uuid import UUID

import structlog
from aiokafka import TopicPartition
from millrace.runtime import held, held_keys, inbox
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.consume.items import Foreign, Item
from millrace.runtime.consume.pace import PART, in_parts
from millrace.runtime.database import Transactions
from millrace.runtime.errors import InvalidInput, MillraceError
from millrace.runtime.failpoints import failpoint
from millrace.runtime.hope import Hope
from millrace.runtime.subscriptions import Record
from millrace.runtime.telemetry import BATCH_EVENTS, EVENTS_FAILED, EVENTS_HANDLED, event_span
from millrace.runtime.transaction import Transaction

ATTEMPTS = 5
WAITS = "waits behind an earlier event of its key"

log = structlog.get_logger()
_WAITED_FOR = attrgetter("waited_for")


class Settlement:
    """Settles what one service reads, with effect once.

    Attributes:
        handled: How many records have been settled.
        settled_at: When any were last, by the loop's clock.
        outages: How many rounds in a row found the database away.
        attempts: How often each event that failed has been tried, by its place.
    """

    def __init__(self, service: str, begin: Transactions[Any], *, one_by_one: bool) -> None:
        self.handled = 0
        self.settled_at = 0.0
        self.outages = 0
        self.attempts: dict[tuple[str, int, int], int] = {}
        self._service = service
        self._begin = begin
        self._one_by_one = one_by_one
        self._hope = Hope(service)

    async def settle(self, items: Sequence[Item]) -> dict[TopicPartition, int]:
        """Settle one poll's records; return, by partition, the first offset that must be tried again."""
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
            for some in [[item] for item in items] if self._one_by_one else in_parts(items, _WAITED_FOR):
                await settle(some, attempt, alone, self._begin.database)
            self.outages = 0
        except OutageError as outage:
            self.outages += 1
            waiting = list(items)
            cause = type(outage.__cause__).__name__
            log.warning("database_unreachable", service=self._service, rounds=self.outages, error=cause)
        return _first_offsets(waiting)

    async def _handle(self, items: Sequence[Item]) -> None:
        ids = [item.envelope.event_id for item in items if item.envelope and item.wanted]
        attempt = partial(self._handle_in, items, ids)
        # A backlog may have been read before: to be wrong costs more then than to ask.
        possible = sum(map(_WAITED_FOR, items)) <= PART and len(ids) == len(set(ids))
        todo = await self._hope.do(self._begin, attempt, inbox.CLAIM, ids, possible=possible)
        await failpoint("consume.after_commit")
        for item in items:
            self.attempts.pop(item.place, None)
        self.handled += len(items)
        BATCH_EVENTS.labels(self._service).observe(len(items))
        self.settled_at = asyncio.get_running_loop().time()
        _report(self._service, items, todo)

    async def _handle_in(self, items: Sequence[Item], ids: Sequence[UUID], tx: Transaction) -> list[Item]:
        todo = await self._sort(tx, items, ids)
        await apply(self._service, todo, tx)
        await failpoint("consume.handled")
        return todo

    async def _sort(self, tx: Transaction, items: Sequence[Item], ids: Sequence[UUID]) -> list[Item]:
        """Return what is to be handled, in order; hold what cannot be, and what waits behind an event of its key."""
        fresh, parked = await self._claimed(tx, items, ids)
        await failpoint("consume.claimed")
        todo: list[Item] = []
        for item in items:
            if item.unreadable:
                self._hold(tx, item, item.unreadable, 1, claimed=False)
            elif not item.wanted:
                continue
            elif item.listener or (item.envelope and item.envelope.event_id in fresh):
                if item.envelope:
                    fresh.discard(item.envelope.event_id)
                if item.envelope and item.too_old(tx.now):
                    emitted = f"{item.envelope.emitted_at:%Y-%m-%d %H:%M}"
                    self._hold(tx, item, f"too old to deduplicate: emitted {emitted}", 1)
                elif item.key in parked:
                    self._hold(tx, item, WAITS, 0, state="parked")
                else:
                    todo.append(item)
        return todo

    async def _claimed(
        self, tx: Transaction, items: Sequence[Item], ids: Sequence[UUID]
    ) -> tuple[set[UUID], set[held_keys.Key]]:
        """Return which of the events are new, and which of their keys are parked."""
        keys = {item.key for item in items if item.wanted}
        if tx.hopes:
            held_keys.hope_for_none(tx, self._service, keys)
            if ids:
                tx.hope(inbox.CLAIM_NEW, ids)
            return set(ids), set()
        fresh = set(tx.opening["fresh"])
        # Where some are not new, whoever had them before may just have parked their key.
        if len(fresh) == len(ids) and not tx.opening["parked"]:
            return fresh, set()
        return fresh, await held_keys.among(tx, self._service, keys)

    async def _bury(self, item: Item, error: Exception) -> bool:
        """Hold what can never be handled, or has failed too often; return whether it was held."""
        attempts = self.attempts[item.place] = self.attempts.get(item.place, 0) + 1
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
            # Who is not the first to claim it leaves it to who was: a former owner of the partition may be at it yet.
            if not item.envelope or await inbox.claim(tx, [item.envelope.event_id]):
                reason = f"{type(error).__name__}: {reason}"
                if isinstance(error, InvalidInput):
                    self._hold(tx, item, reason, attempts, claimed=item.envelope is not None)
                else:
                    await held_keys.park(tx, self._service, item.record, reason, attempts)
            await failpoint("consume.held")
        self.settled_at = asyncio.get_running_loop().time()
        self.attempts.pop(item.place, None)
        return True

    def _hold(
        self,
        tx: Transaction,
        item: Item,
        reason: str,
        attempts: int,
        *,
        state: held.State = "dead",
        claimed: bool = True,
    ) -> None:
        held.hold(tx, self._service, item.record, reason, attempts, state=state, claimed=claimed)


async def apply(service: str, items: Sequence[Item], tx: Transaction) -> None:
    """Call the handlers of some events, in order; batch handlers last, each once with all of its events."""
    # By function: two rows or listeners of one, such as of a queue that was added later, are one batch, which takes all
    # its locks in one order.
    batches: dict[Callable[..., Awaitable[None]], list[Item]] = {}
    foreign: dict[Foreign, list[Record]] = {}
    for item in items:
        await failpoint("consume.handling", item.record.key or b"")
        if item.listener:
            foreign.setdefault(item.listener.function, []).append(item.record)
        for row in item.rows:
            if row.batch:
                batches.setdefault(row.function, []).append(item)
            else:
                with event_span(service, item.event, item.envelope) as envelope:
                    tx.handling(item.event, envelope)
                    await row.function(item.event, tx)
    tx.handling(None, None)
    for function, some in batches.items():
        with ExitStack() as spans:
            for item in some:
                tx.handling(item.event, spans.enter_context(event_span(service, item.event, item.envelope)))
            tx.handling(None, None)
            await function([item.event for item in some], tx)
    for take, records in foreign.items():
        await take(records, tx)


def _first_offsets(items: Sequence[Item]) -> dict[TopicPartition, int]:
    found: dict[TopicPartition, int] = {}
    for item in items:
        place = TopicPartition(item.record.topic, item.record.partition)
        found[place] = min(item.record.offset, found.get(place, item.record.offset))
    return found


def _report(service: str, items: Sequence[Item], handled: Sequence[Item]) -> None:
    EVENTS_HANDLED.labels(service).inc(len(handled))
    ids = [item.envelope.event_id for item in items if item.envelope]
    log.info(
        "events_handled",
        service=service,
        events=len(items),
        fresh=len(handled),
        held=sum(bool(item.unreadable) for item in items),
        first=str(ids[0]) if ids else "",
        last=str(ids[-1]) if ids else "",
    )
