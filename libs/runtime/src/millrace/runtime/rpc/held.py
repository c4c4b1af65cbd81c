"""What operators ask of the events that a service could not handle."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.runtime import held, held_keys
from millrace.runtime.command import instant
from millrace.runtime.consume.replay import Replay, Replayed
from millrace.runtime.errors import Conflict, InvalidInput, NotFound, Overloaded
from millrace.runtime.held_pages import Held
from millrace.runtime.transaction import Transaction

SHOWN = 100
MOST_SHOWN = 1000
PAGE = 100
MOST_PAGE = 500

SHOW = """
SELECT * FROM held
WHERE consumer = $1 AND ($2 = '' OR namespace = $2) AND topic = $3 AND partition = $4 AND "offset" = $5
"""


class Pace:
    """Keeps the handling of held events below a rate, whoever asks for it."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._free_at = 0.0

    @contextmanager
    def page(self, most: int) -> Iterator[Replayed]:
        """Reserve so many events; what is not used of it, as told, is given back.

        Raises:
            Overloaded: What went before has used up the rate.
        """
        now = asyncio.get_running_loop().time()
        if now < self._free_at:
            raise Overloaded(f"{self._per_s:g} held events a second are handled", retry_after_s=self._free_at - now)
        self._free_at = now + most / self._per_s
        told = Replayed()
        try:
            yield told
        finally:
            self._free_at -= (most - told.handled - told.failed) / self._per_s


class HeldApi:
    """Serves `HeldService` over the `held` table.

    Args:
        consumer: The service.
        replay: Handles held events again.
        per_s: Most events of these a second.
    """

    def __init__(self, consumer: str, replay: Replay, per_s: float) -> None:
        self._consumer = consumer
        self._replay = replay
        self._pace = Pace(per_s)

    async def List(self, request: pb.HeldServiceListRequest, tx: Transaction) -> pb.HeldServiceListResponse:
        rows, token = await self._held(request).newest(tx, limit(request.limit), request.page_token)
        return pb.HeldServiceListResponse(held=[_event(row) for row in rows], next_page_token=token)

    async def Show(self, request: pb.HeldServiceShowRequest, tx: Transaction) -> pb.HeldServiceShowResponse:
        place = (request.topic, request.partition, request.offset)
        rows = await tx.fetch(SHOW, self._consumer, request.namespace, *place)
        if not rows:
            raise NotFound(f"no event of {place[0]} partition {place[1]} offset {place[2]} is held here")
        value, headers = rows[0]["value"] or b"", held.headers_text(rows[0]["headers"])
        return pb.HeldServiceShowResponse(held=_event(rows[0]), value=value, headers=headers)

    async def Replay(self, request: pb.HeldServiceReplayRequest, tx: Transaction) -> pb.HeldServiceReplayResponse:
        if request.filter.state not in ("", "dead"):
            raise InvalidInput("filter.state: only dead events are replayed; a parked one goes on with its key")
        wanted = self._held(request, state="dead")
        if request.dry_run:
            return pb.HeldServiceReplayResponse(matched=await wanted.count(tx))
        most = page_size(request.limit)
        with self._pace.page(most) as told:
            rows, token = await wanted.in_order(tx, most, request.page_token)
            if not rows and wanted.is_one and not request.page_token:
                raise await self._not_dead(request, tx)
            done = await self._replay.page(tx, rows, accept_duplicate=request.accept_duplicate)
            told.handled, told.failed = done.handled, done.failed
        return pb.HeldServiceReplayResponse(
            handled=done.handled, failed=done.failed, reason=done.reason, next_page_token=token
        )

    async def Drop(self, request: pb.HeldServiceDropRequest, tx: Transaction) -> pb.HeldServiceDropResponse:
        wanted = self._held(request)
        if request.dry_run:
            return pb.HeldServiceDropResponse(matched=await wanted.count(tx))
        most = page_size(request.limit)
        # Keys before events, as whoever drains a key takes them.
        keys = await wanted.parked_keys(tx, most)
        await held_keys.lock(tx, self._consumer, keys)
        rows, more = await wanted.in_order(tx, most)
        if not rows and wanted.is_one:
            raise _missing(request.filter)
        held.forget(tx, [row["id"] for row in rows])
        for topic, key in keys:
            await held_keys.release(tx, self._consumer, topic, key)
        return pb.HeldServiceDropResponse(dropped=len(rows), more=bool(more))

    async def ListKeys(self, request: pb.HeldServiceListKeysRequest, tx: Transaction) -> pb.HeldServiceListKeysResponse:
        if request.filter.state not in ("", "parked"):
            raise InvalidInput("filter.state: only a parked event holds up its key; a dead one is replayed or dropped")
        wanted = self._held(request, **_said_once(request))
        rows, token = await wanted.keys(tx, limit(request.limit), request.page_token)
        return pb.HeldServiceListKeysResponse(keys=[pb.ParkedKey(**dict(row)) for row in rows], next_page_token=token)

    async def Unpark(self, request: pb.HeldServiceUnparkRequest, tx: Transaction) -> pb.HeldServiceUnparkResponse:
        namespace = {"namespace": request.namespace} if request.namespace else {}
        of_key = {"topic": request.topic, "key": request.key, "state": "parked"}
        waiting = Held(self._consumer, namespace | of_key)
        if not await held_keys.is_parked(tx, self._consumer, request.namespace, request.topic, request.key):
            raise NotFound(f"no key {request.key.decode(errors='replace')[:100]} of {request.topic} is parked here")
        if request.dry_run:
            return pb.HeldServiceUnparkResponse(matched=await waiting.count(tx))
        most = page_size(request.limit)
        with self._pace.page(most) as told:
            done, flows = await self._replay.drain(tx, request.topic, request.key, most)
            told.handled, told.failed = done.handled, done.failed
        return pb.HeldServiceUnparkResponse(handled=done.handled, reason=done.reason, flows=flows)

    def _held(self, request: Any, **more: Any) -> Held:  # noqa: ANN401 - any request with a filter
        asked: pb.HeldFilter = request.filter
        wanted: dict[str, Any] = {"namespace": request.namespace} if request.namespace else {}
        wanted |= {
            name: found for name in ("topic", "event_id", "type", "reason", "state") if (found := _text(asked, name))
        }
        wanted |= {name: getattr(asked, name) for name in ("partition", "offset") if asked.HasField(name)}
        if asked.key:
            wanted["key"] = asked.key.encode()
        wanted |= {name: instant(getattr(asked, name), name) for name in ("since", "until") if asked.HasField(name)}
        return Held(self._consumer, wanted | more)

    async def _not_dead(self, request: pb.HeldServiceReplayRequest, tx: Transaction) -> Conflict | NotFound:
        if await self._held(request).count(tx):
            return Conflict("the event is parked: it goes on, in order, when its key is unparked")
        return _missing(request.filter)


