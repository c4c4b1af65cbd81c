"""Events that services could not handle: seen over all services, shown, replayed, dropped, and their keys unparked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from millrace.contracts import SERVICES
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import HeldServiceStub
from millrace.runtime.client import Channels
from millrace.runtime.errors import Denied, InvalidInput, MillraceError
from millrace.sdk.held_command import Command, Outcome

if TYPE_CHECKING:
    from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import HeldServiceAsyncStub

TIMEOUT_S = 5.0
PAGE_TIMEOUT_S = 60.0


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
                if offset.removeprefix("-").isdecimal():  # below zero: of a topic that was made again since
                    return cls(service, topic, int(partition), int(offset))
        raise InvalidInput(f"{text[:80]!r} is no place of a held event, such as control:triggers:0:12")


@dataclass(frozen=True)
class Which:
    """Which held events; what is empty says nothing.

    Attributes:
        service: Who holds them; empty for all seven.
        reason: A part of the reason, in any case.
        state: `dead` or `parked`.
        since: Held from then on.
        until: Held before then.
        place: The one event there; it goes with nothing else.

    Raises:
        InvalidInput: There is more than a place.
    """

    service: str = ""
    topic: str = ""
    key: str = ""
    event_id: str = ""
    type: str = ""
    reason: str = ""
    state: str = ""
    since: datetime | None = None
    until: datetime | None = None
    place: Place | None = None

    def __post_init__(self) -> None:
        more = [field.name for field in fields(self) if field.name != "place" and getattr(self, field.name)]
        if self.place and more:
            raise InvalidInput(f"{self.place} is one event already: leave out {', '.join(more)}, or the place")

    @property
    def services(self) -> Sequence[str]:
        """Return whom to ask."""
        if self.place:
            return (self.place.service,)
        return (self.service,) if self.service else SERVICES

    def filter(self) -> pb.HeldFilter:
        """Return it as a service is asked."""
        if self.place:
            return pb.HeldFilter(topic=self.place.topic, partition=self.place.partition, offset=self.place.offset)
        texts = {name: getattr(self, name) for name in ("topic", "key", "event_id", "type", "reason", "state")}
        return pb.HeldFilter(**texts, since=self.since, until=self.until)


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


@dataclass(frozen=True)
class ParkedKey:
    """One parked key, and the service that parked it."""

    service: str
    key: pb.ParkedKey


class HeldEvents:
    """The held events of one namespace, or of all where that is empty."""

    def __init__(self, channels: Channels, namespace: str) -> None:
        self._channels = channels
        self._namespace = namespace

    async def list(self, limit: int = 100, which: Which | None = None) -> HeldList:
        """Return what every service holds.

        Raises:
            Denied: The caller may not see them.
        """
        which = which or Which()
        asked = which.services
        answers = dict(zip(asked, await asyncio.gather(*(self._of(one, limit, which) for one in asked)), strict=True))
        found = [one for answer in answers.values() if answer is not None for one in answer]
        found.sort(key=lambda one: one.event.held_at.ToNanoseconds(), reverse=True)
        return HeldList(found[:limit], [service for service, answer in answers.items() if answer is None])

    async def show(self, place: Place) -> pb.HeldServiceShowResponse:
        """Return one held event with its headers and what was kept of its value."""
        request = pb.HeldServiceShowRequest(
            namespace=self._namespace, topic=place.topic, partition=place.partition, offset=place.offset
        )
        return await self._stub(place.service).Show(request)

    async def to_replay(self, which: Which) -> int:
        """Return how many dead events would be handled again."""
        found = 0
        for service in which.services:
            request = pb.HeldServiceReplayRequest(
                namespace=self._namespace, request_id=str(uuid4()), filter=which.filter(), dry_run=True
            )
            found += (await self._stub(service).Replay(request, timeout=PAGE_TIMEOUT_S)).matched
        return found

    async def to_drop(self, which: Which) -> int:
        """Return how many events would be forgotten."""
        found = 0
        for service in which.services:
            request = pb.HeldServiceDropRequest(
                namespace=self._namespace, request_id=str(uuid4()), filter=which.filter(), dry_run=True
            )
            found += (await self._stub(service).Drop(request, timeout=PAGE_TIMEOUT_S)).matched
        return found

    async def replay(self, which: Which, *, accept_duplicate: bool = False, command: Command | None = None) -> Outcome:
        """Handle dead events again, under their own ids.

        Args:
            which: Which of them.
            accept_duplicate: Apply also what is too old for its duplicates to be known.
            command: Its rate, and who is told how far it has come.
        """
        command = command or Command()
        for service in which.services:
            token: str | None = ""
            while token is not None:
                token = await self._replay_page(service, which, command, token, accept_duplicate=accept_duplicate)
        return command.outcome

    async def drop(self, which: Which, command: Command | None = None) -> Outcome:
        """Forget events for good."""
        command = command or Command()
        for service in which.services:
            while await self._drop_page(service, which, command):
                pass
        return command.outcome

    async def keys(self, which: Which | None = None) -> Sequence[ParkedKey]:
        """Return the parked keys behind which at least one such event waits, by service, topic and key.

        Raises:
            InvalidInput: Dead events are asked for: they hold up no key.
        """
        which = which or Which()
        found: list[ParkedKey] = []
        for service in which.services:
            token = ""
            while True:
                request = pb.HeldServiceListKeysRequest(
                    namespace=self._namespace, filter=which.filter(), page_token=token
                )
                page = await self._stub(service).ListKeys(request, timeout=TIMEOUT_S)
                found += [ParkedKey(service, key) for key in page.keys]
                token = page.next_page_token
                if not token:
                    break
        return found

    async def unpark(self, parked: ParkedKey, command: Command | None = None) -> Outcome:
        """Handle the events of a parked key, in order, until it flows again or one fails."""
        command = command or Command()
        while True:
            page = await self.unpark_page(parked, command)
            if page.flows or page.reason:
                return command.outcome

    async def unpark_page(self, parked: ParkedKey, command: Command) -> pb.HeldServiceUnparkResponse:
        """Handle the first events of a parked key."""

        async def ask(name: str) -> pb.HeldServiceUnparkResponse:
            request = pb.HeldServiceUnparkRequest(
                namespace=self._namespace,
                request_id=name,
                topic=parked.key.topic,
                key=parked.key.key,
                limit=command.page,
            )
            return await self._stub(parked.service).Unpark(request, timeout=PAGE_TIMEOUT_S)

        page = await command.turn(ask)
        command.add(done=page.handled, failed=1 if page.reason else 0, reason=page.reason)
        return page

    async def _replay_page(
        self, service: str, which: Which, command: Command, token: str, *, accept_duplicate: bool
    ) -> str | None:
        """Handle a page again; return where the next one begins, nothing where there is none."""

        async def ask(name: str) -> pb.HeldServiceReplayResponse:
            request = pb.HeldServiceReplayRequest(
                namespace=self._namespace,
                request_id=name,
                filter=which.filter(),
                limit=command.page,
                page_token=token,
                accept_duplicate=accept_duplicate,
            )
            return await self._stub(service).Replay(request, timeout=PAGE_TIMEOUT_S)

        page = await command.turn(ask)
        command.add(done=page.handled, failed=page.failed, reason=page.reason)
        return page.next_page_token or None

    async def _drop_page(self, service: str, which: Which, command: Command) -> bool:
        """Forget a page of events; return whether there are more."""

        async def ask(name: str) -> pb.HeldServiceDropResponse:
            request = pb.HeldServiceDropRequest(
                namespace=self._namespace, request_id=name, filter=which.filter(), limit=command.page
            )
            return await self._stub(service).Drop(request, timeout=PAGE_TIMEOUT_S)

        page = await command.turn(ask)
        command.add(done=page.dropped)
        return page.more

    def _stub(self, service: str) -> "HeldServiceAsyncStub":
        return HeldServiceStub(self._channels.to(service))

    async def _of(self, service: str, limit: int, which: Which) -> Sequence[HeldEvent] | None:
        """Return what a service holds; None when it cannot be asked."""
        request = pb.HeldServiceListRequest(namespace=self._namespace, limit=limit, filter=which.filter())
        try:
            answer = await self._stub(service).List(request, timeout=TIMEOUT_S)
        except (Denied, InvalidInput):
            raise
        except MillraceError:
            return None
        return [HeldEvent(Place(service, one.topic, one.partition, one.offset), one) for one in answer.held]
