"""What a run does next: `decide(run, plan, inputs, now)`, without I/O, clock or randomness.

A task is *ready* when all its needs are settled: succeeded, skipped or failed. Then, in this order:

1. with `run_if: succeeded` (the default) it is skipped unless every need succeeded; with `settled` it goes on whatever
   became of them;
2. with a `when` that is false it is skipped;
3. work is dispatched; an `end` ends the run.

A task whose attempts are used up has failed. If no task behind it says `run_if: settled`, the run fails at once and the
open attempts are asked to stop; otherwise the run goes on so that that task can put things right, and fails when all is
settled, unless an `end` says otherwise. A run whose tasks are all settled without a failure has succeeded.

So a canary reads: `stage2` needs `judge1`, `when: outputs.judge1.verdict == 'pass'`; `rollback` needs the last judge,
`run_if: settled`, `when: status.judge5 != 'succeeded' || outputs.judge5.verdict != 'pass'`; `refuse` needs `rollback`
and is an `end`.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from millrace.core.backoff import backoff_s
from millrace.core.expression import ExpressionFailed
from millrace.core.ir import Pointer
from millrace.core.plan import Plan, Step, fill_in, value_at
from millrace.core.pointer import PointerMissing
from millrace.core.scope import document_of, variables_of
from millrace.core.state import (
    ATTEMPT_OPEN,
    TASK_OPEN,
    AttemptEnded,
    AttemptFact,
    CancelAcknowledged,
    CancelAttempt,
    CancelRequested,
    Decision,
    Dispatch,
    Effect,
    Failure,
    Input,
    Progressed,
    Refused,
    Run,
    RunEnded,
    RunStarted,
    RunState,
    Start,
    Started,
    Succeeded,
    TaskRun,
    TaskState,
    Tick,
)

CANCEL_GRACE_S = 30.0
"""How long an ending run waits for its open attempts to stop, seconds."""
MAX_INPUT_BYTES = 256 * 1024
"""The most that an attempt is given: larger values travel as artifacts."""

QUEUE_TIMEOUT, RUN_TIMEOUT, HEARTBEAT_TIMEOUT = "QueueTimeout", "RunTimeout", "HeartbeatTimeout"
INVALID_WHEN, MISSING_INPUT, LARGE_INPUT = "InvalidWhen", "MissingInput", "LargeInput"


def decide(run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]) -> Decision:
    """Return what follows from `inputs`, in their order, at `now`; its arguments stay as they are.

    Args:
        run: The run with the records of its tasks.
        plan: The compiled version of the workflow that the run was started with.
        inputs: What has happened.
        now: The time at which it counts as having happened.
        new_id: Gives ids for tasks and tokens for attempts.
    """
    step = _Deciding(run, plan, now, new_id)
    for happened in inputs:
        step.take(happened)
    return step.decision()


class _Deciding:
    """The working copy of one decision."""

    def __init__(self, run: Run, plan: Plan, now: datetime, new_id: Callable[[], UUID]) -> None:
        self.run = run.copy()
        self.plan = plan
        self.now = now
        self.new_id = new_id
        self.run_changed = False
        self.changed: dict[str, TaskRun] = {}
        self.effects: list[Effect] = []
        self.refused: list[Refused] = []

    def decision(self) -> Decision:
        return Decision(self.run, self.run_changed, tuple(self.changed), tuple(self.effects), tuple(self.refused))

    def take(self, happened: Input) -> None:
        if isinstance(happened, Start):
            reason = self._start()
        elif isinstance(happened, Tick):
            reason = self._tick()
        elif isinstance(happened, CancelRequested):
            reason = self._cancel(happened.cause)
        else:
            reason = self._fact(happened)
        if reason is not None:
            self.refused.append(Refused(happened, reason))

    # What can happen. Each returns why it changed nothing, or None.

    def _start(self) -> str | None:
        if self.run.state is not RunState.PENDING:
            return f"run {self.run.run_id} is {self.run.state}, not pending"
        self.run_changed = True
        self.run.state = RunState.RUNNING
        self.run.started_at = self.now
        self.run.due_at = self.now + timedelta(seconds=self.plan.workflow.timeout_s)
        self.effects.append(RunStarted())
        self._go_on([name for name, step in self.plan.steps.items() if not step.task.needs])
        return None

    def _tick(self) -> str | None:
        before = len(self.changed), self.run_changed
        for name in [n for n, task in self.run.tasks.items() if task.due_at is not None and task.due_at <= self.now]:
            if self.run.state is RunState.RUNNING:
                self._task_is_due(self._change(name))
        if self.run.due_at is not None and self.run.due_at <= self.now:
            if self.run.state is RunState.RUNNING:
                self._end(RunState.FAILED, f"the run took longer than its {self.plan.workflow.timeout_s:g} s")
            else:
                self._give_up_waiting()
        return "nothing is due" if before == (len(self.changed), self.run_changed) else None

    def _cancel(self, cause: str) -> str | None:
        if self.run.state is RunState.ENDING or self.run.state.ended:
            return f"run {self.run.run_id} is {self.run.state} already"
        self._end(RunState.CANCELLED, cause)
        return None

    def _fact(self, fact: AttemptFact) -> str | None:
        known = self.run.tasks.get(fact.name)
        if known is None or known.task_id != fact.task_id:
            return f"run {self.run.run_id} has no task {fact.task_id} named {fact.name!r}"
        if known.state not in ATTEMPT_OPEN or known.attempt != fact.attempt or known.token != fact.token:
            return f"task {fact.task_id} is {known.state} at attempt {known.attempt}: attempt {fact.attempt} is over"
        if isinstance(fact, Started | Progressed):
            return self._alive(known, fact)
        task = self._change(known.name)
        if isinstance(fact, Succeeded):
            task.output = fact.output
            self._settle(task, TaskState.SUCCEEDED)
        elif isinstance(fact, CancelAcknowledged):
            self._attempt_ended(task, Failure("Cancelled", "the worker stopped", lost=True))
        else:
            self._attempt_ended(task, fact.failure)
        return None

    def _alive(self, known: TaskRun, fact: Started | Progressed) -> str | None:
        if known.state is TaskState.CANCELLING:
            return f"task {fact.task_id} is being cancelled"
        if isinstance(fact, Started) and known.started_at is not None:
            return f"attempt {fact.attempt} of task {fact.task_id} has started already"
        task = self._change(known.name)
        task.state = TaskState.RUNNING
        task.started_at = task.started_at or self.now
        task.seen_at = self.now
        if isinstance(fact, Progressed) and fact.fraction is not None:
            task.fraction, task.message = fact.fraction, fact.message
        limits = self.plan.steps[task.name].task
        task.due_at = min(
            task.started_at + timedelta(seconds=limits.run_timeout_s),
            self.now + timedelta(seconds=limits.heartbeat_timeout_s),
        )
        return None

    # What follows.

    def _change(self, name: str) -> TaskRun:
        task = self.changed.get(name)
        if task is None:
            task = self.changed[name] = self.run.tasks[name] = self.run.tasks[name].copy()
        return task

    def _go_on(self, candidates: Sequence[str]) -> None:
        """Begin what is ready among `candidates` and behind it; end the run when nothing is left."""
        queue = deque(candidates)
        while queue and self.run.state is RunState.RUNNING:
            step = self.plan.steps[queue.popleft()]
            if step.name not in self.run.tasks and all(self._is_settled(need) for need in step.task.needs):
                self._begin(step)
                if self._is_settled(step.name):
                    queue.extend(step.dependents)
        if self.run.state is RunState.RUNNING and len(self.run.tasks) == len(self.plan.steps):
            self._end_when_settled()

    def _is_settled(self, name: str) -> bool:
        task = self.run.tasks.get(name)
        return task is not None and task.state not in TASK_OPEN

    def _begin(self, step: Step) -> None:
        """Dispatch, skip or end: what becomes of a task whose needs are settled."""
        task = TaskRun(step.name, self.new_id(), TaskState.SKIPPED, ended_at=self.now)
        self.changed[step.name] = self.run.tasks[step.name] = task
        needs = [self.run.tasks[need].state for need in step.task.needs]
        if step.task.run_if == "succeeded" and any(state is not TaskState.SUCCEEDED for state in needs):
            return
        try:
            if step.condition is not None and not step.condition.holds(variables_of(self.run, step)):
                return
        except ExpressionFailed as error:
            self._fail(task, Failure(INVALID_WHEN, str(error), retryable=False))
            return
        task.ended_at = None
        if step.task.end is None:
            self._dispatch(task)
            return
        try:
            reason = step.task.end.reason
            cause = str(value_at(reason, document_of(self.run, self.plan))) if isinstance(reason, Pointer) else reason
        except PointerMissing as error:
            cause = f"(no reason: {error})"
        task.state, task.ended_at = TaskState.SUCCEEDED, self.now
        self._end(RunState(step.task.end.state), cause)

    def _dispatch(self, task: TaskRun) -> None:
        step = self.plan.steps[task.name]
        try:
            given = fill_in(step.task.input, document_of(self.run, self.plan)) if step.has_pointers else step.task.input
        except PointerMissing as error:
            self._fail(task, Failure(MISSING_INPUT, str(error), retryable=False))
            return
        if step.has_pointers and (size := len(json.dumps(given))) > MAX_INPUT_BYTES:
            told = f"its input has {size} bytes, more than {MAX_INPUT_BYTES}: hand on references"
            self._fail(task, Failure(LARGE_INPUT, told, retryable=False))
            return
        task.state = TaskState.DISPATCHED
        task.attempt += 1
        task.token = self.new_id()
        task.dispatched_at = self.now
        task.started_at = task.seen_at = task.failure = None
        task.fraction, task.message = 0.0, ""
        task.due_at = self.now + timedelta(seconds=step.task.queue_timeout_s)
        self.effects.append(Dispatch(task.name, task.task_id, task.attempt, task.token, given))

    def _task_is_due(self, task: TaskRun) -> None:
        limits = self.plan.steps[task.name].task
        if task.state is TaskState.RETRY_WAIT:
            self._dispatch(task)
            if self._is_settled(task.name):
                self._go_on(self.plan.steps[task.name].dependents)
            return
        if task.started_at is None:
            failure = Failure(QUEUE_TIMEOUT, f"not started within {limits.queue_timeout_s:g} s", lost=True)
        elif task.started_at + timedelta(seconds=limits.run_timeout_s) <= self.now:
            failure = Failure(RUN_TIMEOUT, f"not finished within {limits.run_timeout_s:g} s")
        else:
            failure = Failure(HEARTBEAT_TIMEOUT, f"not heard of for {limits.heartbeat_timeout_s:g} s", lost=True)
        self._ask_to_stop(task, str(failure))
        self._attempt_ended(task, failure)

    def _attempt_ended(self, task: TaskRun, failure: Failure) -> None:
        """Retry the task if its budgets allow, else fail it."""
        self.effects.append(AttemptEnded(replace(task, ended_at=self.now), failure))
        task.failure = failure
        if self.run.state is not RunState.RUNNING:
            self._settle(task, TaskState.CANCELLED)
            return
        retries = self.plan.steps[task.name].task.retries
        if failure.lost:
            task.losses += 1
            again, used = task.losses <= retries.lost, task.losses
        else:
            task.failures += 1
            again, used = failure.retryable and task.failures < retries.max_attempts, task.failures
        if not again:
            self._fail(task, failure)
            self._go_on(self.plan.steps[task.name].dependents)
            return
        task.state, task.token = TaskState.RETRY_WAIT, None
        task.due_at = self.now + timedelta(seconds=backoff_s(retries, used, task.task_id, task.attempt))

    def _fail(self, task: TaskRun, failure: Failure) -> None:
        task.failure = failure
        task.state, task.token, task.due_at, task.ended_at = TaskState.FAILED, None, None, self.now
        if not self.plan.steps[task.name].recovered:
            self._end(RunState.FAILED, f"task {task.name} failed: {failure}")

    def _settle(self, task: TaskRun, state: TaskState) -> None:
        task.state, task.token, task.due_at, task.ended_at = state, None, None, self.now
        if self.run.state is RunState.ENDING:
            self._finish_if_stopped()
        else:
            self._go_on(self.plan.steps[task.name].dependents)

    # How it ends.

    def _end_when_settled(self) -> None:
        if any(task.state in TASK_OPEN for task in self.run.tasks.values()):
            return
        failed = [task for task in self.run.tasks.values() if task.state is TaskState.FAILED]
        if failed:
            self._end(RunState.FAILED, f"task {failed[0].name} failed: {failed[0].failure}")
        else:
            self._end(RunState.SUCCEEDED, "")

    def _end(self, outcome: RunState, cause: str) -> None:
        self.run_changed = True
        self.run.state, self.run.outcome, self.run.cause = RunState.ENDING, outcome, cause
        self.run.due_at = self.now + timedelta(seconds=CANCEL_GRACE_S)
        for name in [n for n, task in self.run.tasks.items() if task.state in TASK_OPEN]:
            task = self._change(name)
            if task.state is TaskState.RETRY_WAIT:
                task.state, task.due_at, task.ended_at = TaskState.CANCELLED, None, self.now
                continue
            self._ask_to_stop(task, f"the run ends: {cause}" if cause else "the run ends")
            task.state, task.due_at = TaskState.CANCELLING, self.run.due_at
        self._finish_if_stopped()

    def _ask_to_stop(self, task: TaskRun, reason: str) -> None:
        if task.token is not None:
            self.effects.append(CancelAttempt(task.name, task.task_id, task.attempt, task.token, reason))

    def _give_up_waiting(self) -> None:
        for name in [n for n, task in self.run.tasks.items() if task.state in TASK_OPEN]:
            task = self._change(name)
            failure = Failure("Cancelled", f"did not stop within {CANCEL_GRACE_S:g} s", lost=True)
            self.effects.append(AttemptEnded(replace(task, ended_at=self.now), failure))
            task.failure, task.token = failure, None
            task.state, task.due_at, task.ended_at = TaskState.CANCELLED, None, self.now
        self._finish_if_stopped()

    def _finish_if_stopped(self) -> None:
        if self.run.outcome is None or any(task.state in TASK_OPEN for task in self.run.tasks.values()):
            return
        self.run_changed = True
        self.run.state, self.run.due_at, self.run.ended_at = self.run.outcome, None, self.now
        self.effects.append(RunEnded(self.run.outcome, self.run.cause))
