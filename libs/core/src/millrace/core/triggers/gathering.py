"""Events that wait for one another: joins, batches and debounces, without I/O or clock.

What waits is a set: in whatever order its members come, the same ones start the same run. A gathering is open while
members wait; it *fires*, which uses some of them up, or lets those expire that have waited for too long.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from millrace.core.triggers.ir import MAX_MEMBERS, Join, Trigger
from millrace.core.triggers.matching import joined
from millrace.core.triggers.partitions import parts_of

MAX_BYTES = 256 * 1024
"""The most that the events of one batch hold together."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """An event that waits; the order is that of the events' own times.

    Attributes:
        time: The event's own.
        at: When it came.
        slot: Which of those that a join waits for it is.
        size_bytes: Of its data.
    """

    time: datetime
    source: str
    id: str
    at: datetime = field(compare=False)
    slot: str = field(default="", compare=False)
    size_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a gathering besides those that wait.

    Attributes:
        opened_at: When the first event of a group came.
        last_at: When the latest of a group did.
        fired: The slots of the last firing of a join that did not need all.
        until: How long an event that it did without belongs to it.
    """

    opened_at: datetime | None = None
    last_at: datetime | None = None
    fired: frozenset[str] = frozenset()
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Firing:
    """A run that is to start.

    Attributes:
        members: The events that it gets, in their order; of a join in that of its slots.
        superseded: Events in whose place a newer one stands.
        missing: The slots of which no event came.
    """

    members: tuple[Member, ...]
    superseded: tuple[Member, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gathered:
    """What follows from what came, and from the time.

    Attributes:
        waiting: What waits on.
        superseded: Of a debounce: events in whose place a newer one stands, which is the second.
        expired: Those that waited too long, each with what it waited for.
        late: Those that came after a join had fired without them.
        refused: Those that came when too many waited already.
        due_at: When something happens of itself; None when nothing does, and nothing needs to be remembered.
    """

    waiting: tuple[Member, ...]
    memory: Memory
    firings: tuple[Firing, ...] = ()
    superseded: tuple[tuple[Member, Member], ...] = ()
    expired: tuple[tuple[Member, tuple[str, ...]], ...] = ()
    late: tuple[Member, ...] = ()
    refused: tuple[Member, ...] = ()
    due_at: datetime | None = None


def slots_of(join: Join, key: str) -> tuple[str, ...]:
    """Return what a join waits for under a key."""
    names = [member.name for member in join.members]
    if join.partitions is None:
        return tuple(names)
    period = key.rpartition("/")[2]
    parts = parts_of(period, join.partitions.each, join.partitions.per)
    return tuple(joined(name, part) for name in names or [""] for part in parts)


def gather(
    trigger: Trigger, key: str, memory: Memory, waiting: Iterable[Member], arrivals: Sequence[Member], now: datetime
) -> Gathered:
    """Return what follows when `arrivals` come to those that wait, at `now`.

    Args:
        trigger: One that gathers.
        key: The key that all of these have.
        memory: What the last call gave, or nothing.
        waiting: Those that wait.
        arrivals: Those that have come, in that order; one that waits already changes nothing.
        now: The time; what was due before it happens first.
    """
    made = _Joining(trigger.join, key, memory, now) if trigger.join else _Grouping(trigger, memory, now)
    made.begin(waiting)
    known = set(waiting)
    for member in arrivals:
        if member not in known:
            known.add(member)
            made.take(member)
    return made.gathered()


class _Gathering:
    """One gathering in the making."""

    def __init__(self, memory: Memory, now: datetime) -> None:
        self.memory = memory
        self.now = now
        self.firings: list[Firing] = []
        self.superseded: list[tuple[Member, Member]] = []
        self.expired: list[tuple[Member, tuple[str, ...]]] = []
        self.late: list[Member] = []
        self.refused: list[Member] = []

    def result(self, waiting: Iterable[Member], due_at: datetime | None) -> Gathered:
        """Return what came of it."""
        return Gathered(
            waiting=tuple(sorted(waiting)),
            memory=self.memory,
            firings=tuple(self.firings),
            superseded=tuple(self.superseded),
            expired=tuple(self.expired),
            late=tuple(self.late),
            refused=tuple(self.refused),
            due_at=due_at,
        )


class _Joining(_Gathering):
    """OPEN -> FIRED | EXPIRED, for as many runs as those that wait suffice for."""

    def __init__(self, join: Join, key: str, memory: Memory, now: datetime) -> None:
        super().__init__(memory, now)
        self.join = join
        self.slots = slots_of(join, key)
        self.known = frozenset(self.slots)
        self.window = timedelta(seconds=join.waits_s)
        self.by_slot: dict[str, list[Member]] = {}
        self.count = 0

    def begin(self, waiting: Iterable[Member]) -> None:
        for member in waiting:
            self._add(member)
        while self.count and self.now >= self._opened_at() + self.window:
            self._over()
        if self.memory.until is not None and self.now >= self.memory.until:
            self.memory = Memory()

    def take(self, member: Member) -> None:
        if self.memory.until is not None and member.slot not in self.memory.fired:
            self.memory = replace(self.memory, fired=self.memory.fired | {member.slot})
            self.late.append(member)
        elif self.count >= MAX_MEMBERS or member.slot not in self.known:
            self.refused.append(member)
        else:
            self._add(member)
            self._fire_if_complete()

    def gathered(self) -> Gathered:
        due_at = self._opened_at() + self.window if self.count else self.memory.until
        return self.result((member for some in self.by_slot.values() for member in some), due_at)

    def _add(self, member: Member) -> None:
        self.by_slot.setdefault(member.slot, []).append(member)
        self.count += 1

    def _opened_at(self) -> datetime:
        return min(member.at for some in self.by_slot.values() for member in some)

    def _fire_if_complete(self) -> None:
        join, filled = self.join, len(self.by_slot)
        if join.of == "sequence":
            chain = self._chain() if filled == len(self.slots) else []
            if chain:
                self._use_up(chain, [m for some in self.by_slot.values() for m in some if m < chain[-1]])
        elif filled >= {"all": len(self.slots), "any": 1, "n_of": join.n or 1}[join.of]:
            opened_at = self._opened_at()
            chosen = self._chosen()
            self._use_up(chosen, self._stand_behind(chosen))
            if join.of != "all":
                self.memory = Memory(fired=frozenset(m.slot for m in chosen), until=opened_at + self.window)

    def _over(self) -> None:
        """End the window of those that wait longest."""
        missing = tuple(slot for slot in self.slots if slot not in self.by_slot)
        if self.join.missing == "fire_partial":
            chosen = self._chosen()
            self._use_up(chosen, self._stand_behind(chosen), missing)
            return
        over = [m for some in self.by_slot.values() for m in some if m.at + self.window <= self.now]
        self.expired += [(member, missing) for member in sorted(over)]
        self._remove(over)

    def _chosen(self) -> list[Member]:
        choose = max if self.join.replaces else min
        return [choose(self.by_slot[slot]) for slot in self.slots if slot in self.by_slot]

    def _stand_behind(self, chosen: Sequence[Member]) -> list[Member]:
        if not self.join.replaces:
            return []
        return [m for one in chosen for m in self.by_slot[one.slot] if m is not one]

    def _chain(self) -> list[Member]:
        """Return the earliest event of each member that is not before that of the last; nothing where there is none."""
        chain: list[Member] = []
        for slot in self.slots:
            after = [m for m in self.by_slot[slot] if not chain or m.time >= chain[-1].time]
            if not after:
                return []
            chain.append(min(after))
        return chain

    def _use_up(self, chosen: Sequence[Member], behind: Sequence[Member], missing: tuple[str, ...] = ()) -> None:
        superseded = sorted(set(behind) - set(chosen))
        self.firings.append(Firing(tuple(chosen), tuple(superseded), missing))
        self._remove([*chosen, *superseded])

    def _remove(self, members: Iterable[Member]) -> None:
        for member in members:
            self.by_slot[member.slot].remove(member)
            self.count -= 1
            if not self.by_slot[member.slot]:
                del self.by_slot[member.slot]


class _Grouping(_Gathering):
    """A batch, or a debounce: complete when it is full, old enough, or when nothing more comes."""

    def __init__(self, trigger: Trigger, memory: Memory, now: datetime) -> None:
        super().__init__(memory, now)
        self.trigger = trigger
        self.members: list[Member] = []
        self.size_bytes = 0

    def begin(self, waiting: Iterable[Member]) -> None:
        for member in sorted(waiting):
            self._add(member)
        if self.members and (due_at := self._due_at()) is not None and self.now >= due_at:
            self._fire()

    def take(self, member: Member) -> None:
        newest_only = self.trigger.mode == "latest"
        if not newest_only and self.members and self.size_bytes + member.size_bytes > MAX_BYTES:
            self._fire()
        self.memory = Memory(opened_at=self.memory.opened_at or member.at, last_at=member.at)
        if newest_only and self.members:
            older, newer = sorted((self.members.pop(), member))
            self.superseded.append((older, newer))
            self.size_bytes = 0
            self._add(newer)
        else:
            self._add(member)
        if len(self.members) >= (self.trigger.batch.size if self.trigger.batch else MAX_MEMBERS):
            self._fire()

    def gathered(self) -> Gathered:
        return self.result(self.members, self._due_at() if self.members else None)

    def _add(self, member: Member) -> None:
        self.members.append(member)
        self.size_bytes += member.size_bytes

    def _due_at(self) -> datetime | None:
        opened_at = self.memory.opened_at or min(member.at for member in self.members)
        last_at = self.memory.last_at or max(member.at for member in self.members)
        batch, debounce = self.trigger.batch, self.trigger.debounce
        ends = []
        if batch:
            ends.append(opened_at + timedelta(seconds=batch.within_s))
        if debounce:
            ends.append(last_at + timedelta(seconds=debounce.quiet_s))
            if debounce.at_most_s is not None:
                ends.append(opened_at + timedelta(seconds=debounce.at_most_s))
        return min(ends, default=None)

    def _fire(self) -> None:
        self.firings.append(Firing(tuple(sorted(self.members))))
        self.members, self.size_bytes, self.memory = [], 0, Memory()
