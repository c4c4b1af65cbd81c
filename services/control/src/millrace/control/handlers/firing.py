"""What schedules start when time comes: runs for their moments, in their turn, and of backfills."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from millrace.control.domain.schedules import document_for
from millrace.control.handlers.deciding import SERVICE
from millrace.control.handlers.gathering import NewRun
from millrace.control.handlers.triggers import AT_ONCE, Following, follow
from millrace.control.store import HeldBackfill, HeldSchedule, NewFire, Store, Turn
from millrace.core.schedules import (
    Fire,
    Kind,
    Schedule,
    due,
    fires_between,
    just_after,
    last_fire,
    previous_fire,
)
from millrace.core.triggers import admit, arrive, looks_at_open, width_of
from millrace.runtime.telemetry import span
from millrace.runtime.traceparent import current_traceparent

LOOKED_AT = 10
"""How many moments of a backfill are looked at together at least: those that have had a run take no place."""


async def look_at_schedules(turns: Sequence[Turn], tx: Store) -> int:
    """Let happen what is due of some schedules: their moments, runs in turn, backfills.

    Returns:
        How many things have happened; where more are due, it is to be called again.
    """
    following, done = Following(), 0
    held = await tx.hold_schedules((turn.namespace, turn.schedule) for turn in turns)
    limit = max(1, AT_ONCE // max(1, len(held)))
    for one in held:
        done += await fire(one, following, tx, limit)
        for backfill in await tx.hold_backfills(one):
            done += await _go_on(backfill, one, following, tx, limit)
    await follow(following, tx)
    return done


async def fire(held: HeldSchedule, following: Following, tx: Store, limit: int = AT_ONCE) -> int:
    """Start what has come due of a held schedule, and what waits for its turn, and keep it; return how many of both."""
    waited = held.waits
    new, passed = (await _due(held, tx, limit)) if held.next_at is not None and held.next_at <= tx.now else ([], 0)
    begun = await _admit(held, await _arrive(held, new, following, tx), following, tx)
    if new or passed or begun or held.waits != waited:
        tx.save_schedule(held)
    return len(new) + passed + begun


async def _due(held: HeldSchedule, tx: Store, limit: int) -> tuple[list[tuple[Fire, Kind]], int]:
    """Return for which moments there is to be a run, and 1 where something else was decided."""
    found = due(held.schedule, held.decided_until, tx.now, limit)
    if found.passed is not None:
        tx.add_passed(held, found.passed.first_at, found.passed.last_at, "missed")
    # A backfill may have been before it.
    fired = await tx.fired(*held.key, [one.logical_at for one, _ in found.starts])
    moved = (found.decided_until, found.next_at) != (held.decided_until, held.next_at)
    held.decided_until, held.next_at = found.decided_until, found.next_at
    new = [(one, kind) for one, kind in found.starts if one.logical_at not in fired]
    return new, int(moved and not new)


async def _arrive(
    held: HeldSchedule, new: Sequence[tuple[Fire, Kind]], following: Following, tx: Store
) -> list[NewRun]:
    """Put runs for new moments behind those that are there, or in their place."""
    if not new:
        return []
    strategy = held.schedule.strategy
    there = []
    if looks_at_open(strategy, latest=False):
        there = await tx.open_in(held.namespace, held.queue, waiting=strategy == "latest_only")
    arrival = arrive(strategy, len(new), there)
    runs: list[NewRun] = []
    starts: list[NewFire] = []
    for place in arrival.kept:
        logical_at, kind = new[place][0].logical_at, new[place][1]
        held.queued += 1
        made = _run(held, held.schedule, held.queue, logical_at, kind, held.queued, tx)
        runs.append(made)
        starts.append(NewFire(logical_at, kind, made.run_id))
    tx.add_fires(*held.key, starts)
    instead = runs[-1].run_id if runs else there[0].run_id
    for place, (one, _) in enumerate(new):
        if place not in arrival.kept:
            reason = "skipped" if strategy == "first_only" else "superseded"
            tx.add_passed(held, one.logical_at, one.logical_at, reason, instead)
    following.ended |= dict.fromkeys(arrival.ended, f"run {instead} stands in its place")
    following.new += runs
    return runs


async def _admit(held: HeldSchedule, new: Sequence[NewRun], following: Following, tx: Store) -> int:
    """Let those begin that have waited longest, as far as the schedule lets them; return how many had waited."""
    schedule = held.schedule
    old: list[UUID] = []
    if held.waits:
        gone = following.ended.keys()
        there = await tx.open_in(held.namespace, held.queue, limit=AT_ONCE, waiting=True)
        old = [run.run_id for run in there if run.run_id not in gone]
    waiting = [*old, *(made.run_id for made in new)]
    if not waiting or held.paused_at is not None:
        held.waits = bool(waiting)
        return 0
    if schedule.strategy == "strict_sequence" and held.last_run is not None and await tx.has_failed(held.last_run):
        held.waits = True
        return 0
    width = width_of(schedule.strategy, schedule.limit)
    begun = await tx.begun_in(held.namespace, held.queue, held.queued, width) if width is not None else 0
    count = min(admit(None, width, begun, len(waiting), None, tx.now).count, AT_ONCE)
    held.waits = count < len(waiting) or len(old) == AT_ONCE
    if schedule.strategy == "strict_sequence" and count:
        held.last_run = waiting[0]
    following.turn.update(old[:count])
    following.at_once.update(waiting[len(old) : count])
    return min(count, len(old))


async def _go_on(backfill: HeldBackfill, held: HeldSchedule, following: Following, tx: Store, limit: int) -> int:
    """Start the next runs of a held backfill, as many as may be under way; return how many moments were looked at."""
    under_way = len(await tx.open_in(backfill.namespace, backfill.queue, limit=backfill.at_once))
    looked, room, before = 0, backfill.at_once - under_way, backfill.started
    if backfill.more:
        wanted = min(limit, max(room, LOOKED_AT))
        moments = next_moments(backfill, wanted)
        fired = await tx.fired(*held.key, moments, backfill.again)
        for moment in moments:
            if moment not in fired and backfill.started - before >= room:
                break
            looked, backfill.decided = looked + 1, moment
            if moment in fired:
                backfill.skipped += 1
            else:
                backfill.started += 1
                _start(backfill, held, moment, following, tx)
        backfill.more = looked < len(moments) or len(moments) == wanted
    if not backfill.more and not under_way and backfill.started == before:
        backfill.state, looked = "done", looked + 1
    if looked:
        tx.save_backfill(backfill)
    return looked


def _start(backfill: HeldBackfill, held: HeldSchedule, moment: datetime, following: Following, tx: Store) -> None:
    made = _run(held, backfill.schedule, backfill.queue, moment, "backfill", backfill.started, tx, backfill)
    tx.add_fires(*held.key, [NewFire(moment, "backfill", made.run_id, backfill.backfill_id, backfill.again)])
    following.new.append(made)
    following.at_once.add(made.run_id)


def next_moments(backfill: HeldBackfill, limit: int) -> list[datetime]:
    """Return the next moments of a backfill that are to be looked at, in its order."""
    schedule, start, end = backfill.schedule, backfill.from_at, backfill.to_at
    if not backfill.newest_first:
        return fires_between(schedule, just_after(backfill.decided) if backfill.decided else start, end, limit)
    found: list[datetime] = []
    end = backfill.decided or end
    while len(found) < limit and (last := _last_between(schedule, start, end)) is not None:
        found.append(end := last)
    return found


def _last_between(schedule: Schedule, start: datetime, end: datetime) -> datetime | None:
    tick = timedelta(microseconds=1)
    return last_fire(schedule, start - tick, end - tick)


def _run(
    held: HeldSchedule,
    schedule: Schedule,
    queue: str,
    logical_at: datetime,
    kind: Kind,
    place: int,
    tx: Store,
    backfill: HeldBackfill | None = None,
) -> NewRun:
    with span(SERVICE, "schedule fire"):
        traceparent = current_traceparent()
    previous_at = previous_fire(schedule, logical_at)
    about = backfill.backfill_id if backfill is not None else ""
    return NewRun(
        run_id=tx.new_id(),
        sha256=held.sha256,
        principal=backfill.principal if backfill is not None else held.principal,
        namespace=held.namespace,
        trigger=queue,
        document=document_for(schedule, logical_at, previous_at, kind, about),
        traceparent=traceparent,
        place=place,
    )