def limit(asked: int) -> int:
    """Return how many rows to show.

    Raises:
        InvalidInput: Fewer than none were asked for, or too many.
    """
    return _within(asked, SHOWN, MOST_SHOWN)


def page_size(asked: int) -> int:
    """Return how many events to handle in one transaction.

    Raises:
        InvalidInput: Fewer than none were asked for, or too many.
    """
    return _within(asked, PAGE, MOST_PAGE)


def _within(asked: int, usual: int, most: int) -> int:
    if not 0 <= asked <= most:
        raise InvalidInput(f"limit: 0 (which stands for {usual}) to {most}")
    return asked or usual


def _said_once(request: pb.HeldServiceListKeysRequest) -> dict[str, Any]:
    """Return what is asked of a key outside the filter.

    Raises:
        InvalidInput: The filter says otherwise.
    """
    for name in ("topic", "key"):
        if getattr(request, name) and getattr(request.filter, name) not in ("", getattr(request, name)):
            raise InvalidInput(f"{name}: say it once, in the filter")
    own = {"topic": held.storable(request.topic), "key": request.key.encode()}
    return {name: value for name, value in own.items() if value}


def _text(asked: pb.HeldFilter, name: str) -> str:
    return held.storable(getattr(asked, name))


def _missing(asked: pb.HeldFilter) -> NotFound:
    place = f"of {asked.topic} partition {asked.partition} offset {asked.offset}"
    return NotFound(f"no event {asked.event_id or place} is held here")


def _event(row: asyncpg.Record) -> pb.HeldEvent:
    return pb.HeldEvent(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        key=(row["key"] or b"").decode(errors="replace"),
        event_id=row["event_id"],
        type=row["type"],
        reason=row["reason"],
        attempts=row["attempts"],
        state=row["state"],
        sha256=row["sha256"],
        held_at=row["held_at"],
        namespace=row["namespace"],
        size_bytes=row["size_bytes"],
    )
