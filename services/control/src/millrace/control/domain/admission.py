"""What decisions ask of pools, and why a task waits for its slots."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from millrace.control.domain.runs import KeptRun
from millrace.core.admission import Line, in_order
from millrace.core.state import TICKET, AskSlots, Decision, FreeSlots, TaskRun, TaskState

POOLS = "pools/"
"""What a turn of a namespace's pools is called, where others are called after their triggers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A task of a run that is to wait for slots."""

    namespace: str
    run_id: UUID
    asked: AskSlots


@dataclass(slots=True)
class Claims:
    """What decisions of one transaction ask of pools.

    Attributes:
        asked: Who is to wait, by ticket.
        freed: What is given back, by ticket: slots, or places in lines.
        touched: By namespace, the pools of which it is about.
    """

    asked: dict[UUID, Asked] = field(default_factory=dict)
    freed: set[UUID] = field(default_factory=set)
    touched: dict[str, set[str]] = field(default_factory=dict)

    def take(self, decided: Iterable[tuple[KeptRun, Decision]]) -> None:
        """Take note of what decisions ask for."""
        for kept, decision in decided:
            for effect in decision.effects:
                if isinstance(effect, AskSlots):
                    self.asked[effect.ticket] = Asked(kept.namespace, kept.run.run_id, effect)
                elif isinstance(effect, FreeSlots):
                    # What was asked for a moment ago is not even kept.
                    if self.asked.pop(effect.ticket, None) is None:
                        self.freed.add(effect.ticket)
                else:
                    continue
                self.touched.setdefault(kept.namespace, set()).add(effect.pool)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the line of a pool stands.

    Attributes:
        line: Those that wait, or as many of them as were looked at.
        next_at: When the pool's rate lets the next one begin, where that is later.
        quota: How many tasks of the namespace may hold slots at once, where so many do.
    """

    line: Line
    next_at: datetime | None = None
    quota: int | None = None


def queued(kept: KeptRun) -> dict[str, TaskRun]:
    """Return the tasks of a run that wait for slots, by name."""
    return {name: task for name, task in kept.run.tasks.items() if task.state is TaskState.QUEUED}


def pools_of(kept: KeptRun) -> dict[str, str]:
    """Return whose slots the tasks of a run wait for, by name."""
    return {name: kept.plan.step(name).task.pool or "" for name in queued(kept)}


def why_queued(kept: KeptRun, standings: Mapping[str, Standing]) -> dict[str, str]:
    """Return what each task of a run that waits for slots waits for, by name.

    Args:
        kept: The run.
        standings: The lines of their pools; one that is not there is left out.
    """
    places = {name: dict(_places(standing.line)) for name, standing in standings.items()}
    told = {}
    for name, task in queued(kept).items():
        spec = kept.plan.step(name).task
        ticket = (task.inner or {}).get(TICKET)
        what = f"{spec.weight} slots" if spec.weight > 1 else "a slot"
        found = standings.get(spec.pool or "")
        if ticket is None:
            told[name] = f"is to wait for {what} of pool {spec.pool} once the run is resumed"
        elif found is None:
            told[name] = f"waits for {what} of pool {spec.pool}, which is not there: `millrace pool apply {spec.pool}`"
        else:
            before = places[found.line.pool.name].get(UUID(ticket))
            told[name] = f"waits for {what} of pool {spec.pool}: {'; '.join(_why(found, before))}"
    return told


def _places(line: Line) -> Iterator[tuple[UUID, int]]:
    """Yield who waits, and how many before it."""
    yield from ((waiter.ticket, place) for place, waiter in enumerate(in_order(line)))


def _why(standing: Standing, before: int | None) -> Iterator[str]:
    pool = standing.line.pool
    there = sum(len(flow.waiters) for flow in standing.line.flows)
    yield f"{before} before it" if before is not None else f"{there} or more before it"
    yield f"{pool.taken} of {pool.slots} slots taken"
    if standing.quota is not None:
        yield f"the namespace's quota of {standing.quota} tasks that hold slots is used up"
    if standing.next_at is not None:
        yield f"the pool's rate lets the next one begin at {standing.next_at:%Y-%m-%d %H:%M:%S} UTC"
