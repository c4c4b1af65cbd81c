"""Schedules are put in force, paused, looked at; backfills are begun and stopped."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.control.commands.schedules import (
    ApplySchedule,
    CancelBackfill,
    NamedSchedule,
    PreviewSchedule,
    StartBackfill,
)
from millrace.control.handlers.firing import fire
from millrace.control.handlers.triggers import MAX_CANCELLED, Following, follow
from millrace.control.store import HeldBackfill, HeldSchedule, Store
from millrace.core.schedules import Fire, Schedule, fires, fires_between, last_fire, next_due
from millrace.runtime.errors import Conflict, InvalidInput, NotFound

MAX_MOMENTS = 10_000
"""The most moments of one backfill: more than a year of hours."""
MAX_BACKFILLS = 20
"""The most backfills of a schedule that go on together."""
"""The most runs that are cancelled with one call."""
SHOWN_MOMENTS = 100


@dataclass(frozen=True, slots=True)
class Planned:
    """A backfill as it stands, or would be.

    Attributes:
        moments: Of a dry run, the first that would have a run, in its order.
    """

    row: Mapping[str, Any]
    schedule: Schedule
    moments: tuple[datetime, ...] = ()


async def apply_schedule(command: ApplySchedule, tx: Store) -> bool:
    """Put a schedule in force; return whether it was not already.

    What has come due of what it was before is started as that says; what comes from now on is as this one says.

    Raises:
        NotFound: Its workflow does not exist.
        InvalidInput: It has no moment that is still to come.
        Conflict: Too much has come due of what it was before.
    """
    schedule, namespace = command.schedule, command.namespace
    await tx.plan_in_force(namespace, schedule.workflow)
    held = next(iter(await tx.hold_schedules([(namespace, schedule.name)])), None)
    if held is not None and held.schedule == schedule:
        return False
    next_at = next_due(schedule, tx.now)
    if next_at is None:
        raise InvalidInput(f"schedule {schedule.name} has no moment after {tx.now.isoformat()}, for 50 years at least")
    if held is None:
        tx.put_schedule(namespace, schedule, command.principal, tx.now, next_at)
        return True
    until = tx.now
    if held.schedule.same_moments(schedule):
        until, next_at = held.decided_until, next_due(schedule, held.decided_until)
    else:
        await _let_go(held, tx)
    tx.put_schedule(namespace, schedule, command.principal, until, next_at if held.paused_at is None else None)
    return True


async def pause_schedule(command: NamedSchedule, tx: Store) -> Mapping[str, Any]:
    """Let a schedule start nothing until somebody resumes it; one that is paused stays so.

    Raises:
        NotFound: It does not exist.
    """
    held = await tx.hold_schedule(command.namespace, command.name)
    if held.paused_at is None:
        held.paused_at, held.paused_by, held.next_at = tx.now, command.principal, None
        tx.save_schedule(held)
    return await tx.shown_schedule(command.namespace, command.name)


async def resume_schedule(command: NamedSchedule, tx: Store) -> Mapping[str, Any]:
    """Let a schedule go on, with what came due meanwhile or without, as it says.

    Raises:
        NotFound: It does not exist.
    """
    held = await tx.hold_schedule(command.namespace, command.name)
    if held.paused_at is not None:
        if held.schedule.on_paused == "drop":
            _drop(held, tx)
        held.paused_at, held.paused_by = None, ""
        held.next_at = next_due(held.schedule, held.decided_until)
    if held.last_run is not None and await tx.has_failed(held.last_run):
        held.last_run = None
    tx.save_schedule(held)
    return await tx.shown_schedule(command.namespace, command.name)


async def delete_schedule(command: NamedSchedule, tx: Store) -> tuple[int, int]:
    """Take a schedule out of force; return how many runs that waited are cancelled, and how many backfills.

    Raises:
        NotFound: It does not exist.
        Conflict: Too many runs wait for their turn.
    """
    held = await tx.hold_schedule(command.namespace, command.name)
    waiting = await tx.open_in(held.namespace, held.queue, limit=MAX_CANCELLED + 1, waiting=True)
    if len(waiting) > MAX_CANCELLED:
        raise Conflict(f"more than {MAX_CANCELLED} runs of schedule {command.name} wait for their turn: pause it first")
    stopped = await tx.stop_backfills(held)
    tx.delete_schedule(held)
    cause = f"{command.principal} deleted schedule {command.name}"
    await follow(Following(ended={run.run_id: cause for run in waiting}), tx)
    return len(waiting), stopped


async def preview_schedule(asked: PreviewSchedule, tx: Store) -> tuple[Schedule, list[Fire]]:
    """Return the next moments of a schedule in force, or of a document.

    Raises:
        NotFound: It does not exist.
    """
    schedule = asked.schedule
    if schedule is None:
        schedule = Schedule.model_validate((await tx.shown_schedule(asked.namespace, asked.name))["document"])
    return schedule, fires(schedule, asked.after or tx.now, asked.count)


async def start_backfill(command: StartBackfill, tx: Store) -> Planned:
    """Begin a backfill, or go on with the one of this name; of a dry run, say what would be done.

    Raises:
        NotFound: The schedule does not exist.
        InvalidInput: The range has no moment, too many, or is not of the past.
        Conflict: The backfill of this name is another, or too many go on.
    """
    held = await tx.hold_schedule(command.namespace, command.schedule)
    there = await tx.hold_backfill(command.namespace, command.schedule, command.id)
    new = there if there is not None else _new(command, held, tx)
    if (new.from_at, new.to_at, new.newest_first) != (command.from_at, command.to_at, command.newest_first):
        raise Conflict(
            f"backfill {new.backfill_id} of schedule {command.schedule} is from {new.from_at.isoformat()} to "
            f"{new.to_at.isoformat()}{', newest first' if new.newest_first else ''}; give this one another id"
        )
    if command.dry_run:
        return await _would_be(new, tx, known=there is not None)
    others = [one for one in await tx.hold_backfills(held) if one.backfill_id != new.backfill_id]
    if new.state != "done" and len(others) >= MAX_BACKFILLS:
        raise Conflict(f"{MAX_BACKFILLS} backfills of schedule {command.schedule} go on already")
    if there is None:
        tx.add_backfill(new)
    elif there.state != "done":
        there.state, there.at_once = "running", command.at_once
        tx.save_backfill(there)
    return await _shown(new, tx)


async def cancel_backfill(command: CancelBackfill, tx: Store) -> Planned:
    """Start no more of a backfill; one that is over stays so.

    Raises:
        NotFound: There is none of this name.
    """
    await tx.hold_schedules([(command.namespace, command.schedule)])
    held = await tx.hold_backfill(command.namespace, command.schedule, command.backfill_id)
    if held is None:
        raise NotFound(f"backfill {command.backfill_id} of schedule {command.schedule} does not exist")
    if held.state == "running":
        held.state = "cancelled"
        tx.save_backfill(held)
    if command.cancel_runs:
        runs = await tx.open_in(held.namespace, held.queue, limit=held.at_once)
        cause = f"{command.principal} cancelled backfill {command.backfill_id}"
        await follow(Following(ended={run.run_id: cause for run in runs}), tx)
    return await _shown(held, tx)


async def _let_go(held: HeldSchedule, tx: Store) -> None:
    """Decide about all that has come due of a held schedule, which is about to be another."""
    if held.paused_at is not None:
        return _drop(held, tx)
    following = Following()
    await fire(held, following, tx)
    await follow(following, tx)
    if held.next_at is not None and held.next_at <= tx.now:
        raise Conflict(f"schedule {held.schedule.name} still starts what it has missed: apply this again in a moment")
    return None


def _drop(held: HeldSchedule, tx: Store) -> None:
    """Decide that nothing is started for what came due while a schedule was paused."""
    if (last := last_fire(held.schedule, held.decided_until, tx.now)) is not None:
        tx.add_passed(held, fires(held.schedule, held.decided_until, 1)[0].logical_at, last, "paused")
    held.decided_until = max(held.decided_until, tx.now)


def _new(command: StartBackfill, held: HeldSchedule, tx: Store) -> HeldBackfill:
    if command.to_at > tx.now:
        raise InvalidInput(f"to: it is later than now ({tx.now.isoformat()}); what is to come is the schedule's own")
    total = len(fires_between(held.schedule, command.from_at, command.to_at, MAX_MOMENTS + 1))
    if not total:
        raise InvalidInput(f"from, to: schedule {command.schedule} has no moment between them")
    if total > MAX_MOMENTS:
        raise InvalidInput(f"from, to: more than {MAX_MOMENTS} moments lie between them; ask for them in parts")
    return HeldBackfill(
        namespace=command.namespace,
        backfill_id=command.id,
        schedule=held.schedule,
        principal=command.principal,
        from_at=command.from_at,
        to_at=command.to_at,
        newest_first=command.newest_first,
        at_once=command.at_once,
        again=command.backfill_id,
        state="running",
        decided=None,
        more=True,
        total=total,
        started=0,
        skipped=0,
    )


async def _would_be(new: HeldBackfill, tx: Store, *, known: bool) -> Planned:
    """Return what of a backfill is still to be done."""
    schedule = new.schedule
    moments = fires_between(schedule, new.from_at, new.to_at, MAX_MOMENTS)
    if new.decided is not None:
        moments = [one for one in moments if (one < new.decided if new.newest_first else one > new.decided)]
    fired = await tx.fired(new.namespace, schedule.name, moments, new.again)
    would = [moment for moment in moments if moment not in fired]
    names = ("backfill_id", "from_at", "to_at", "newest_first", "at_once", "principal", "total", "started")
    row = {name: getattr(new, name) for name in names} | {
        "schedule": schedule.name,
        "skipped": new.skipped + len(fired),
    }
    row |= {"state": new.state if known else "planned", "created_at": None, "ended_at": None, "ended": {}}
    return Planned(row, schedule, tuple(would[::-1] if new.newest_first else would)[:SHOWN_MOMENTS])


async def _shown(held: HeldBackfill, tx: Store) -> Planned:
    (row,) = await tx.backfills(held.namespace, held.schedule.name, held.backfill_id)
    return Planned(row, held.schedule)
