"""What control tells: how runs begin and end."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from millrace.contracts.event import Event
from pydantic import Field


class RunEvent(Event):
    """A fact about one run of a workflow; all facts of a run stay in order."""

    topic: ClassVar[str] = "control.runs"
    key_field: ClassVar[str] = "run_id"

    run_id: UUID
    workflow: str
    workflow_hash: str


class RunStarted(RunEvent):
    """A run began.

    Attributes:
        trigger: The trigger that started it, empty when a call did.
        event_source: The CloudEvents source of the event that started it, or empty.
        event_id: The CloudEvents id of the event that started it, or empty.
        principal: On whose behalf it runs.
        queued_s: How long it waited for its turn, seconds.
        rerun_of: The run that it does again, with the results of what that did.
    """

    trigger: str = ""
    event_source: str = ""
    event_id: str = ""
    principal: str
    queued_s: Annotated[float, Field(ge=0)] = 0.0
    rerun_of: UUID | None = None


class RunPaused(RunEvent):
    """Nothing in a run begins until it is resumed; what has begun goes on.

    Attributes:
        cause: Who wanted it, and why.
    """

    cause: str = ""


class RunResumed(RunEvent):
    """A paused run goes on.

    Attributes:
        cause: Who wanted it, and why.
        paused_s: How long it was paused, seconds.
    """

    cause: str = ""
    paused_s: Annotated[float, Field(ge=0)] = 0.0


class DeadlineMissed(RunEvent):
    """A run, or a task of one, was not done by its deadline.

    Attributes:
        task: The task's path in the run; empty where it is the run's own deadline.
        task_id: The task; None likewise.
        deadline: When it was to be done.
        action: What follows: `notify` (nothing more), `fail` or `cancel`.
    """

    task: str = ""
    task_id: UUID | None = None
    deadline: datetime
    action: str


class LeasedTask(RunEvent):
    """A fact about one attempt of a task whose worker leases it: what others learn from the topics of its queue.

    Attributes:
        queue: Whose task it is.
        name: The task's path in the run.
    """

    queue: str
    task_id: UUID
    attempt: Annotated[int, Field(ge=1)]
    kind: str
    name: str


class TaskLeased(LeasedTask):
    """A worker was given an attempt.

    Attributes:
        dispatched_at: Since when the attempt waited for one.
    """

    dispatched_at: datetime


class LeasedTaskEnded(LeasedTask):
    """An attempt came to its end, as its worker said, or was lost with it.

    Attributes:
        error: The class of the failure, as in `TaskFailed`; empty where it succeeded.
        duration_s: Wall time from acceptance to the end, seconds.
        cpu_s: Processor time that the work took, seconds.
    """

    outcome: Literal["succeeded", "failed"]
    error: str = ""
    duration_s: Annotated[float, Field(ge=0)] = 0.0
    cpu_s: Annotated[float, Field(ge=0)] = 0.0


class RunEnded(RunEvent):
    """A run came to its end.

    Attributes:
        cause: Why it ended as it did, in words, with the task's name where one decided it.
        duration_s: Wall time from start to end, seconds.
    """

    cause: str = ""
    duration_s: Annotated[float, Field(ge=0)]


class RunSucceeded(RunEnded):
    """A run did all that its workflow asked for."""


class RunRefused(RunEnded):
    """A run ended because a gate said no: nothing is broken, and nothing was promoted."""


class RunFailed(RunEnded):
    """A run ended because a task failed for good or time ran out."""


class RunCancelled(RunEnded):
    """A run ended because somebody asked for it."""
