"""Which calls are served when more come than can be: the important first, the others told when to come back."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from millrace.runtime.caller import Caller, Priority
from millrace.runtime.errors import Overloaded
from millrace.runtime.telemetry import RPC_SHED, RPC_WAITING

#: Calls that stand in line, at most, for each one that can be served at once.
LINE_PER_CALL = 8
BUCKETS_KEPT = 10_000
#: A caller may be this far ahead of its rate.
SAVED_S = 2.0


@dataclass(frozen=True)
class Rank:
    """How a class of calls is treated under load.

    Attributes:
        share: It is let in while fewer than this share of all places are taken, so that the lowest is shed first.
        patience_s: How long it stands in line; the age of a line says more of an overload than its length.
        back_in_s: When it is told to come back, for each line's length that waits.
        most: It never takes more than this share of all places, nor of the line.
    """

    share: float
    patience_s: float
    back_in_s: float
    most: float = 1.0


#: The most important first. What is left to `control` alone, and half of the rest, is the most that it takes.
RANKS: dict[Priority, Rank] = {
    "control": Rank(share=1.0, patience_s=5.0, back_in_s=0.5, most=0.55),
    "interactive": Rank(share=0.9, patience_s=1.0, back_in_s=0.5),
    "background": Rank(share=0.7, patience_s=0.5, back_in_s=2.0),
    "batch": Rank(share=0.5, patience_s=0.25, back_in_s=4.0),
}


class Admission:
    """Lets so many calls in at once; the rest stand in line by rank, for a bounded time.

    Args:
        service: Whose calls; for its metrics.
        most: How many are served at once.
    """

    def __init__(self, service: str, most: int) -> None:
        self._service = service
        self._most = most
        self._limits = {name: math.ceil(most * rank.share) for name, rank in RANKS.items()}
        self._most_of = {name: max(1, math.floor(most * rank.most)) for name, rank in RANKS.items()}
        self._inside: dict[Priority, int] = dict.fromkeys(RANKS, 0)
        self._lines: dict[Priority, deque[asyncio.Future[None]]] = {name: deque() for name in RANKS}

    @asynccontextmanager
    async def place(self, priority: Priority) -> AsyncIterator[None]:
        """Hold a place while a call is served.

        Raises:
            Overloaded: None became free in time.
        """
        if self._free(priority):
            self._inside[priority] += 1
        else:
            await self._stand_in_line(priority)
        try:
            yield
        finally:
            self._inside[priority] -= 1
            self._let_in()

    def _free(self, priority: Priority) -> bool:
        inside = self._inside
        return sum(inside.values()) < self._limits[priority] and inside[priority] < self._most_of[priority]

    async def _stand_in_line(self, priority: Priority) -> None:
        if not self._has_room(priority):
            raise self._shed(priority)
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines[priority]
        line.append(ticket)
        RPC_WAITING.labels(self._service, priority).set(len(line))
        try:
            async with asyncio.timeout(RANKS[priority].patience_s):
                await ticket
        except BaseException as error:
            if ticket in line:
                line.remove(ticket)
            elif ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self._inside[priority] -= 1  # it was let in just as it gave up
                self._let_in()
            if isinstance(error, TimeoutError):
                raise self._shed(priority) from None
            raise
        finally:
            RPC_WAITING.labels(self._service, priority).set(len(line))

    def _let_in(self) -> None:
        for name, line in self._lines.items():
            while line and self._free(name):
                ticket = line.popleft()
                if not ticket.done():
                    ticket.set_result(None)
                    self._inside[name] += 1

    def _has_room(self, priority: Priority) -> bool:
        if len(self._lines[priority]) >= LINE_PER_CALL * self._most_of[priority]:
            return False
        return sum(map(len, self._lines.values())) < LINE_PER_CALL * self._most or self._make_room(priority)

    def _make_room(self, priority: Priority) -> bool:
        """Turn away the newest of the lowest rank below this one; return whether there was any."""
        for name in reversed(RANKS):
            if name == priority:
                return False
            if self._lines[name]:
                self._lines[name].pop().set_exception(self._shed(name))
                return True
        return False

    def _shed(self, priority: Priority) -> Overloaded:
        RPC_SHED.labels(self._service, priority).inc()
        waiting = sum(map(len, self._lines.values())) / self._most
        # Spread, so that those who were told at once do not come back at once.
        wait_s = RANKS[priority].back_in_s * (1 + waiting) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        message = f"{self._service} has more {priority} calls than it can serve: try again later"
        return Overloaded(message, retry_after_s=wait_s)


class Buckets:
    """How many calls each principal may make in each namespace: so many a second, with a little saved up.

    Args:
        service: Whose calls; for its words.
        per_s: The rate.
    """

    def __init__(self, service: str, per_s: float) -> None:
        self._service = service
        self._per_s = per_s
        self._due: dict[tuple[str, str], float] = {}

    def take(self, who: Caller) -> None:
        """Count a call.

        Raises:
            Overloaded: The principal has none left for now.
        """
        now, key = time.monotonic(), (who.principal, who.namespace)
        due = max(self._due.pop(key, now), now)
        ahead_s = due - now
        self._due[key] = due if ahead_s > SAVED_S else due + 1 / self._per_s
        if len(self._due) > BUCKETS_KEPT:
            del self._due[next(iter(self._due))]
        if ahead_s > SAVED_S:
            RPC_SHED.labels(self._service, who.priority).inc()
            message = f"{who.principal} makes more than {self._per_s:g} calls a second in namespace {who.namespace}"
            raise Overloaded(message, retry_after_s=max(0.05, ahead_s - SAVED_S))
