"""What runs and their steps took, from what was told of them, in whatever order; no I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from millrace.contracts.control import (
    LeasedTask,
    LeasedTaskEnded,
    RunCancelled,
    RunEnded,
    RunEvent,
    RunFailed,
    RunRefused,
    RunStarted,
    RunSucceeded,
    TaskLeased,
)
from millrace.contracts.event import Event
from millrace.contracts.tasks import TaskDispatched, TaskFailed, TaskReport, TaskSucceeded
from millrace.runtime.errors import InvalidInput

HOUR_S = Decimal(3600)

RUN_STATES: Mapping[type[RunEvent], str] = {
    RunSucceeded: "succeeded",
    RunRefused: "refused",
    RunFailed: "failed",
    RunCancelled: "cancelled",
}

LABELS: Mapping[str, frozenset[str]] = {
    "run_duration_s": frozenset({"workflow", "state"}),
    "runs": frozenset({"workflow", "state"}),
    "cost": frozenset({"workflow", "currency"}),
    "task_duration_s": frozenset({"workflow", "task", "kind", "outcome"}),
    "task_queue_s": frozenset({"workflow", "task", "kind"}),
    "events": frozenset({"topic"}),
    "lag_s": frozenset({"topic", "statistic"}),
}
"""The labels of each metric's series."""
OF_A_RUN = frozenset({"run_duration_s", "cost", "task_duration_s", "task_queue_s"})
"""Metrics of which one run's values can be asked for, by the label `run_id`."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a task, as far as it is known.

    Attributes:
        dispatched_at: When control ordered it.
        ended_at: When it ended; of two ends the earlier counts.
        outcome: `succeeded` or `failed`, empty before its end.
        duration_s: From acceptance to the end, seconds.
        cpu_s: Processor time, seconds.
    """

    run_id: UUID
    workflow: str
    task: str
    kind: str
    dispatched_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = ""
    error: str = ""
    duration_s: float = 0.0
    cpu_s: float = 0.0

    def joined(self, other: "Attempt") -> "Attempt":
        """Return what both tell together."""
        ends = [a for a in (self, other) if a.ended_at]
        end = min(ends, key=lambda a: (a.ended_at, a.outcome), default=self)
        return replace(end, dispatched_at=self.dispatched_at or other.dispatched_at)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a workflow, as far as it is known.

    Attributes:
        state: How it ended, empty before.
        duration_s: From start to end, seconds.
    """

    workflow: str
    trigger: str = ""
    principal: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    state: str = ""
    cause: str = ""
    duration_s: float | None = None

    def joined(self, other: "Run") -> "Run":
        """Return what both tell together; each of the two events tells its own fields."""
        began, ended = (self, other) if self.started_at else (other, self)
        return replace(ended, trigger=began.trigger, principal=began.principal, started_at=began.started_at)


@dataclass(slots=True)
class Lag:
    """How long after they were told some events were handled, seconds."""

    events: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0

    def add(self, lag_s: float) -> None:
        """Count one event."""
        self.events += 1
        self.sum_s += lag_s
        self.max_s = max(self.max_s, lag_s)


@dataclass(slots=True)
class Told:
    """What a batch of events tells, each key once."""

    attempts: dict[tuple[str, UUID, int], Attempt] = field(default_factory=dict)
    runs: dict[tuple[str, UUID], Run] = field(default_factory=dict)
    lags: dict[tuple[str, str], Lag] = field(default_factory=dict)


def told(events: Iterable[tuple[Event, datetime]], now: datetime) -> Told:
    """Return what events tell.

    Args:
        events: Each with the time when it was told.
        now: When they are handled.
    """
    found = Told()
    for event, at in events:
        lag = found.lags.setdefault((event.namespace, event.topic_name()), Lag())
        lag.add(max(0.0, (now - at).total_seconds()))
        if isinstance(event, TaskDispatched | TaskReport | LeasedTask):
            key, attempt = (event.namespace, event.task_id, event.attempt), attempt_of(event, at)
            found.attempts[key] = found.attempts[key].joined(attempt) if key in found.attempts else attempt
        elif isinstance(event, RunEvent):
            run_key, run = (event.namespace, event.run_id), run_of(event, at)
            found.runs[run_key] = found.runs[run_key].joined(run) if run_key in found.runs else run
    return found


def attempt_of(event: TaskDispatched | TaskReport | LeasedTask, at: datetime) -> Attempt:
    """Return what one event tells of an attempt."""
    attempt = Attempt(event.run_id, event.workflow, event.name, event.kind)
    if isinstance(event, TaskDispatched):
        return replace(attempt, dispatched_at=at)
    if isinstance(event, TaskLeased):
        return replace(attempt, dispatched_at=event.dispatched_at)
    if isinstance(event, LeasedTaskEnded):
        ended = replace(attempt, ended_at=at, outcome=event.outcome, error=event.error)
        return replace(ended, duration_s=event.duration_s, cpu_s=event.cpu_s)
    if isinstance(event, TaskSucceeded):
        return replace(attempt, ended_at=at, outcome="succeeded", duration_s=event.duration_s, cpu_s=event.cpu_s)
    if isinstance(event, TaskFailed):
        ended = replace(attempt, ended_at=at, outcome="failed", error=event.error)
        return replace(ended, duration_s=event.duration_s, cpu_s=event.cpu_s)
    return attempt


def run_of(event: RunEvent, at: datetime) -> Run:
    """Return what one event tells of a run."""
    run = Run(event.workflow)
    if isinstance(event, RunStarted):
        return replace(run, trigger=event.trigger, principal=event.principal, started_at=at)
    if isinstance(event, RunEnded):
        state = RUN_STATES.get(type(event), "ended")
        return replace(run, ended_at=at, state=state, cause=event.cause, duration_s=event.duration_s)
    return run


@dataclass(frozen=True, slots=True)
class Price:
    """What an hour of one processor costs."""

    per_cpu_hour: Decimal
    currency: str

    def of(self, cpu_s: float) -> Decimal:
        """Return the cost of processor time."""
        return Decimal(repr(cpu_s)) * self.per_cpu_hour / HOUR_S


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one task of a run took, over all its attempts."""

    task: str
    attempts: int
    duration_s: float
    cpu_s: float
    cost: Decimal


