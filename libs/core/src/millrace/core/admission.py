"""Who of those that wait for slots has them next: `admit(lines, room, now, most)`, without I/O, clock or randomness.

In the line of one pool, the highest priority goes first. Those of one priority are in flows, one for each fairness key:
the flow that has had least is served next, and each time it has had as much more as it took slots, divided by its key's
share. Whoever is first and finds too few slots free is waited for: nobody behind it is let in meanwhile, so that what
takes many slots is not overtaken for ever by what takes few.

Source: stride scheduling, Waldspurger & Weihl (1995), "Stride Scheduling: Deterministic Proportional-Share Resource
    Management"; a flow's `passed` is its pass, and one that joins begins where those that wait are.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated
from uuid import UUID

from millrace.core.bucket import draw
from millrace.core.ir import Seconds
from millrace.core.parts import Part
from pydantic import Field

MAX_SHARE = 1_000


class Rate(Part):
    """At most so many attempts begin in so many seconds; the others wait.

    Attributes:
        burst: How many may begin at once after a pause; `count` when it is not given.
    """

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    per_s: Seconds = 1.0
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """Slots that tasks take.

    Attributes:
        slots: How many there are.
        taken: How many are taken; more than there are where it was made smaller.
        shares: What a fairness key has as often as another has one; 1 where it has none.
        full_at: When the bucket of its rate is full.
    """

    name: str
    slots: int
    taken: int = 0
    rate: Rate | None = None
    shares: Mapping[str, int] = field(default_factory=dict)
    full_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Waiter:
    """A task that waits for slots.

    Attributes:
        ticket: Names its place.
        weight: How many slots it takes.
        number: Those that came before it have smaller ones.
    """

    ticket: UUID
    weight: int
    number: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The tasks of one priority and one fairness key that wait in a pool.

    Attributes:
        passed: How much they have had.
        waiters: The first of them, in their order.
    """

    priority: int
    key: str
    passed: float
    waiters: Sequence[Waiter]


@dataclass(frozen=True, slots=True)
class Line:
    """A pool, and its first flows: as many, each with as many waiters, as could be let in."""

    pool: Pool
    flows: Sequence[Flow] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A task that has its slots now.

    Attributes:
        weight: How many it has.
    """

    pool: str
    ticket: UUID
    weight: int


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is let in, and what is to be kept for the next time.

    Attributes:
        grants: In the order in which they were let in.
        passed: What flows have had, where it is more now: by pool, priority and key.
        full_at: When the buckets of rates are full, by pool, where something was drawn.
        due_at: When it is to be looked at again though nobody gives back anything; None where it need not be.
    """

    grants: tuple[Grant, ...]
    passed: Mapping[tuple[str, int, str], float]
    full_at: Mapping[str, datetime]
    due_at: datetime | None


def admit(lines: Sequence[Line], room: int | None, now: datetime, most: int) -> Admission:
    """Return which of those that wait have their slots now.

    Where the namespace has room for fewer than its pools do, the highest priority of all that are first in a line goes
    first, and of one priority who has waited longest.

    Args:
        lines: Those of one namespace, each with one more waiter than `most` where there are so many.
        room: How many more its quota lets in; None for any number.
        now: The time.
        most: At most so many; where more could be let in, it is to be looked at again at once.
    """
    open_lines = [_Open(line, now) for line in lines]
    grants: list[Grant] = []
    due_at: datetime | None = None
    while room is None or len(grants) < room:
        ready = [one for one in open_lines if one.lets_in()]
        if not ready:
            break
        if len(grants) == most:
            due_at = now
            break
        grants.append(min(ready, key=_Open.urgency).grant())
    waits = [one.next_at for one in open_lines if one.next_at is not None]
    passed = {(one.pool.name, *flow): has for one in open_lines for flow, has in one.passed.items()}
    drawn = {one.pool.name: one.full_at for one in open_lines if one.full_at not in {None, one.pool.full_at}}
    full_at = {name: at for name, at in drawn.items() if at is not None}
    return Admission(tuple(grants), passed, full_at, min([*waits, *([due_at] if due_at else [])], default=None))


def in_order(line: Line) -> Iterator[Waiter]:
    """Yield those that wait in a line in the order in which they would be let in, should nobody else come."""
    queue = _Queue(line)
    while queue.flows:
        yield queue.take()


def next_at(pool: Pool, now: datetime) -> datetime | None:
    """Return when the rate of a pool lets the next one in, where that is later than now."""
    return _draw(pool, pool.full_at, now)[1]


def _draw(pool: Pool, full_at: datetime | None, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return when the bucket is full after one is let in, and when the next one is, where none is now."""
    if (rate := pool.rate) is None:
        return full_at, None
    return draw(rate.count, rate.per_s, rate.burst or rate.count, 1, full_at, now)[1:]


class _Queue:
    """The order of one line."""

    def __init__(self, line: Line) -> None:
        self._shares = line.pool.shares
        self._slots = line.pool.slots
        self.passed: dict[tuple[int, str], float] = {}
        self.flows = [
            _entry(flow.priority, flow.passed, flow.key, deque(flow.waiters)) for flow in line.flows if flow.waiters
        ]
        heapq.heapify(self.flows)

    def first(self) -> tuple[int, Waiter]:
        """Return whose turn it is, and its priority."""
        minus_priority, _, _, _, waiters = self.flows[0]
        return -minus_priority, waiters[0]

    def takes(self) -> int:
        """Return how many slots who is first takes: of a pool that has fewer, all."""
        return max(1, min(self.first()[1].weight, self._slots))

    def take(self) -> Waiter:
        """Return whose turn it is, and have it be the next one's."""
        weight = self.takes()
        minus_priority, passed, _, key, waiters = heapq.heappop(self.flows)
        waiter = waiters.popleft()
        passed += weight / self._shares.get(key, 1)
        self.passed[-minus_priority, key] = passed
        if waiters:
            heapq.heappush(self.flows, _entry(-minus_priority, passed, key, waiters))
        return waiter


_Entry = tuple[int, float, int, str, deque[Waiter]]


def _entry(priority: int, passed: float, key: str, waiters: deque[Waiter]) -> _Entry:
    # Flows that have had the same go by who has waited longest.
    return (-priority, passed, waiters[0].number, key, waiters)


class _Open:
    """A line while it is decided who is let in."""

    def __init__(self, line: Line, now: datetime) -> None:
        self.pool, self.full_at = line.pool, line.pool.full_at
        self.next_at: datetime | None = None
        self._now, self._queue, self._taken = now, _Queue(line), line.pool.taken

    @property
    def passed(self) -> Mapping[tuple[int, str], float]:
        """What flows have had, where it is more now."""
        return self._queue.passed

    def lets_in(self) -> bool:
        """Return whether who is first may have its slots; where only the rate keeps it, say until when."""
        self.next_at = None
        if not self._queue.flows or not self.pool.slots or self._taken + self._queue.takes() > self.pool.slots:
            return False
        self.next_at = _draw(self.pool, self.full_at, self._now)[1]
        return self.next_at is None

    def urgency(self) -> tuple[int, int]:
        """Return what is smaller for who goes first."""
        priority, waiter = self._queue.first()
        return -priority, waiter.number

    def grant(self) -> Grant:
        """Let in who is first."""
        weight = self._queue.takes()
        self._taken += weight
        self.full_at = _draw(self.pool, self.full_at, self._now)[0]
        return Grant(self.pool.name, self._queue.take().ticket, weight)
