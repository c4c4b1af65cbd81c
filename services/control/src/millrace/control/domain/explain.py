"""Why an event did or did not start a run, and why a run stands where it does."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from millrace.control.domain.explain_tasks import explain_deadlines, explain_results
from millrace.control.domain.runs import KeptRun
from millrace.control.domain.schedules import schedule_of
from millrace.control.domain.triggers import waiting_reason
from millrace.core.results import Slot
from millrace.core.shown import waits_for
from millrace.core.state import TASK_OPEN, RunState, TaskRun
from millrace.core.triggers import Event, Trigger, match

MAX_TASKS = 10
QUEUED = "the trigger was paused when it came; it is looked at when that goes on"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one trigger made of an event.

    Attributes:
        disposition: What is kept of it, or `filtered` or `unseen` where nothing is.
        key: Of the events that wait for one another.
        slot: Which of those that a join waits for it is.
        waits_until: When it waits no more, where it waits.
    """

    trigger: str
    disposition: str
    reason: str = ""
    run_id: UUID | None = None
    key: str = ""
    slot: str = ""
    waits_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was kept of an event when a trigger took it.

    Attributes:
        key: Of the events that wait for one another.
        waits_until: When it waits no more, where it waits.
    """

    trigger: str
    disposition: str
    dedupe_key: str
    run_id: UUID | None
    key: str = ""
    slot: str = ""
    reason: str = ""
    waits_until: datetime | None = None


def explain(
    event: Event,
    topic: str,
    received_at: datetime,
    triggers: Sequence[tuple[Trigger, datetime]],
    recorded: Iterable[Recorded],
) -> list[Explanation]:
    """Return what each trigger of the event's topic made of it.

    Args:
        event: What came.
        topic: Where.
        received_at: When.
        triggers: What triggers said then, and since when; of those that came later, what they said first.
        recorded: What was kept of it.
    """
    said = {trigger.name: trigger for trigger, _ in triggers}
    kept = {one.trigger: one for one in recorded}
    found = [
        Explanation(name, one.disposition, _reason(one, said), one.run_id, one.key, one.slot, one.waits_until)
        for name, one in sorted(kept.items())
    ]
    for trigger, since in triggers:
        if trigger.name in kept or not any(source.reads(topic) for source in trigger.sources()):
            continue
        if since > received_at:
            late = f"it was put in force at {since:%Y-%m-%d %H:%M:%S} UTC, after the event came"
            found.append(Explanation(trigger.name, "unseen", late))
            continue
        now = match(trigger, event, topic)
        unseen = "it would take the event, but did not when that came"
        found.append(Explanation(trigger.name, "unseen" if now.taken else "filtered", now.reason or unseen))
    return found


def _reason(one: Recorded, said: Mapping[str, Trigger]) -> str:
    if one.disposition == "duplicate":
        return f"an event with the same key {one.dedupe_key!r} came before"
    if one.disposition == "waiting" and one.trigger in said:
        return waiting_reason(said[one.trigger], one.key, one.waits_until)
    return QUEUED if one.disposition == "queued" else one.reason


def led_by(kept: KeptRun) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the events that a run was given, each with what it was called in a join."""
    trigger, given = kept.run.trigger, _gathered(kept)
    if given is None:
        if trigger.get("id") and trigger.get("type") != "subflow" and "schedule" not in trigger:
            yield "", trigger
        return
    for name, some in given.get("members", {}).items():
        yield from ((name, event) for event in (some if isinstance(some, list) else [some]))
    yield from (("", event) for event in given.get("events", ()))


def _gathered(kept: KeptRun) -> Mapping[str, Any] | None:
    """Return what a run was given that several events started together; None where it was one, whatever that says."""
    trigger = kept.run.trigger
    given: Any = trigger.get("data")
    # A run that is done again has the document of the first one.
    made = trigger.get("source") == f"/millrace/control/triggers/{kept.trigger_name}"
    again = kept.rerun_of is not None and made and isinstance(given, dict) and "key" in given
    return given if again or trigger.get("id") == str(kept.run.run_id) else None


@dataclass(frozen=True, slots=True)
class Turn:
    """Why a run that waits for its turn has to.

    Attributes:
        waiting: How many wait before it.
        under_way: The first run of its trigger that is.
        paused_by: Who has paused its trigger.
        blocked_by: The run of a strict sequence that has failed.
        next_at: When the throttle lets the next one begin.
    """

    waiting: int
    under_way: UUID | None
    paused_by: str
    blocked_by: UUID | None
    next_at: datetime | None


