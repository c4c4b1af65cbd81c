"""Events that services could not handle: seen over all services, shown, replayed, dropped."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from millrace.contracts import SERVICES
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import HeldServiceStub
from millrace.runtime.client import Channels
from millrace.runtime.errors import Denied, InvalidInput, MillraceError

TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Place:
    """Where an event is held: by which service, and where it came from."""

    service: str
    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.service}:{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the place that a text such as `control:triggers:0:12` names.

        Raises:
            InvalidInput: It names none.
        """
        match text.split(":"):
            case [service, topic, partition, offset] if service in SERVICES and partition.isdecimal():
                if offset.isdecimal():
                    return cls(service, topic, int(partition), int(offset))
        raise InvalidInput(f"{text[:80]!r} is no place of a held event, such as control:triggers:0:12")


@dataclass(frozen=True)
class HeldEvent:
    """One event, and where it is held."""

    place: Place
    event: pb.HeldEvent


@dataclass(frozen=True)
class HeldList:
    """What all services together hold, newest first.

    Attributes:
        unreachable: Services that did not answer in time.
    """

    events: Sequence[HeldEvent]
    unreachable: Sequence[str]


class HeldEvents:
    """The held events of one namespace, or of all where that is empty."""

    def __init__(self, channels: Channels, namespace: str) -> None:
        self._channels = channels
        self._namespace = namespace

    async def list(self, limit: int = 100) -> HeldList:
        """Return what every service holds.

        Raises:
            Denied: The caller may not see them.
        """
        answers = dict(zip(SERVICES, await asyncio.gather(*(self._of(one, limit) for one in SERVICES)), strict=True))
        found = [one for answer in answers.values() if answer is not None for one in answer]
        found.sort(key=lambda one: one.event.held_at.ToNanoseconds(), reverse=True)
        return HeldList(found[:limit], [service for service, answer in answers.items() if answer is None])

    async def show(self, place: Place) -> pb.HeldServiceShowResponse:
        """Return one held event with its headers and the first 64 KiB of its value."""
        request = pb.HeldServiceShowRequest(
            namespace=self._namespace, topic=place.topic, partition=place.partition, offset=place.offset
        )
        return await HeldServiceStub(self._channels.to(place.service)).Show(request)

    async def replay(self, place: Place, *, accept_duplicate: bool = False) -> pb.HeldServiceReplayResponse:
        """Handle a held event again, now.

        Args:
            place: Where it is held.
            accept_duplicate: Apply it also when it is too old for its duplicates to be known.
        """
        request = pb.HeldServiceReplayRequest(
            namespace=self._namespace,
            request_id=str(uuid4()),
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            accept_duplicate=accept_duplicate,
        )
        return await HeldServiceStub(self._channels.to(place.service)).Replay(request)

    async def drop(self, place: Place) -> None:
        """Forget a held event for good."""
        request = pb.HeldServiceDropRequest(
            namespace=self._namespace,
            request_id=str(uuid4()),
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
        )
        await HeldServiceStub(self._channels.to(place.service)).Drop(request)

    async def _of(self, service: str, limit: int) -> Sequence[HeldEvent] | None:
        """Return what a service holds; None when it cannot be asked."""
        request = pb.HeldServiceListRequest(namespace=self._namespace, limit=limit)
        try:
            answer = await HeldServiceStub(self._channels.to(service)).List(request, timeout=TIMEOUT_S)
        except (Denied, InvalidInput):
            raise
        except MillraceError:
            return None
        return [HeldEvent(Place(service, one.topic, one.partition, one.offset), one) for one in answer.held]
