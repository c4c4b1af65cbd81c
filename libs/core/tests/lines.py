"""Pools of one namespace in memory, as control keeps them in rows: who holds slots, who waits, what flows have had."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from millrace.core.admission import Admission, Flow, Line, Pool, Rate, Waiter, admit
from millrace.core.state import AskSlots

FlowKey = tuple[str, int, str]
MOST = 1_000


@dataclass
class Lines:
    """Who holds slots, and who waits for them.

    Attributes:
        slots: Of each pool.
        leases: Pool and slots, by ticket.
        waiters: In the order in which they came.
        passed: What flows have had; one in which nobody waits is kept for as long as it has had more than the others.
    """

    slots: dict[str, int]
    shares: Mapping[str, int] = field(default_factory=dict)
    rate: Rate | None = None
    quota: int | None = None
    leases: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    waiters: dict[UUID, tuple[int, AskSlots]] = field(default_factory=dict)
    passed: dict[FlowKey, float] = field(default_factory=dict)
    full_at: dict[str, datetime] = field(default_factory=dict)
    numbers: int = 0

    def ask(self, asked: AskSlots) -> None:
        """Put somebody into a line."""
        flow = (asked.pool, asked.priority, asked.fairness_key)
        if not any(self._flow_of(one) == flow for _, one in self.waiters.values()):
            self.passed[flow] = max(self.passed.get(flow, 0.0), self._clock(*flow[:2], default=0.0))
        self.numbers += 1
        self.waiters[asked.ticket] = (self.numbers, asked)

    def free(self, ticket: UUID) -> None:
        """Take back what a ticket holds."""
        self.leases.pop(ticket, None)
        self.waiters.pop(ticket, None)

    def taken(self, pool: str) -> int:
        """Return how many slots of a pool are taken."""
        return sum(weight for name, weight in self.leases.values() if name == pool)

    def lines(self) -> list[Line]:
        """Return every line whole."""
        return [
            Line(
                Pool(name, slots, self.taken(name), self.rate, self.shares, self.full_at.get(name)),
                [
                    Flow(priority, key, self.passed[pool, priority, key], [*self._waiters((pool, priority, key))])
                    for pool, priority, key in sorted({self._flow_of(one) for _, one in self.waiters.values()})
                    if pool == name
                ],
            )
            for name, slots in sorted(self.slots.items())
        ]

    def let_in(self, now: datetime, most: int = MOST) -> Admission:
        """Let in whose turn it is."""
        room = None if self.quota is None else max(0, self.quota - len(self.leases))
        decided = admit(self.lines(), room, now, most)
        for grant in decided.grants:
            del self.waiters[grant.ticket]
            self.leases[grant.ticket] = (grant.pool, grant.weight)
        self.passed |= decided.passed
        self.full_at |= decided.full_at
        waits = {self._flow_of(one) for _, one in self.waiters.values()}
        for flow in self.passed.keys() - waits:
            if self.passed[flow] <= self._clock(*flow[:2], default=float("inf")):
                del self.passed[flow]
        return decided

    def _clock(self, pool: str, priority: int, *, default: float) -> float:
        flows = {self._flow_of(one) for _, one in self.waiters.values()}
        return min((self.passed[flow] for flow in flows if flow[:2] == (pool, priority)), default=default)

    def _waiters(self, flow: FlowKey) -> Iterator[Waiter]:
        for ticket, (number, one) in self.waiters.items():
            if self._flow_of(one) == flow:
                yield Waiter(ticket, one.weight, number)

    @staticmethod
    def _flow_of(asked: AskSlots) -> FlowKey:
        return (asked.pool, asked.priority, asked.fairness_key)