def explain_run(
    kept: KeptRun,
    turn: Turn | None,
    waits: Mapping[str, str] = MappingProxyType({}),
    results: Mapping[str, Slot] = MappingProxyType({}),
) -> list[str]:
    """Return what started a run, why it stands where it does, and what its tasks took from the cache, a sentence each.

    Args:
        kept: The run.
        turn: Why it has to wait for its turn, where it does.
        waits: What its tasks wait for that wait for slots, by name.
        results: What there is under the keys of results that its tasks wait for.
    """
    again = [f"{kept.principal} has run {kept.rerun_of} done again by it"] if kept.rerun_of is not None else []
    told = [*explain_results(kept.run, results), *explain_deadlines(kept.run)]
    return [_what_started(kept), *again, *_how_it_stands(kept, turn, waits), *told]


def _what_started(kept: KeptRun) -> str:
    run, given = kept.run, _gathered(kept)
    if kept.parent is not None:
        return f"task {kept.parent.task} of run {kept.parent.run_id} started it"
    if not kept.trigger_name:
        return f"{kept.principal} started it"
    if "schedule" in run.trigger:
        told = run.trigger["schedule"]
        how = f", in backfill {told['backfill']}" if told["backfill"] else ", caught up" * (told["kind"] == "catch_up")
        return f"schedule {told['name']} started it for {told['local']}{how}"
    if given is None:
        return f"trigger {kept.trigger_name} started it for event {run.trigger['id']} of {run.trigger['source']}"
    missing = ", ".join(given.get("missing", ())[:MAX_TASKS])
    how = f", without {missing}, whose time was over" if missing else ""
    return f"trigger {kept.trigger_name} started it for {len([*led_by(kept)])} events under key {given['key']!r}{how}"


def _how_it_stands(kept: KeptRun, turn: Turn | None, slots: Mapping[str, str]) -> Iterator[str]:
    run = kept.run
    if run.state is RunState.PENDING:
        yield from _why_it_waits(kept, turn)
    elif run.pause is not None:
        yield f"it is paused by {run.pause.cause}; `millrace run resume {run.run_id}` lets it go on"
        yield from _why_it_waits(kept, turn) if turn is not None else ()
    elif run.state.ended:
        yield f"it {run.state}: {run.cause}" if run.cause else f"it {run.state}"
    else:
        yield f"it is {run.state}" + (f": {run.cause}" if run.cause else "")
        open_tasks = [task for task in run.tasks.values() if task.state in TASK_OPEN]
        yield from (
            _task(task, slots.get(task.name, ""), waits_for(task, kept.plan)) for task in open_tasks[:MAX_TASKS]
        )
        if len(open_tasks) > MAX_TASKS:
            yield f"{len(open_tasks) - MAX_TASKS} more tasks are under way"


def _why_it_waits(kept: KeptRun, turn: Turn | None) -> Iterator[str]:
    if turn is None:
        yield "it has not begun: control begins it as soon as it looks"
        return
    schedule = schedule_of(kept.trigger_name)
    if turn.paused_by:
        what = f"schedule {schedule}" if schedule else f"trigger {kept.trigger_name}"
        yield f"it waits: {turn.paused_by} has paused {what}"
    if turn.blocked_by is not None:
        command = f"schedule resume {schedule}" if schedule else f"trigger unblock {kept.trigger_name}"
        how = f"`millrace {command}` lets it go on"
        yield f"it waits: run {turn.blocked_by} of the same strict sequence has failed; {how}"
    if turn.next_at is not None:
        yield f"the throttle lets the next run of the trigger begin at {turn.next_at:%Y-%m-%d %H:%M:%S} UTC"
    if turn.under_way is not None:
        yield f"run {turn.under_way} of the same trigger is under way"
    yield f"{turn.waiting} runs wait before it"


def _task(task: TaskRun, slots: str, waits: str) -> str:
    if slots:
        return f"task {task.name} {slots}"
    due = f", until {task.due_at:%Y-%m-%d %H:%M:%S} UTC at most" if task.due_at else ""
    attempt = f" (attempt {task.attempt})" if task.attempt > 1 else ""
    return f"task {task.name} {waits or f'is {task.state}{attempt}'}{due}"
