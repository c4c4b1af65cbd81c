"""A decision in the making: the run as it will be, what follows, and what is still to be looked at."""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from millrace.core.cache_key import told_of
from millrace.core.ir import Workflow
from millrace.core.paths import ROOT, is_within, parent, scopes_around
from millrace.core.plan import Plan
from millrace.core.state import (
    CACHE,
    CANCEL_GRACE_S,
    TASK_OPEN,
    TICKET,
    AttemptEnded,
    CancelAttempt,
    CancelRequested,
    Decision,
    Effect,
    Failure,
    FreeSlots,
    Input,
    Refused,
    Run,
    RunEnded,
    RunState,
    TaskRun,
    TaskState,
    TellChild,
)

CLEANUP_S = 3_600.0
"""How long a run that ends may go on putting things in order, where its workflow says how, seconds."""
OPENED_AT_ONCE = 100
"""The most scopes that one decision opens; a tick goes on where it ended."""

MAX_CAUSE_CHARS = 2_000
"""The most that is said of why a run ends as it does."""
MAX_OUTPUT_BYTES = 1024 * 1024
"""The most that a task with bodies hands on: larger values travel as artifacts."""

#: Where a task that waits for a run has that run's id.
CHILD = "run_id"
LARGE_OUTPUT = "LargeOutput"
_OF_RUN = {
    RunState.RUNNING: TaskState.OPEN,
    RunState.PAUSED: TaskState.OPEN,
    RunState.ENDING: TaskState.CLOSING,
}