@dataclass(frozen=True, slots=True)
class RunCost:
    """What a run took and cost.

    Attributes:
        state: `running` until it ends.
        steps: In the order in which their first attempts were ordered.
    """

    run_id: UUID
    state: str
    duration_s: float
    cpu_s: float
    cost: Decimal
    currency: str
    steps: Sequence[StepCost]


def run_cost(run_id: UUID, run: Run | None, attempts: Sequence[Attempt], price: Price, now: datetime) -> RunCost:
    """Return what a run took and cost so far.

    Args:
        run_id: Its id.
        run: The run, when something was told of it.
        attempts: Of all its tasks, in the order in which they were ordered.
        price: In force when it began.
        now: Until when a run that goes on is counted.
    """
    by_task: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_task.setdefault(attempt.task, []).append(attempt)
    steps = [_step(task, some, price) for task, some in by_task.items()]
    duration_s = 0.0
    if run and run.duration_s is not None:
        duration_s = run.duration_s
    elif run and run.started_at:
        duration_s = (now - run.started_at).total_seconds()
    cpu_s = sum(step.cpu_s for step in steps)
    cost = sum((step.cost for step in steps), Decimal(0))
    return RunCost(run_id, (run and run.state) or "running", duration_s, cpu_s, cost, price.currency, steps)


def _step(task: str, attempts: Sequence[Attempt], price: Price) -> StepCost:
    cpu_s = sum(attempt.cpu_s for attempt in attempts)
    cost = sum((price.of(attempt.cpu_s) for attempt in attempts), Decimal(0))
    return StepCost(task, len(attempts), sum(attempt.duration_s for attempt in attempts), cpu_s, cost)


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time, in order.

    Attributes:
        points: (time, value), in the metric's unit.
    """

    labels: Mapping[str, str]
    points: Sequence[tuple[datetime, float]]


def check_labels(metric: str, labels: Iterable[str]) -> None:
    """Do nothing when a metric has all of the labels.

    Raises:
        InvalidInput: It does not have one of them.
    """
    there = LABELS[metric] | ({"run_id"} if metric in OF_A_RUN else set())
    unknown = sorted(set(labels) - there)
    if unknown:
        raise InvalidInput(f"{metric} has no label {', '.join(unknown)}: it has {', '.join(sorted(there))}")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One mutating call of one service."""

    time: datetime
    service: str
    principal: str
    method: str
    request_id: str
    trace_id: str


def newest_first(rows: Iterable[AuditRow], limit: int) -> list[AuditRow]:
    """Return the newest of the calls of several services."""
    return sorted(rows, key=lambda row: (row.time, row.service, row.request_id), reverse=True)[:limit]
