"""A run in this process, as its author looks at it."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from millrace.core.paths import parent
from millrace.core.plan import Plan, compile_plan
from millrace.core.state import Decision, EventCame, Run, RunState, TaskRun, TaskState
from millrace.runtime.errors import MillraceError
from millrace.sdk.local.bodies import Raised
from millrace.sdk.values import LocalValues

MAX_LINES = 10_000
"""The most lines of logs that a run keeps: the latest."""


class RunFailed(MillraceError):
    """A run did not succeed.

    Attributes:
        run: Which.
    """

    def __init__(self, run: "LocalRun") -> None:
        super().__init__(f"{run.workflow} {run.state}" + (f": {run.cause}" if run.cause else ""))
        self.run = run


@dataclass(frozen=True)
class Call:
    """An attempt of a task.

    Attributes:
        workflow: Of its run.
        task: The task's path in that.
        at: When it was dispatched, on the run's clock.
    """

    workflow: str
    task: str
    kind: str
    attempt: int
    input: Any
    at: datetime


@dataclass(frozen=True)
class Line:
    """What work has printed or logged.

    Attributes:
        task: The path of the task; empty for what was printed beside all work.
    """

    at: datetime
    task: str
    text: str


class LocalRun:
    """A run in this process.

    Attributes:
        workflow: The workflow's name.
        calls: Every attempt that was begun, in order.
        lines: What its work printed and logged, the latest.
        raised: By the path of a task, what its latest attempt that failed has raised.
        principal: Who started it.
        plan: What it does, with what was planned in it.
        run: Its record, as decisions see it.
        past: The records of scopes that are over, and of what was in them.
        values: What its tasks handed on by reference.
    """

    def __init__(self, plan: Plan, run: Run, principal: str = "") -> None:
        self.workflow = plan.workflow.name
        self.calls: list[Call] = []
        self.lines: deque[Line] = deque(maxlen=MAX_LINES)
        self.raised: dict[str, Raised] = {}
        self.past: dict[str, TaskRun] = {}
        self.principal = principal
        self.values = LocalValues()
        self.plan = plan
        self.run = run
        self._items: defaultdict[str, dict[str, TaskRun]] = defaultdict(dict)

    def __repr__(self) -> str:
        why = f": {self.cause}" if self.cause else ""
        return f"<run {self.run_id} of {self.workflow}, {self.state}{why}>"

    @property
    def run_id(self) -> UUID:
        """Its id."""
        return self.run.run_id

    @property
    def state(self) -> str:
        """Where it stands: `running`, `ending`, `succeeded`, `refused`, `failed` or `cancelled`."""
        return str(self.run.state)

    @property
    def cause(self) -> str:
        """Why it ended, where it did not simply succeed."""
        return self.run.cause

    @property
    def output(self) -> Any:  # noqa: ANN401 - a JSON value
        """What its workflow's `output` came to, in full."""
        return self.values.in_full(self.run.output)

    @property
    def tasks(self) -> dict[str, TaskRun]:
        """Its tasks, those in bodies by their paths, such as `each[2013-01].fit`."""
        return {**self.past, **self.run.tasks}

    @property
    def waiting(self) -> list[str]:
        """The paths of tasks that wait for a signal, an event or for people, in the order in which they began."""
        return [name for name, task in self.run.tasks.items() if self._waits_for_somebody(name, task)]

    @property
    def elapsed_s(self) -> float:
        """How long it took on its clock until it ended; 0 before that."""
        run = self.run
        return (run.ended_at - run.started_at).total_seconds() if run.started_at and run.ended_at else 0.0

    def event_for(self, task: str, data: Any, at: datetime) -> EventCame:  # noqa: ANN401 - a JSON value
        """Return that the event which a task waits for has come, at a moment, with some data."""
        record = self.run.tasks[task]
        waits = record.inner or {}
        about = {"id": str(uuid4()), "source": "/local", "type": waits["event"], "subject": waits["key"]}
        return EventCame(((task, record.task_id),), {**about, "time": at.isoformat(), "data": data})

    def output_of(self, task: str) -> Any:  # noqa: ANN401 - a JSON value
        """Return what a task handed on, in full.

        Raises:
            KeyError: It did not run.
        """
        found = self.run.tasks.get(task) or self.past.get(task)
        if found is None:
            known = ", ".join(self.tasks)
            raise KeyError(f"no task {task!r} in this run; its tasks are {known}")
        return self.values.in_full(found.output)

    def calls_of(self, name: str) -> list[Call]:
        """Return the attempts of a task, by its path, or of a kind of work."""
        return [call for call in self.calls if name in {call.task, call.kind}]

    def checked(self) -> "LocalRun":
        """Return itself, unless it has failed or was cancelled.

        Raises:
            RunFailed: It has; raised from what the task raised that failed first.
        """
        if self.run.state in {RunState.FAILED, RunState.CANCELLED}:
            raise RunFailed(self) from self.error
        return self

    @property
    def error(self) -> BaseException | None:
        """What made it fail: what a task of it raised, where one did."""
        return next((came.error for name, came in self.raised.items() if self._failed(name)), None)

    def items_of(self, task: str) -> Mapping[str, TaskRun]:
        """Return the scopes of a foreach that are over, by their paths."""
        return self._items[task]

    def take(self, decision: Decision) -> None:
        """Become what was decided."""
        before, self.run = self.run, decision.run
        if decision.planned is not None:
            self.plan = compile_plan(decision.planned)
        for name in decision.retired:
            record = decision.changed.get(name) or before.tasks[name]
            self.past[name] = record
            if name.endswith("]"):
                self._items[parent(name)][name] = record

    def _failed(self, name: str) -> bool:
        task = self.run.tasks.get(name) or self.past.get(name)
        return task is not None and task.state is TaskState.FAILED

    def _waits_for_somebody(self, name: str, task: TaskRun) -> bool:
        if task.state is not TaskState.WAITING:
            return False
        spec = self.plan.step(name).task
        return spec.approve is not None or (spec.wait is not None and bool(spec.wait.signal or spec.wait.event))
