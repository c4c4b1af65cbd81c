"""A run as it stands: the snapshot that decisions read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any
from uuid import UUID


class RunState(StrEnum):
    """Where a run stands."""

    #: Waits for an earlier run of its trigger.
    PENDING = "pending"
    RUNNING = "running"
    #: Nothing in it begins until it is resumed; what has begun goes on.
    PAUSED = "paused"
    #: Its outcome is decided; open attempts have been asked to stop.
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    #: A workflow's `end` task said so: not an error, but not what was asked for.
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more can happen to it."""
        return self in _ENDED


_ENDED = frozenset({RunState.SUCCEEDED, RunState.REFUSED, RunState.FAILED, RunState.CANCELLED})


class TaskState(StrEnum):
    """Where a task of a run stands; one that has no record yet is waiting for its needs."""

    #: It waits for slots of its pool, and holds nobody; while its run is paused, not even its place.
    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    #: Its attempt has been asked to stop, because what it is part of is ending.
    CANCELLING = "cancelling"
    RETRY_WAIT = "retry_wait"
    #: It waits for a moment, a signal or people, and holds nobody.
    WAITING = "waiting"
    #: What is in it goes on.
    OPEN = "open"
    #: How it ends is decided; what is in it has been asked to stop, or is being put in order.
    CLOSING = "closing"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: Where a task has who set its result by hand, and why; and the run that a result was taken from.
SET_BY, TAKEN_FROM = "set_by", "taken_from"
#: Where a task has what names its place in the line of its pool and then the slots that it holds.
TICKET = "ticket"
#: Where a task that may take its result from the cache has what it asked, and what it was told.
CACHE = "cache"


#: An attempt is with a worker: only in these states does a fact about it count.
ATTEMPT_OPEN = frozenset({TaskState.DISPATCHED, TaskState.RUNNING, TaskState.CANCELLING})


TASK_OPEN = ATTEMPT_OPEN | {
    TaskState.QUEUED,
    TaskState.RETRY_WAIT,
    TaskState.WAITING,
    TaskState.OPEN,
    TaskState.CLOSING,
}


@dataclass(slots=True, frozen=True)
class Failure:
    """Why an attempt or a task failed.

    Attributes:
        error: The error's class.
        retryable: Trying again could help.
        lost: The work is not to blame: its worker was lost, or nobody took it.
        task: Of a task with bodies, the one within it that failed first.
    """

    error: str
    message: str
    retryable: bool = True
    lost: bool = False
    task: str = ""

    def __str__(self) -> str:
        said = f"{self.error}: {self.message}" if self.message else self.error
        return f"{said} (task {self.task})" if self.task else said


@dataclass(slots=True, frozen=True)
class Carried:
    """What an attempt of a task leaves to the next one.

    Attributes:
        checkpoint: How far the work has come, in its own words: a JSON value.
        external_ref: What it has begun elsewhere, such as the id of an outside job; empty for nothing.
    """

    checkpoint: Any = None
    external_ref: str = ""


@dataclass(slots=True, frozen=True)
class Pause:
    """Why nothing in a run begins.

    Attributes:
        at: Since when.
        cause: Who wanted it, and why.
        left_s: How much of its own time limit the run had left; None where it had not started.
    """

    at: datetime
    cause: str
    left_s: float | None


@dataclass(slots=True)
class TaskRun:
    """A task of a run with its latest attempt, or a scope: a body of a task that is being run.

    Attributes:
        name: Its path in the run; see `paths`.
        began_at: When its needs were settled.
        token: Fences the open attempt: a fact with another token is refused.
        failures: Attempts that ended by an error of the work.
        losses: Attempts that ended without fault of the work.
        seen_at: When the worker of the open attempt was last heard of.
        due_at: When something must have happened; always set while an attempt or its next one is open.
        fraction: How far the worker says it is, 0 to 1, with its `message`.
        outcome: How it ends, once that is decided and it is closing.
        inner: Of a task with bodies or of a scope: how far it is, as JSON; of any task, that its result was set by hand
            (`SET_BY`) or comes from an earlier run (`TAKEN_FROM`), what names its slots (`TICKET`), and what it was
            told by the cache (`CACHE`).
        carried: What its attempts have left to the next one; None where they have said nothing.
        deadline_at: When it is to be done, until it is or that is missed.
        missed_at: When it missed its deadline.
    """

    name: str
    task_id: UUID
    state: TaskState
    began_at: datetime | None = None
    attempt: int = 0
    token: UUID | None = None
    failures: int = 0
    losses: int = 0
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    ended_at: datetime | None = None
    due_at: datetime | None = None
    output: Any = None
    failure: Failure | None = None
    fraction: float = 0.0
    message: str = ""
    outcome: TaskState | None = None
    inner: Mapping[str, Any] | None = None
    carried: Carried | None = None
    deadline_at: datetime | None = None
    missed_at: datetime | None = None

    def copy(self) -> "TaskRun":
        """Return another one like it; `dataclasses.replace` takes ten times as long."""
        return TaskRun(*_task_values(self))

    def failure_upwards(self) -> Failure:
        """Return its failure as what it is in has it: with the path of the task that failed first."""
        failure = self.failure or Failure("Failed", "")
        return replace(failure, task=failure.task or self.name)


_task_values = attrgetter(*(field.name for field in fields(TaskRun)))


@dataclass(slots=True)
class Run:
    """A run with the records of its tasks.

    Attributes:
        trigger: What started it: id, source, type, subject, time, data.
        due_at: When something must have happened; set exactly while it is running, paused or ending.
        outcome: How it ends or has ended. A paused run may have one, and ends so once it is resumed.
        pause: Set exactly while it is paused.
        output: What its workflow's `output` came to, once it has succeeded.
        signals: Those that came and that no task has waited for yet, oldest first: names, and what came with them.
        refresh: Its tasks compute anew what could be taken from the cache.
        deadline_at: When it is to be done, until it is or that is missed; it stands while the run is paused too.
        missed_at: When it missed its deadline.
        tasks: The records that a decision can need, by name: those in scopes that are over are *retired*.
    """

    run_id: UUID
    state: RunState
    trigger: dict[str, Any]
    started_at: datetime | None = None
    ended_at: datetime | None = None
    due_at: datetime | None = None
    outcome: RunState | None = None
    pause: Pause | None = None
    cause: str = ""
    output: Any = None
    signals: tuple[tuple[str, Any], ...] = ()
    refresh: bool = False
    deadline_at: datetime | None = None
    missed_at: datetime | None = None
    tasks: dict[str, TaskRun] = field(default_factory=dict)

    def copy(self) -> "Run":
        """Return another one like it, whose tasks are the same records."""
        made = Run(*_run_values(self))
        made.tasks = dict(self.tasks)
        return made


_run_values = attrgetter(*(field.name for field in fields(Run)))
