"""What triggers make of the events that they take: runs at once, or later, together, in turn, or none."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from millrace.control.domain.events import happened_at, size_of
from millrace.control.domain.runs import KeptRun
from millrace.control.handlers.awaited import hand_out_offered
from millrace.control.handlers.deciding import begin_runs, pending
from millrace.control.handlers.gathering import NewRun, Offered, gather_offered, new_run, settled_as, trace_of
from millrace.control.store import HeldTrigger, InForce, QueuedEvent, Settled, Start, Store, Turn
from millrace.core import state
from millrace.core.state import CancelRequested, Input
from millrace.core.triggers import Member, Trigger, admit, arrive, looks_at_open, match, width_of
from millrace.runtime.failpoints import failpoint

MAX_CANCELLED = 1_000
"""How many runs that wait are cancelled with what has them start, in one transaction."""
MAX_DROPPED = 10_000
"""How many events that wait are dropped so."""
AT_ONCE = 100
"""How many runs begin in one transaction: of more, the others wait for the clock, which goes on in the same way."""


@dataclass(slots=True)
class Following:
    """What is to be done once it is decided for all triggers: runs are held in the order of their ids."""

    new: list[NewRun] = field(default_factory=list)
    at_once: set[UUID] = field(default_factory=set)
    turn: set[UUID] = field(default_factory=set)
    ended: dict[UUID, str] = field(default_factory=dict)


async def start_runs(taken: Sequence[tuple[Start, InForce]], tx: Store) -> None:
    """Do what triggers make of events that they have just taken."""
    following = Following()
    storms = Counter(_name(rule) for start, rule in taken if _is_plain(start, rule))
    waiting: defaultdict[tuple[str, str], list[tuple[Start, InForce]]] = defaultdict(list)
    for start, rule in taken:
        if _is_plain(start, rule) and storms[_name(rule)] <= AT_ONCE:
            following.new.append(_plain(start, rule))
            following.at_once.add(start.run_id)
        elif start.disposition != "dropped":
            waiting[_name(rule)].append((start, rule))
    if waiting:
        there = await tx.hold_triggers(waiting)
        for gone in sorted(waiting.keys() - there.keys()):
            events = [start.arrival.received.event for start, _ in waiting[gone]]
            tx.settle_matches(
                gone, [Settled(e.source, e.id, "dropped", None, "the trigger was deleted") for e in events]
            )
        for key, held in there.items():
            offered = _offered(held, waiting[key], tx)
            await _arrive(held, await _offer(held, offered, tx), following, tx)
            tx.save_trigger(held)
    await follow(following, tx)
    await failpoint("control.runs_begun")


async def look_at_triggers(turns: Sequence[Turn], tx: Store) -> int:
    """Let happen what is due of some triggers: joins whose time is over, events that were queued, runs in turn.

    Returns:
        How many things have happened; where more are due, it is to be called again.
    """
    following, done = Following(), 0
    held = await tx.hold_triggers((turn.namespace, turn.trigger) for turn in turns)
    await failpoint("control.turn")
    for one in held.values():
        if not _stands(one):
            done += await _look(one, max(1, AT_ONCE // len(held)), following, tx)
            tx.save_trigger(one)
    await follow(following, tx)
    return done


async def _look(held: HeldTrigger, limit: int, following: Following, tx: Store) -> int:
    due = await tx.due_gatherings(held, limit)
    new: list[NewRun] = []
    for version in sorted({version for version, _ in due}):
        trigger = held.trigger if version == held.version else await tx.trigger_version(*held.key, version)
        keys = {key: list[Offered]() for at, key in due if at == version}
        new += await _put_together(held, trigger, version, keys, tx)
    begun = await tx.take_up_awaited(held, limit) if held.trigger.workflow is None else []
    new += await _put_together(held, held.trigger, held.version, {key: [] for key in begun}, tx)
    queued: Sequence[QueuedEvent] = ()
    if held.draining:
        queued = await tx.queued_events(held, limit)
        if len(queued) < limit:
            held.draining = False
            tx.save_standing(held)
        new += await _offer(held, _unqueued(held, queued, tx), tx, drained=True)
    if new:
        await _arrive(held, new, following, tx)
    elif held.admitted < held.queued:
        return len(due) + len(begun) + len(queued) + await _admit_next(held, limit, following, tx)
    return len(due) + len(begun) + len(queued)


async def _admit_next(held: HeldTrigger, limit: int, following: Following, tx: Store) -> int:
    """Let those begin that have waited longest, as far as the trigger lets them; return how many."""
    waiting = await tx.open_in(*held.key, limit=limit + 1, waiting=True)
    count = await _admit(held, [run.run_id for run in waiting[:limit]], tx)
    following.turn.update(run.run_id for run in waiting[:count])
    if count == len(waiting):
        held.admitted = held.queued
    return count


async def _admit(held: HeldTrigger, waiting: Sequence[UUID], tx: Store) -> int:
    """Return how many of the runs that wait begin now."""
    trigger, strict = held.trigger, held.trigger.strategy == "strict_sequence"
    if not waiting or (held.admit_at is not None and held.admit_at > tx.now):
        return 0
    if strict and held.last_run is not None and await tx.has_failed(held.last_run):
        return 0
    width = width_of(trigger.strategy, trigger.limit)
    under_way = await tx.begun_in(*held.key, held.queued, width) if width is not None else 0
    admission = admit(trigger.throttle, width, under_way, len(waiting), held.full_at, tx.now)
    held.full_at, held.admit_at = admission.full_at, admission.next_at
    if strict and admission.count:
        held.last_run = waiting[0]
    return admission.count


async def _arrive(held: HeldTrigger, new: Sequence[NewRun], following: Following, tx: Store) -> None:
    """Put new runs behind those that are there, or in their place, and let begin what may."""
    # What was gathered is the newest of its key already: those of other keys are not in its way.
    trigger, latest = held.trigger, held.trigger.mode == "latest" and not held.trigger.gathers
    there = []
    if new and looks_at_open(trigger.strategy, latest=latest):
        waiting = trigger.strategy not in {"first_only", "cancel_in_progress"}
        there = await tx.open_in(*held.key, waiting=waiting)
    arrival = arrive(trigger.strategy, len(new), there, latest=latest)
    kept = [new[place] for place in arrival.kept]
    settled = [one for made in kept if not made.recorded for one in made.settled]
    if len(kept) < len(new):
        run_id, chosen = kept[0].run_id if kept else there[0].run_id, set(arrival.kept)
        turned_away = (made for place, made in enumerate(new) if place not in chosen)
        settled += [one for made in turned_away for one in _turned_away(made, run_id, trigger)]
    tx.settle_matches(held.key, settled)
    if arrival.ended:
        following.ended |= dict.fromkeys(arrival.ended, f"run {kept[-1].run_id} stands in its place")
    none_waits = held.admitted == held.queued
    for made in kept:
        held.queued += 1
        made.place = held.queued
    count = await _admit(held, [made.run_id for made in kept[:AT_ONCE]], tx) if none_waits else 0
    if none_waits and count == len(kept):
        held.admitted = held.queued
    following.new += kept
    following.at_once.update(made.run_id for made in kept[:count])


def _turned_away(made: NewRun, run_id: UUID, trigger: Trigger) -> list[Settled]:
    """Return what is kept of the events of a run that does not start."""
    skipped = trigger.strategy == "first_only"
    how, why = ("skipped", "is under way") if skipped else ("superseded", "is of a newer event")
    return [Settled(s.source, s.event_id, how, run_id, f"run {run_id} {why}", s.waits) for s in made.settled]


async def _offer(
    held: HeldTrigger, offered: Sequence[Offered], tx: Store, *, drained: bool = False
) -> Sequence[NewRun]:
    """Return the runs that events lead to now; the others wait, and are kept so."""
    if _stands(held) or (held.draining and not drained):
        how = "dropped" if held.trigger.on_paused == "drop" and not held.draining else "queued"
        reason = "the trigger was paused" if how == "dropped" else ""
        late = [o for o in offered if o.kept_as != how]
        tx.settle_matches(held.key, [Settled(o.event.source, o.event.id, how, None, reason) for o in late])
        return []
    if held.trigger.gathers:
        by_key: defaultdict[str, list[Offered]] = defaultdict(list)
        for one in offered:
            by_key[one.key].append(one)
        return await _put_together(held, held.trigger, held.version, by_key, tx)
    runs = []
    for one in offered:
        settled = [settled_as(held.version, one.key, one.member, "started", one.run_id)]
        recorded = one.kept_as == "started"
        runs.append(new_run(held, one.run_id, one.event.document(), one.traceparent, settled, recorded=recorded))
    return runs


async def _put_together(
    held: HeldTrigger, trigger: Trigger, version: int, offered: Mapping[str, Sequence[Offered]], tx: Store
) -> list[NewRun]:
    """Put events with those that wait under their keys, and with tasks that do; return the runs that follow."""
    if trigger.workflow is None:
        await hand_out_offered(held, trigger, version, offered, tx)
        return []
    return await gather_offered(held, trigger, version, offered, tx)


async def follow(following: Following, tx: Store) -> None:
    """Keep new runs, and begin and end what is to be."""
    # Runs are held first of all, and what pools have last, for all together: who waits for a namespace's, in the order
    # of their names, holds none that comes after it.
    there = await tx.hold_runs(ids) if (ids := following.turn | following.ended.keys()) else []
    plans = await tx.plans(made.sha256 for made in following.new)
    runs = [
        pending(
            made.run_id,
            plans[made.sha256],
            made.document,
            tx,
            namespace=made.namespace,
            principal=made.principal,
            traceparent=made.traceparent,
            trigger_name=made.trigger,
            place=made.place,
        )
        for made in following.new
    ]
    told: list[tuple[KeptRun, Sequence[Input], None]] = [
        (kept, [CancelRequested(cause) if (cause := following.ended.get(kept.run.run_id)) else state.Start()], None)
        for kept in there
        if not kept.run.state.ended
    ]
    await begin_runs(runs, [kept for kept in runs if kept.run.run_id in following.at_once], tx, told)


def _is_plain(start: Start, rule: InForce) -> bool:
    """Return whether an event starts a run of its own at once, so that nothing is to be looked at."""
    trigger = rule.trigger
    alone = trigger.strategy == "parallel" and trigger.limit is None and trigger.throttle is None
    return start.disposition == "started" and alone and trigger.mode == "per_event"


def _stands(held: HeldTrigger) -> bool:
    return held.paused_at is not None or held.trigger.paused


def _name(rule: InForce) -> tuple[str, str]:
    return (rule.namespace, rule.trigger.name)


def _plain(start: Start, rule: InForce) -> NewRun:
    received = start.arrival.received
    return NewRun(
        run_id=start.run_id,
        sha256=rule.sha256,
        principal=rule.principal,
        namespace=rule.namespace,
        trigger=rule.trigger.name,
        document=received.event.document(),
        traceparent=trace_of(received.traceparent),
        recorded=True,
    )


def _offered(held: HeldTrigger, taken: Sequence[tuple[Start, InForce]], tx: Store) -> list[Offered]:
    """Return events that have just been taken as the trigger sees them now that it is held."""
    offered = []
    for start, rule in taken:
        event, key, slot = start.arrival.received.event, start.join_key, start.slot
        same = rule.version == held.version and rule.trigger == held.trigger
        if not same or start.disposition == "queued":
            # It was taken by what the trigger said a moment ago, or another of that name, or as one that stood.
            now = match(held.trigger, event, start.arrival.record.topic)
            key, slot = (now.key, now.slot) if now.taken else (key, slot)
        member = Member(
            time=happened_at(event, tx.now),
            source=event.source,
            id=event.id,
            at=tx.now,
            slot=slot,
            size_bytes=size_of(event) if held.trigger.gathers else 0,
        )
        offered.append(Offered(event, start.arrival.received.traceparent, member, key, start.disposition, start.run_id))
    return offered


def _unqueued(held: HeldTrigger, queued: Iterable[QueuedEvent], tx: Store) -> list[Offered]:
    """Return events that came while a held trigger was paused; those that it takes no more are turned away."""
    offered, refused = [], []
    for one in queued:
        now = match(held.trigger, one.event, one.topic)
        if not now.taken:
            why = f"the trigger took it, but when it went on it did no more: {now.reason}"
            refused.append(Settled(one.event.source, one.event.id, "dropped", None, why))
            continue
        member = Member(
            time=one.happened_at,
            source=one.event.source,
            id=one.event.id,
            at=tx.now,
            slot=now.slot,
            size_bytes=one.size_bytes,
        )
        offered.append(Offered(one.event, one.traceparent, member, now.key, "queued", tx.new_id()))
    tx.settle_matches(held.key, refused)
    return offered
