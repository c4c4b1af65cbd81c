"""Events that wait for one another under the lock of their trigger, and the runs that they lead to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from millrace.control.domain.triggers import expired_reason, gathered_document
from millrace.control.handlers.deciding import SERVICE
from millrace.control.store import HeldTrigger, KeptMemory, Settled, Store
from millrace.core.triggers import Event, Firing, Gathered, Member, Memory, Trigger, gather
from millrace.runtime.telemetry import span
from millrace.runtime.traceparent import current_traceparent


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """An event that a held trigger takes.

    Attributes:
        kept_as: What is kept of it so far.
        run_id: The run that it is kept as having started.
    """

    event: Event
    traceparent: str
    member: Member
    key: str
    kept_as: str
    run_id: UUID


@dataclass(slots=True, eq=False)
class NewRun:
    """A run that is to start, with what it gets and the events that lead to it.

    Attributes:
        recorded: Its event is kept as having started it.
        settled: Its events as they are to be kept when it starts.
        place: Among the runs of its trigger, where that lets not all begin at once.
    """

    run_id: UUID
    sha256: str
    principal: str
    namespace: str
    trigger: str
    document: dict[str, Any]
    traceparent: str
    recorded: bool = False
    settled: Sequence[Settled] = ()
    place: int | None = None


async def gather_offered(
    held: HeldTrigger, trigger: Trigger, version: int, offered: Mapping[str, Sequence[Offered]], tx: Store
) -> list[NewRun]:
    """Put events with those that wait under their keys, and return the runs that follow."""
    keys = sorted(offered)
    remembered = await tx.gatherings(held, version, keys)
    waiting = await tx.waiting_members(held, version, keys)
    new: list[NewRun] = []
    for key in keys:
        kept = remembered.get(key, KeptMemory(Memory()))
        arrivals = [one.member for one in offered[key]]
        new_here = frozenset(arrivals)  # which are kept as waiting already
        before = [member for member in waiting.get(key, ()) if member not in new_here]
        found = gather(trigger, key, kept.memory, before, arrivals, tx.now)
        runs = [await _fired(held, trigger, version, key, firing, offered[key], tx) for firing in found.firings]
        new += runs
        last = runs[-1].run_id if runs else kept.run_id
        kept_as = {one.member: one.kept_as for one in offered[key]}
        tx.settle_matches(held.key, _settle(found, trigger, version, key, last, kept_as))
        tx.save_gathering(held, version, key, KeptMemory(found.memory, last), found.due_at)
    return new


def _settle(
    found: Gathered, trigger: Trigger, version: int, key: str, last: UUID | None, kept_as: Mapping[Member, str]
) -> list[Settled]:
    """Return what became of events that started no run."""
    window_s = trigger.join.waits_s if trigger.join else 0.0
    full = "as many events wait under its key as may"
    return [
        *(settled_as(version, key, m, "waiting") for m in found.waiting if kept_as.get(m, "waiting") != "waiting"),
        *(settled_as(version, key, m, "late", last, "its join had started its run without it") for m in found.late),
        *(settled_as(version, key, m, "dropped", None, full) for m in found.refused),
        *(
            settled_as(version, key, older, "superseded", None, f"event {newer.id} of {newer.source} is newer")
            for older, newer in found.superseded
        ),
        *(settled_as(version, key, m, "expired", None, expired_reason(window_s, gone)) for m, gone in found.expired),
    ]


async def _fired(
    held: HeldTrigger,
    trigger: Trigger,
    version: int,
    key: str,
    firing: Firing,
    offered: Sequence[Offered],
    tx: Store,
) -> NewRun:
    run_id = tx.new_id()
    known = {(one.event.source, one.event.id): (one.event, one.traceparent) for one in offered}
    missing = [place for m in firing.members if (place := (m.source, m.id)) not in known]
    if missing:
        known |= await tx.events(held.namespace, missing)
    events = {place: event for place, (event, _) in known.items()}
    newest = max(firing.members)
    settled = [settled_as(version, key, member, "started", run_id) for member in firing.members]
    newer = "a newer event stands in its place"
    settled += [settled_as(version, key, member, "superseded", run_id, newer) for member in firing.superseded]
    document = gathered_document(trigger, key, firing, events, run_id)
    return new_run(held, run_id, document, known[newest.source, newest.id][1], settled)


def settled_as(
    version: int, key: str, member: Member, how: str = "started", run_id: UUID | None = None, reason: str = ""
) -> Settled:
    """Return what is kept of an event that waits, or did, under a key."""
    return Settled(member.source, member.id, how, run_id, reason, (version, key, member.slot))


def new_run(
    held: HeldTrigger,
    run_id: UUID,
    document: dict[str, Any],
    traceparent: str,
    settled: Sequence[Settled],
    *,
    recorded: bool = False,
) -> NewRun:
    """Return a run that a held trigger starts."""
    return NewRun(
        run_id=run_id,
        sha256=held.sha256,
        principal=held.principal,
        namespace=held.namespace,
        trigger=held.trigger.name,
        document=document,
        traceparent=trace_of(traceparent),
        recorded=recorded,
        settled=settled,
    )


def trace_of(traceparent: str) -> str:
    """Return the trace that a run begins with: its event's, or a new one."""
    with span(SERVICE, "trigger match", parent=traceparent):
        return current_traceparent()
