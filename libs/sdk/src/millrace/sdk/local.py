"""Runs a workflow in this process: the same decisions, Python functions as workers, a clock that jumps."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from millrace.core.decide import decide
from millrace.core.ir import Workflow
from millrace.core.items import outputs_of
from millrace.core.parts import canonical_json
from millrace.core.plan import Plan, compile_plan
from millrace.core.state import (
    ChildEnded,
    Collect,
    Collected,
    Dispatch,
    Failed,
    Failure,
    Input,
    Run,
    RunState,
    Start,
    StartChild,
    Succeeded,
    TaskRun,
    Tick,
)
from millrace.runtime.errors import InvalidInput

START = datetime(2026, 1, 1, tzinfo=UTC)
TRIGGER = {"id": "local", "source": "/local", "type": "", "subject": "", "time": ""}
MAX_DECISIONS = 100_000


@dataclass
class LocalRun:
    """A run that has ended.

    Attributes:
        state: `succeeded`, `refused` or `failed`.
        cause: Why, where it did not simply succeed.
        output: What its workflow's `output` came to.
        tasks: Its tasks, those in bodies by their paths, such as `each[2013-01].fit`.
        calls: Every attempt in order: the task's name and the input it was given.
        elapsed_s: How long it took on its virtual clock: waits for retries, not work.
    """

    state: str
    cause: str
    output: Any
    tasks: dict[str, TaskRun]
    elapsed_s: float
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def output_of(self, name: str) -> Any:  # noqa: ANN401 - a JSON value
        """Return what a task handed on.

        Raises:
            KeyError: It did not run.
        """
        return self.tasks[name].output


def run_locally(
    workflow: Workflow,
    bodies: Mapping[str, Callable[..., dict[str, Any]]],
    trigger: Mapping[str, Any],
    now: datetime | None = None,
    others: Mapping[str, Workflow] | None = None,
) -> LocalRun:
    """Run `workflow` to its end and return what happened.

    Args:
        workflow: What to run.
        bodies: What does each kind of task: called with the input's fields, returns the output. `InvalidInput` fails
            the task at once; any other error is retried as the task says.
        trigger: What started it: `data`, and what else its inputs and conditions read.
        now: When it starts on the virtual clock.
        others: By name, the workflows that its tasks start runs of.

    Raises:
        LookupError: A kind of task has no body, or a workflow is not among the others.
    """
    plans = {one.name: compile_plan(one) for one in (workflow, *(others or {}).values())}
    steps = [step.task for plan in plans.values() for step in plan.steps.values()]
    if missing := sorted({task.kind for task in steps if task.kind is not None} - set(bodies)):
        raise LookupError(f"no body for {', '.join(missing)}; local runs need one for each kind of task")
    if unknown := sorted({task.subflow.workflow for task in steps if task.subflow is not None} - set(plans)):
        raise LookupError(f"no workflow {', '.join(unknown)}; local runs need each that is started")
    return _Local(plans, workflow.name, bodies, {**TRIGGER, **trigger}, now or START).run()


class _Local:
    def __init__(
        self,
        plans: Mapping[str, Plan],
        name: str,
        bodies: Mapping[str, Callable[..., dict[str, Any]]],
        trigger: dict[str, Any],
        now: datetime,
    ) -> None:
        self._plans = plans
        self._plan = plans[name]
        self._bodies = bodies
        self._now = now
        self._ids = itertools.count(1)
        self._state = Run(self._new_id(), RunState.PENDING, trigger)
        self._past: dict[str, TaskRun] = {}
        self._calls: list[tuple[str, dict[str, Any]]] = []

    def run(self) -> LocalRun:
        waiting = self._tell(Start())
        for _ in range(MAX_DECISIONS):
            if self._state.state.ended:
                break
            said = self._work(waiting.pop(0)) if waiting else self._next_tick()
            waiting += self._tell(said)
            waiting = [order for order in waiting if self._is_open(order)]
        run = self._state
        elapsed_s = (self._now - run.started_at).total_seconds() if run.started_at else 0.0
        tasks = {**self._past, **run.tasks}
        return LocalRun(str(run.state), run.cause, run.output, tasks, elapsed_s, self._calls)

    def _tell(self, happened: Input) -> list[Dispatch]:
        """Return the orders that follow from what happened."""
        before = self._state
        decision = decide(before, self._plan, [happened], self._now, self._new_id)
        self._state = decision.run
        if decision.planned is not None:
            self._plan = compile_plan(decision.planned)
        for name in decision.retired:
            self._past[name] = decision.changed.get(name) or before.tasks[name]
        orders = [effect for effect in decision.effects if isinstance(effect, Dispatch)]
        for effect in decision.effects:
            if isinstance(effect, Collect):
                outputs = outputs_of({**self._past, **self._state.tasks}, effect.name)
                orders += self._tell(Collected(effect.name, outputs))
            elif isinstance(effect, StartChild):
                orders += self._tell(self._child(effect))
        return orders

    def _child(self, asked: StartChild) -> ChildEnded:
        """Run another workflow to its end."""
        trigger = {**TRIGGER, "id": str(asked.task_id), "data": asked.data}
        run = _Local(self._plans, asked.workflow, self._bodies, trigger, self._now).run()
        self._now += timedelta(seconds=run.elapsed_s)
        self._calls += [(f"{asked.name}/{name}", given) for name, given in run.calls]
        return ChildEnded(asked.name, asked.task_id, RunState(run.state), run.cause, run.output)

    def _is_open(self, order: Dispatch) -> bool:
        task = self._state.tasks.get(order.name)
        return task is not None and task.token == order.token

    def _work(self, order: Dispatch) -> Input:
        here = (order.name, order.task_id, order.attempt, order.token)
        self._calls.append((order.name, order.input))
        kind = self._plan.step(order.name).task.kind or ""
        try:
            output = self._bodies[kind](**order.input)
            canonical_json(output)
        except InvalidInput as error:
            return Failed(*here, Failure(type(error).__name__, str(error), retryable=False))
        except Exception as error:  # noqa: BLE001 - a body may raise anything; as in a worker, it fails its attempt
            return Failed(*here, Failure(type(error).__name__, str(error)))
        return Succeeded(*here, output)

    def _next_tick(self) -> Input:
        dues = [task.due_at for task in self._state.tasks.values() if task.due_at is not None]
        dues += [self._state.due_at] if self._state.due_at is not None else []
        self._now = max(self._now, min(dues))
        return Tick()

    def _new_id(self) -> UUID:
        return UUID(int=next(self._ids))