class Draft:
    """The working copy of one decision.

    Attributes:
        todo: Scopes and tasks with bodies to look at again, with tasks in them that may now begin.
        opened: How many scopes it has opened.
        gave_up: Whether nothing is put in order any more: the run has had its time for that.
        planned: The workflow with what was planned, once something was.
    """

    def __init__(self, run: Run, plan: Plan, now: datetime, new_id: Callable[[], UUID]) -> None:
        self.run = run.copy()
        self.plan = plan
        self.now = now
        self.new_id = new_id
        self.run_changed = False
        self.changed: dict[str, TaskRun] = {}
        self.retired: list[str] = []
        self.effects: list[Effect] = []
        self.refused: list[Refused] = []
        self.todo: deque[tuple[str, Sequence[str]]] = deque()
        self.opened = 0
        self.gave_up = False
        self.planned: Workflow | None = None

    def decision(self) -> Decision:
        """Return what was decided."""
        effects, refused = tuple(self.effects), tuple(self.refused)
        retired = tuple(self.retired)
        return Decision(self.run, self.run_changed, self.changed, retired, effects, refused, self.planned)

    def refuse(self, happened: Input, reason: str, *, early: bool) -> None:
        """Note that an input has changed nothing, why, and whether it would later."""
        self.refused.append(Refused(happened, reason, early))

    # Records.

    def change(self, name: str) -> TaskRun:
        """Return a record that may be written to."""
        task = self.changed.get(name)
        if task is None:
            task = self.changed[name] = self.run.tasks[name] = self.run.tasks[name].copy()
        return task

    def add(self, name: str, state: TaskState, task_id: UUID | None = None) -> TaskRun:
        """Return a new record, which begins now."""
        task = TaskRun(name, task_id or self.new_id(), state, began_at=self.now)
        self.changed[name] = self.run.tasks[name] = task
        return task

    def is_settled(self, name: str) -> bool:
        """Return whether a task has come to its end."""
        task = self.run.tasks.get(name)
        return task is not None and task.state not in TASK_OPEN

    def state_of(self, scope: str) -> TaskState | None:
        """Return whether a scope is open or closing; None once it is over."""
        if scope == ROOT:
            return _OF_RUN.get(self.run.state)
        state = self.run.tasks[scope].state if scope in self.run.tasks else None
        return state if state in TASK_OPEN else None

    def holds_back(self, task: TaskRun) -> bool:
        """Put off what of a task would begin now until its run is resumed; return whether that is paused."""
        if self.run.state is not RunState.PAUSED:
            return False
        task.due_at = self.run.due_at
        return True

    def after(self, seconds: float) -> datetime:
        """Return the moment so many seconds from now."""
        return self.now + timedelta(seconds=seconds)

    def deadline(self, task: TaskRun) -> datetime | None:
        """Return when a task's time in all is up; None where it has no such limit."""
        limit_s = self.plan.step(task.name).task.timeout_s
        return task.began_at + timedelta(seconds=limit_s) if limit_s is not None and task.began_at is not None else None

    def sooner(self, task: TaskRun, due_at: datetime) -> datetime:
        """Return when a task is due at a moment, or when its time in all is up."""
        deadline = self.deadline(task)
        return due_at if deadline is None else min(due_at, deadline)

    # What becomes of tasks and scopes.

    def settle(self, task: TaskRun, state: TaskState) -> None:
        """Have a task come to its end; what needs it may now begin."""
        self._over(task, state)
        self.todo.append((parent(task.name), self.plan.step(task.name).dependents))

    def succeed(self, task: TaskRun, output: Any) -> None:  # noqa: ANN401 - a JSON value
        """Have a task with bodies succeed with an output, or fail because that is too large to be kept."""
        task.outcome = None
        if output is not None and (size := len(json.dumps(output))) > MAX_OUTPUT_BYTES:
            told = f"its output has {size} bytes, more than {MAX_OUTPUT_BYTES}: hand on references"
            self.fail(task, Failure(LARGE_OUTPUT, told, retryable=False))
            return
        task.output = output
        self.settle(task, TaskState.SUCCEEDED)

    def fail(self, task: TaskRun, failure: Failure) -> None:
        """Have a task fail, and what it is in with it, unless a task behind it can put that right."""
        task.failure = failure
        self.settle(task, TaskState.FAILED)
        if not self.plan.step(task.name).recovered:
            self.close(parent(task.name), TaskState.FAILED, task)

    def open(self, scope: str, inner: Mapping[str, Any] | None = None) -> None:
        """Begin a body of a task."""
        self.opened += 1
        self.add(scope, TaskState.OPEN).inner = inner
        self.todo.append((scope, self.plan.block(scope).first))

    def close(self, scope: str, outcome: TaskState, because: TaskRun | None = None) -> None:
        """Decide how a scope ends, and stop what goes on in it; one that is closing already goes on as it is.

        Args:
            scope: Which.
            outcome: Succeeded, failed or cancelled.
            because: The task whose failure is the reason.
        """
        if self.state_of(scope) is not TaskState.OPEN:
            return
        failure = because.failure_upwards() if because is not None else None
        if scope == ROOT:
            self.end(RunState(outcome), f"task {because.name} failed: {because.failure}" if because else "")
            return
        record = self.change(scope)
        record.state, record.outcome, record.failure = TaskState.CLOSING, outcome, failure
        self.stop_inside(scope, f"{scope} ends: {failure}" if failure else f"{scope} ends")
        self.todo.append((scope, ()))

    def close_task(self, task: TaskRun, outcome: TaskState, failure: Failure | None = None) -> None:
        """Decide how a task with bodies ends, and stop what goes on in it."""
        task.state, task.outcome, task.failure = TaskState.CLOSING, outcome, failure
        task.due_at = None
        self.stop_inside(task.name, f"{task.name} ends: {failure}" if failure else f"{task.name} ends")
        self.todo.append((task.name, ()))

    def end(self, outcome: RunState, cause: str, grace_s: float = CANCEL_GRACE_S) -> None:
        """Decide how the run ends, and stop what goes on in it; a paused one waits with that until it is resumed."""
        if self.run.outcome is not None:
            return
        self.run_changed = True
        self.run.outcome, self.run.cause = outcome, cause[:MAX_CAUSE_CHARS]
        if self.run.state is not RunState.PAUSED:
            self.wind_up(grace_s)

    def wind_up(self, grace_s: float = CANCEL_GRACE_S) -> None:
        """Stop what goes on in the run, whose outcome is decided."""
        cause = self.run.cause
        self.run.state = RunState.ENDING
        self.run.due_at = self.after(CLEANUP_S if self.plan.may_last else grace_s)
        self.stop_inside(ROOT, f"the run ends: {cause}" if cause else "the run ends", grace_s=grace_s)
        self.todo.append((ROOT, ()))

    def add_cause(self, more: str) -> None:
        """Say more of why the run ends as it does, as far as there is room."""
        self.run_changed = True
        self.run.cause = (self.run.cause + more)[:MAX_CAUSE_CHARS]

    def ended(self) -> None:
        """Have the run be over."""
        outcome = self.run.outcome or RunState.SUCCEEDED
        self.run_changed = True
        self.run.state, self.run.outcome, self.run.ended_at = outcome, outcome, self.now
        self.run.due_at = self.run.deadline_at = None
        self.effects.append(RunEnded(outcome, self.run.cause))

    def stop_inside(self, path: str, reason: str, grace_s: float = CANCEL_GRACE_S, *, at_once: bool = False) -> None:
        """Stop all that is open in a scope or a task, but for what puts things in order.

        Args:
            path: The scope or the task.
            reason: What its workers are told.
            grace_s: How long they are waited for.
            at_once: Wait for nobody, and put nothing in order any more.
        """
        self.gave_up |= at_once
        for name in [n for n, task in self.run.tasks.items() if task.state in TASK_OPEN and is_within(n, path)]:
            if at_once:
                self._stop_at_once(self.change(name), reason)
            elif not self._cleans_up(name, path):
                self.stop(self.change(name), reason, grace_s)

    def ask_to_stop(self, task: TaskRun, reason: str) -> None:
        """Tell the worker of an open attempt to stop."""
        if task.token is not None:
            self.effects.append(CancelAttempt(task.name, task.task_id, task.attempt, task.token, reason))

    def dispatched(self, task: TaskRun, token: UUID) -> None:
        """Have a task's next attempt be with a worker, or with its queue."""
        task.state = TaskState.DISPATCHED
        task.attempt += 1
        task.token = token
        task.dispatched_at = self.now
        task.started_at = task.seen_at = task.failure = None
        task.fraction, task.message = 0.0, ""
        task.due_at = self.sooner(task, self.after(self.plan.step(task.name).task.longest_start_s))

    def free(self, task: TaskRun) -> None:
        """Have a task give back the slots that it holds, or its place in the line for them, if it has any."""
        ticket = (task.inner or {}).get(TICKET)
        if ticket is not None:
            task.inner = {key: value for key, value in (task.inner or {}).items() if key != TICKET} or None
            self.effects.append(FreeSlots(UUID(ticket), self.plan.step(task.name).task.pool or ""))

    def give_up(self, task: TaskRun) -> None:
        """Wait no more for what has been asked to stop."""
        if task.token is not None:
            task.failure = Failure("Cancelled", "was waited for no more", lost=True)
            self.effects.append(AttemptEnded(replace(task, ended_at=self.now), task.failure))
        self._cancelled(task)

    def stop_child(self, task: TaskRun, reason: str, grace_s: float = CANCEL_GRACE_S, *, force: bool = False) -> bool:
        """Ask the run that a task waits for to stop, unless there is none or it goes on by itself; return whether."""
        subflow = None if self.plan.is_scope(task.name) else self.plan.step(task.name).task.subflow
        if subflow is None or subflow.on_stop == "abandon":
            return False
        wish = CancelRequested(reason, grace_s=grace_s, force=force)
        self.effects.append(TellChild(UUID((task.inner or {})[CHILD]), wish))
        return True

    def retire(self, path: str) -> None:
        """Let go of a scope that is over, and of all that was in it: nothing looks at it any more."""
        gone = [name for name in self.run.tasks if name == path or is_within(name, path)]
        for name in gone:
            del self.run.tasks[name]
        self.retired += gone

    def _stop_at_once(self, task: TaskRun, reason: str) -> None:
        if task.state in {TaskState.DISPATCHED, TaskState.RUNNING}:
            self.ask_to_stop(task, reason)
        elif task.state in {TaskState.WAITING, TaskState.CLOSING}:
            self.stop_child(task, reason, force=True)
        self.give_up(task)

    def stop(self, task: TaskRun, reason: str, grace_s: float = CANCEL_GRACE_S) -> None:
        """Stop a task; whoever works on it is waited for so long."""
        match task.state:
            case TaskState.DISPATCHED | TaskState.RUNNING:
                self.ask_to_stop(task, reason)
                task.state, task.due_at = TaskState.CANCELLING, self.after(grace_s)
            case TaskState.RETRY_WAIT | TaskState.WAITING | TaskState.QUEUED:
                if self.stop_child(task, reason, grace_s):
                    task.state, task.outcome = TaskState.CLOSING, TaskState.CANCELLED
                    task.due_at = self.after(CLEANUP_S)
                else:
                    self._cancelled(task)
            case TaskState.OPEN:
                task.state, task.outcome, task.due_at = TaskState.CLOSING, TaskState.CANCELLED, None
                self.todo.append((task.name, ()))

    def _cancelled(self, task: TaskRun) -> None:
        self._over(task, TaskState.CANCELLED)
        self.todo.append((parent(task.name), ()))

    def _over(self, task: TaskRun, state: TaskState) -> None:
        self.free(task)
        task.state, task.token, task.due_at, task.deadline_at, task.ended_at = state, None, None, None, self.now
        if task.inner is not None and CACHE in task.inner:
            told = told_of(task, self.plan.step(task.name).task)
            self.effects += [told] if told is not None else []

    def _cleans_up(self, name: str, path: str) -> bool:
        """Whether a task or scope lies in a body within `path` that is done whatever happens."""
        scope = name if self.plan.is_scope(name) else parent(name)
        return any(
            self.plan.block(around).cleans_up for around in scopes_around(scope) if is_within(around, path) and around
        )
