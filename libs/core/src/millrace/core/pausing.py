"""Runs in which nothing begins for a while.

While a run is paused, what has begun goes on: facts about its open attempts are taken, their limits hold, waits and
approvals come to their ends, signals and votes count. What would follow from that is looked at when it is resumed:
nothing is dispatched, opened, started or put in order before, and what waits for slots gives up its place. A run
whose end was decided meanwhile ends then. Its own time limit stands still; those of its tasks do not, for what they
limit goes on.
"""

from uuid import UUID

from millrace.core import chains, slots
from millrace.core.draft import CHILD, Draft
from millrace.core.parts import MAX_WAIT_S
from millrace.core.paths import ROOT
from millrace.core.state import (
    TASK_OPEN,
    Pause,
    PauseRequested,
    ResumeRequested,
    RunPaused,
    RunResumed,
    RunState,
    TaskState,
    TellChild,
)

MAX_PAUSE_S = MAX_WAIT_S
"""How long a run may be paused before it is given up, seconds."""


def pause(draft: Draft, asked: PauseRequested) -> str | None:
    """Have nothing in the run begin for now; return why that cannot be, or None."""
    run = draft.run
    if run.state not in {RunState.PENDING, RunState.RUNNING}:
        return f"run {run.run_id} is {run.state}{' already' if run.state is RunState.PAUSED else ''}"
    left_s = (run.due_at - draft.now).total_seconds() if run.due_at is not None else None
    run.pause = Pause(draft.now, asked.cause, left_s)
    run.state, run.due_at = RunState.PAUSED, draft.after(MAX_PAUSE_S)
    draft.run_changed = True
    draft.effects.append(RunPaused(asked.cause))
    for name in _queued(draft):
        draft.free(draft.change(name))
    for task in run.tasks.values():
        chains.cut(draft, task)
    _tell_children(draft, asked)
    return None


def resume(draft: Draft, asked: ResumeRequested) -> str | None:
    """Have a paused run go on; return why that cannot be, or None."""
    run = draft.run
    if run.state is not RunState.PAUSED or run.pause is None:
        return f"run {run.run_id} is {run.state}, not paused"
    draft.effects.append(RunResumed(asked.cause, (draft.now - run.pause.at).total_seconds()))
    _tell_children(draft, asked)
    go_on(draft)
    return None


def go_on(draft: Draft) -> None:
    """Look at all that was held back of a paused run."""
    run, held_until = draft.run, draft.run.due_at
    left_s = run.pause.left_s if run.pause is not None else None
    draft.run_changed = True
    run.pause, run.due_at = None, draft.after(left_s) if left_s is not None else None
    if left_s is None:
        run.state = RunState.PENDING
        return
    run.state = RunState.RUNNING
    for name in [name for name, task in run.tasks.items() if task.due_at is not None and task.due_at == held_until]:
        draft.change(name).due_at = draft.now
    if run.outcome is not None:
        draft.wind_up()
    for name in _queued(draft):
        slots.ask(draft, draft.change(name))
    _look_at_everything(draft)


def expire(draft: Draft) -> None:
    """Give up a run that nobody has resumed."""
    go_on(draft)
    draft.end(RunState.FAILED, f"paused for {MAX_PAUSE_S / 86_400:g} days, and nobody has resumed it")


def _queued(draft: Draft) -> list[str]:
    return [name for name, task in draft.run.tasks.items() if task.state is TaskState.QUEUED]


def _look_at_everything(draft: Draft) -> None:
    """Have every open scope, list, and task with bodies that is closing be looked at, inner ones first."""
    paths = [name for name, task in draft.run.tasks.items() if task.state in TASK_OPEN]
    for path in sorted(paths, key=len, reverse=True):
        if draft.plan.is_scope(path):
            draft.todo.append((path, draft.plan.block(path).names))
        elif draft.run.tasks[path].state is TaskState.CLOSING or draft.plan.step(path).task.foreach is not None:
            draft.todo.append((path, ()))
    draft.todo.append((ROOT, draft.plan.block(ROOT).names))


def _tell_children(draft: Draft, told: PauseRequested | ResumeRequested) -> None:
    for task in draft.run.tasks.values():
        if task.state is TaskState.WAITING and CHILD in (task.inner or {}):
            draft.effects.append(TellChild(UUID((task.inner or {})[CHILD]), told))
