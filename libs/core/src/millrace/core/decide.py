"""What a run does next: `decide(run, plan, inputs, now)`, without I/O, clock or randomness.

A task is *ready* when all its needs are settled: succeeded, skipped or failed. Then, in this order:

1. with `run_if: succeeded` (the default) it is skipped unless every need succeeded; with `settled` it goes on whatever
   became of them;
2. with a `when` that is false it is skipped;
3. work is dispatched (`attempts`), once it has the slots that it takes, if any (`slots`); an `end` ends the run; a
   `gate` lets it go on or ends it; a `wait` or an `approve` waits (`waits`); a `subflow` starts another run
   (`children`); a task with bodies opens them (`blocks`).

A task whose attempts are used up has failed. If no task behind it says `run_if: settled`, what it is in, a body or the
run, fails at once and its open attempts are asked to stop; otherwise it goes on so that that task can put things right,
and fails when all is settled, unless an `end` says otherwise. A body or run whose tasks are all settled without a
failure has succeeded.

So a canary reads: `stage2` needs `judge1`, `when: outputs.judge1.verdict == 'pass'`; `rollback` needs the last judge,
`run_if: settled`, `when: status.judge5 != 'succeeded' || outputs.judge5.verdict != 'pass'`; `refuse` needs `rollback`
and is an `end`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from millrace.core import aftercare, attempts, blocks, by_hand, chains, children, deadlines, items, pausing, waits
from millrace.core.draft import MAX_CAUSE_CHARS, MAX_OUTPUT_BYTES, Draft
from millrace.core.expression import Condition, ExpressionFailed
from millrace.core.parts import Pointer
from millrace.core.paths import ROOT, inside, parent
from millrace.core.plan import Plan, Step, fill_in, value_at
from millrace.core.pointer import PointerMissing
from millrace.core.state import (
    TASK_OPEN,
    Admitted,
    AttemptFact,
    CacheAnswered,
    CancelRequested,
    ChildEnded,
    Collected,
    Decision,
    EventCame,
    Input,
    PauseRequested,
    ResultSet,
    ResumeRequested,
    Run,
    RunStarted,
    RunState,
    Signalled,
    Start,
    TaskRun,
    TaskState,
    Tick,
    Voted,
)
from millrace.core.values import document_of, variables_of


def decide(run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]) -> Decision:
    """Return what follows from `inputs`, in their order, at `now`; its arguments stay as they are.

    Args:
        run: The run with the records of its tasks.
        plan: The compiled version of the workflow that the run was started with.
        inputs: What has happened.
        now: The time at which it counts as having happened.
        new_id: Gives ids for tasks and tokens for attempts.
    """
    draft = Draft(run, plan, now, new_id)
    for happened in inputs:
        reason = _take(draft, happened)
        _follow(draft)
        if reason is not None:
            early = isinstance(happened, AttemptFact) and chains.is_ahead(draft.run, draft.plan, happened)
            draft.refuse(happened, reason, early=early)
    return draft.decision()


# What can happen. Each returns why it changed nothing, or None.


def _take(draft: Draft, happened: Input) -> str | None:
    return _TAKES.get(type(happened), attempts.take_fact)(draft, happened)


def _start(draft: Draft, _: Start) -> str | None:
    run, limit_s = draft.run, draft.plan.workflow.timeout_s
    if run.state is RunState.PAUSED and run.pause is not None and run.started_at is None:
        run.pause = replace(run.pause, left_s=limit_s)  # its turn has come: it begins when it is resumed
    elif run.state is RunState.PENDING:
        run.state, run.due_at = RunState.RUNNING, draft.after(limit_s)
    else:
        return f"run {run.run_id} is {run.state}, not pending"
    draft.run_changed = True
    run.started_at = draft.now
    draft.effects.append(RunStarted())
    deadlines.begin_run(draft)
    block = draft.plan.block(ROOT)
    draft.todo.append((ROOT, block.names if run.tasks else block.first))
    for name in [name for name, task in run.tasks.items() if task.state is TaskState.OPEN]:
        task = draft.change(name)  # some of its items are done already
        task.began_at = draft.now
        task.due_at = draft.deadline(task)
        draft.todo.append((name, ()))
        deadlines.begin(draft, task)
    return None


def _tick(draft: Draft, _: Tick) -> str | None:
    run = draft.run
    before = len(draft.changed), draft.run_changed
    for name in [n for n, t in run.tasks.items() if t.deadline_at is not None and t.deadline_at <= draft.now]:
        if name in run.tasks:
            deadlines.tick(draft, draft.change(name))
            _follow(draft)
    deadlines.tick_run(draft)
    for name in [n for n, task in run.tasks.items() if task.due_at is not None and task.due_at <= draft.now]:
        task = run.tasks.get(name)
        if task is not None and task.due_at is not None and task.due_at <= draft.now:
            _is_due(draft, draft.change(name))
            _follow(draft)
    if run.due_at is not None and run.due_at <= draft.now:
        if run.state is RunState.RUNNING:
            draft.end(RunState.FAILED, f"the run took longer than its {draft.plan.workflow.timeout_s:g} s")
        elif run.state is RunState.PAUSED:
            pausing.expire(draft)
        else:
            _stop_at_once(draft, "the run ends")
    return "nothing is due" if before == (len(draft.changed), draft.run_changed) and not draft.todo else None


def _cancel(draft: Draft, asked: CancelRequested) -> str | None:
    run = draft.run
    if run.state.ended or (run.state is RunState.ENDING and not asked.force):
        return f"run {run.run_id} is {run.state} already"
    if run.state is RunState.PAUSED:
        pausing.go_on(draft)
    if run.state is RunState.ENDING:
        draft.add_cause(f"; {asked.cause}")
    else:
        draft.end(RunState.CANCELLED, asked.cause, asked.grace_s)
    if asked.force:
        _stop_at_once(draft, asked.cause)
    return None


def _stop_at_once(draft: Draft, reason: str) -> None:
    draft.stop_inside(ROOT, reason, at_once=True)
    draft.todo.append((ROOT, ()))


def _is_due(draft: Draft, task: TaskRun) -> None:
    spec = draft.plan.step(task.name).task
    if spec.kind is not None and task.state not in {TaskState.OPEN, TaskState.CLOSING}:
        attempts.is_due(draft, task)
    elif spec.wait is not None or spec.approve is not None:
        waits.is_due(draft, task)
    elif spec.subflow is not None:
        children.is_due(draft, task)
    else:
        blocks.is_due(draft, task)


_TAKES: Mapping[type[Input], Callable[[Draft, Any], str | None]] = {
    Start: _start,
    Tick: _tick,
    CancelRequested: _cancel,
    PauseRequested: pausing.pause,
    ResumeRequested: pausing.resume,
    ResultSet: by_hand.set_result,
    Signalled: waits.told,
    Voted: waits.told,
    EventCame: waits.came,
    Admitted: attempts.admitted,
    Collected: items.collected,
    ChildEnded: children.ended,
    CacheAnswered: attempts.take_answer,
}


# What follows.


def _follow(draft: Draft) -> None:
    """Look at all that may go on or be over now; of a paused run, nothing."""
    if draft.run.state is RunState.PAUSED:
        draft.todo.clear()
    while draft.todo:
        path, candidates = draft.todo.popleft()
        if draft.plan.is_scope(path):
            for name in candidates:
                if draft.state_of(path) is TaskState.OPEN:
                    _begin_if_ready(draft, path, name)
            _conclude_if_over(draft, path)
        elif path in draft.run.tasks:
            blocks.look(draft, draft.run.tasks[path])


def _begin_if_ready(draft: Draft, scope: str, name: str) -> None:
    path = inside(scope, name)
    step = draft.plan.step(path)
    if path not in draft.run.tasks and all(draft.is_settled(inside(scope, need)) for need in step.task.needs):
        _begin(draft, path, step)


def _begin(draft: Draft, path: str, step: Step) -> None:
    """Begin a task whose needs are settled, or skip it."""
    scope, task = parent(path), draft.add(path, TaskState.OPEN, chains.new_id(draft, path, step))
    needs = [draft.run.tasks[inside(scope, need)].state for need in step.task.needs]
    if step.task.run_if == "succeeded" and any(state is not TaskState.SUCCEEDED for state in needs):
        draft.settle(task, TaskState.SKIPPED)
        return
    try:
        if step.condition is not None and not _holds(draft, scope, step.condition):
            draft.settle(task, TaskState.SKIPPED)
            return
        deadlines.begin(draft, task)
        if task.state is TaskState.OPEN:
            _do(draft, task, step)
    except ExpressionFailed as error:
        draft.fail(task, blocks.not_evaluated(error))


def _do(draft: Draft, task: TaskRun, step: Step) -> None:
    spec = step.task
    if spec.kind is not None:
        attempts.begin(draft, task)
    elif spec.end is not None:
        draft.settle(task, TaskState.SUCCEEDED)
        draft.end(RunState(spec.end.state), _reason(draft, task, spec.end.reason))
    elif spec.gate is not None:
        passed = all(_holds(draft, parent(task.name), condition) for condition in step.conditions if condition)
        draft.settle(task, TaskState.SUCCEEDED)
        if not passed:
            draft.end(RunState(spec.gate.otherwise), _reason(draft, task, spec.gate.reason) or f"gate {task.name}")
    elif spec.wait is not None or spec.approve is not None:
        waits.begin(draft, task)
    elif spec.subflow is not None:
        children.begin(draft, task, spec.subflow)
    else:
        blocks.begin(draft, task)


def _holds(draft: Draft, scope: str, condition: Condition) -> bool:
    return condition.holds(variables_of(draft.run, draft.plan, scope, condition))


def _reason(draft: Draft, task: TaskRun, reason: str | Pointer) -> str:
    try:
        document = document_of(draft.run, draft.plan, parent(task.name))
        return str(value_at(reason, document)) if isinstance(reason, Pointer) else reason
    except PointerMissing as error:
        return f"(no reason: {error})"


def _conclude_if_over(draft: Draft, scope: str) -> None:
    """End a scope of which nothing is open any more, or the run."""
    state, block = draft.state_of(scope), draft.plan.block(scope)
    if state is None:
        return
    if draft.plan.cleans_up and state is TaskState.OPEN:
        aftercare.tear_down(draft, scope)
    tasks = [draft.run.tasks.get(inside(scope, name)) for name in block.names]
    if any(task is not None and task.state in TASK_OPEN for task in tasks) or aftercare.goes_on(draft, scope):
        return
    if state is TaskState.OPEN:
        if None in tasks:
            return
        failed = next((task for task in tasks if task is not None and task.state is TaskState.FAILED), None)
        if failed is not None:
            draft.close(scope, TaskState.FAILED, failed)
            return
    elif draft.plan.cleans_up and not draft.gave_up and aftercare.puts_in_order(draft, scope):
        return
    if scope == ROOT:
        _end(draft)
    elif state is TaskState.OPEN:
        blocks.conclude(draft, scope, TaskState.SUCCEEDED, None)
    else:
        record = draft.run.tasks[scope]
        blocks.conclude(draft, scope, record.outcome or TaskState.CANCELLED, record.failure)


def _end(draft: Draft) -> None:
    """End the run, nothing of which is open any more."""
    run, output = draft.run, draft.plan.block(ROOT).output
    if run.state is RunState.RUNNING:
        draft.end(RunState.SUCCEEDED, "")
    if run.outcome is RunState.SUCCEEDED and output is not None:
        told = ""
        try:
            run.output = fill_in(output, document_of(run, draft.plan, ROOT))
        except PointerMissing as error:
            told = str(error)
        if (size := len(json.dumps(run.output))) > MAX_OUTPUT_BYTES:
            told = f"it has {size} bytes, more than {MAX_OUTPUT_BYTES}: hand on references"
        if told:
            run.output, run.outcome = None, RunState.FAILED
            run.cause = f"the workflow's output: {told}"[:MAX_CAUSE_CHARS]
    draft.ended()
