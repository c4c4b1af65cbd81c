"""What operators ask of the events that a service could not handle."""

from typing import Protocol

import asyncpg
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.runtime.held import Coordinates, headers_text
from millrace.runtime.rpc.methods import Begin
from millrace.runtime.transaction import Transaction

SHOWN = 100
MOST_SHOWN = 1000

COLUMNS = 'namespace, topic, partition, "offset", key, event_id, type, reason, attempts, state, sha256, held_at'
# An empty namespace stands for all of them, and for what could not be read.
LIST = f"SELECT {COLUMNS} FROM held WHERE consumer = $1 AND ($2 = '' OR namespace = $2) ORDER BY held_at DESC LIMIT $3"
PLACE = "consumer = $1 AND ($2 = '' OR namespace = $2) AND topic = $3 AND partition = $4 AND \"offset\" = $5"
SHOW = f"SELECT {COLUMNS}, value, headers FROM held WHERE {PLACE}"
EXISTS = f"SELECT true FROM held WHERE {PLACE}"
DROP = f"DELETE FROM held WHERE {PLACE} RETURNING true"

Place = pb.HeldServiceShowRequest | pb.HeldServiceReplayRequest | pb.HeldServiceDropRequest


class Replay(Protocol):
    """Handles a held event again; returns why it is held still, or nothing when it was handled."""

    async def __call__(self, at: Coordinates, *, accept_duplicate: bool) -> str:
        """Handle it."""


class HeldApi:
    """Serves `HeldService` over the `held` table.

    Args:
        consumer: The service.
        replay: Handles a held event again.
    """

    def __init__(self, consumer: str, replay: Replay) -> None:
        self._consumer = consumer
        self._replay = replay

    async def List(self, request: pb.HeldServiceListRequest, tx: Transaction) -> pb.HeldServiceListResponse:
        rows = await tx.fetch(LIST, self._consumer, request.namespace, limit(request.limit))
        return pb.HeldServiceListResponse(held=[_held(row) for row in rows])

    async def Show(self, request: pb.HeldServiceShowRequest, tx: Transaction) -> pb.HeldServiceShowResponse:
        rows = await tx.fetch(SHOW, *self._place(request))
        if not rows:
            raise _missing(request)
        row = rows[0]
        headers = headers_text(row["headers"])
        return pb.HeldServiceShowResponse(held=_held(row), value=row["value"] or b"", headers=headers)

    async def Replay(self, request: pb.HeldServiceReplayRequest, begin: Begin) -> pb.HeldServiceReplayResponse:
        async with begin() as tx:
            if not await tx.fetch(EXISTS, *self._place(request)):
                raise _missing(request)
        at = Coordinates(request.topic, request.partition, request.offset)
        reason = await self._replay(at, accept_duplicate=request.accept_duplicate)
        return pb.HeldServiceReplayResponse(handled=not reason, reason=reason)

    async def Drop(self, request: pb.HeldServiceDropRequest, tx: Transaction) -> pb.HeldServiceDropResponse:
        if not await tx.fetch(DROP, *self._place(request)):
            raise _missing(request)
        return pb.HeldServiceDropResponse()

    def _place(self, request: Place) -> tuple[str, str, str, int, int]:
        return self._consumer, request.namespace, request.topic, request.partition, request.offset


def limit(asked: int) -> int:
    """Return how many rows to show.

    Raises:
        InvalidInput: Fewer than none were asked for, or too many.
    """
    if not 0 <= asked <= MOST_SHOWN:
        raise InvalidInput(f"limit: 0 (which stands for {SHOWN}) to {MOST_SHOWN}")
    return asked or SHOWN


def _missing(at: Place) -> NotFound:
    return NotFound(f"no event of {at.topic} partition {at.partition} offset {at.offset} is held here")


def _held(row: asyncpg.Record) -> pb.HeldEvent:
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
    )
