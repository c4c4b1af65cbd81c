"""What control and the services say to one another of work."""

from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from millrace.contracts.event import Event
from millrace.contracts.portable import portable
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

MAX_CHECKPOINT_BYTES = 64 * 1024
MAX_EXTERNAL_REF_CHARS = 1024

Output = dict[str, Any]
"""What a task hands on: JSON, at most 64 KiB. A larger value travels as an artifact, and `{"$artifact": <SHA-256 of its
JSON>, "$bytes": <size>}` stands in its place."""


class Carried(BaseModel):
    """What an attempt of a task leaves to the next one.

    Attributes:
        checkpoint: How far the work has come, in its own words: JSON, at most 64 KiB; a larger one is an artifact.
        external_ref: What it has begun elsewhere, such as the id of an outside job; empty for nothing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    checkpoint: JsonValue = None
    external_ref: Annotated[str, Field(max_length=MAX_EXTERNAL_REF_CHARS, pattern=r"^[^\x00]*$")] = ""

    @field_validator("checkpoint")
    @classmethod
    def _can_be_kept(cls, checkpoint: JsonValue) -> JsonValue:
        if (size := len(portable(checkpoint))) > MAX_CHECKPOINT_BYTES:
            raise ValueError(f"it has {size} bytes, more than {MAX_CHECKPOINT_BYTES}: put it in an artifact")
        return checkpoint


class TaskOrder(Event):
    """Something control says to the team that does the work; all orders of a task stay in order."""

    topic: ClassVar[str] = "control.tasks.{queue}"
    key_field: ClassVar[str] = "task_id"

    queue: str
    task_id: UUID
    attempt: Annotated[int, Field(ge=1)]
    token: UUID


class Resources(BaseModel):
    """What a worker needs for an attempt; what is not said does not matter.

    Attributes:
        cpu: Cores.
        memory_bytes: Memory.
        gpu: Devices; less than one is a share of one.
        gpu_type: Of which kind, such as `a100`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    cpu: float | None = None
    memory_bytes: int | None = None
    gpu: float | None = None
    gpu_type: str | None = None


class Hole(BaseModel):
    """A place in a chained task's input for what a task before it hands on.

    Attributes:
        path: The place: keys of objects, and indices of lists.
        task: That task's name in the chain.
        pointer: What of its output: the tokens of a JSON pointer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: tuple[int | str, ...]
    task: str
    pointer: tuple[str, ...] = ()


class ChainedTask(BaseModel):
    """A task whose first attempt a worker may begin in the transaction in which the one before it has succeeded.

    Attributes:
        task_id: Its own id.
        token: Of its first attempt.
        kind: What to do; it is work of the same queue.
        name: The task's name in the workflow.
        input: What to do it with, but for the holes.
        holes: What of that the tasks before it hand on.
        lasts_s: How long after its beginning control gives the attempt up, seconds.
        heartbeat_timeout_s: As in `TaskDispatched`.
        resources: Likewise.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    task_id: UUID
    token: UUID
    kind: str
    name: str
    input: dict[str, Any]
    holes: tuple[Hole, ...] = ()
    lasts_s: Annotated[float, Field(gt=0)]
    heartbeat_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    resources: Resources | None = None


class TaskDispatched(TaskOrder):
    """One attempt of a task is to be done.

    Attributes:
        kind: What to do, such as `data.ingest`.
        input: What to do it with, as the kind declares it.
        run_id: The run it belongs to.
        workflow: The workflow's name.
        name: The task's name in the workflow.
        principal: On whose behalf it is done.
        deadline: When control gives the attempt up.
        heartbeat_timeout_s: The longest silence of a worker before its lease has lapsed, seconds.
        carried: What earlier attempts have left to this one.
        resources: What a worker needs for it, where the workflow says so.
        chain: What its worker may go on with once it has succeeded, each after the one before it.
    """

    kind: str
    input: dict[str, Any]
    run_id: UUID
    workflow: str
    name: str
    principal: str
    deadline: datetime
    heartbeat_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    carried: Carried | None = None
    resources: Resources | None = None
    chain: tuple[ChainedTask, ...] = ()


class TaskCancelled(TaskOrder):
    """An attempt is no longer wanted, whether it has begun or not."""

    reason: str = ""


class ChainCut(TaskOrder):
    """An attempt goes on as it was ordered; what was chained to it is no longer its worker's to begin."""


class TaskReport(Event):
    """Something a service says of one attempt; all reports of an attempt stay in order."""

    topic: ClassVar[str] = "{service}.tasks"
    key_field: ClassVar[str] = "task_id"

    service: str
    task_id: UUID
    attempt: Annotated[int, Field(ge=1)]
    token: UUID
    run_id: UUID
    kind: str
    name: str
    workflow: str

    def partition_key(self) -> str:
        """Return the millisecond in which the attempt was ordered, as its token has it.

        What was ordered together is often done together. Its reports lie in one partition then, so that they are read
        and decided on as one group; each in its task's own partition, they would come in pieces.
        """
        return self.token.hex[:12]  # a UUIDv7 begins with 48 bits of Unix time in milliseconds


class TaskStarted(TaskReport):
    """Work on an attempt has been going on for a second."""


class TaskProgressed(TaskReport):
    """Work on an attempt goes on.

    Attributes:
        fraction: How much is done, 0 to 1.
        message: What is being done, in a few words.
        carried: What it leaves to the next attempt, where that is not what was said before.
    """

    fraction: Annotated[float, Field(ge=0, le=1)]
    message: str = ""
    carried: Carried | None = None


class TaskSucceeded(TaskReport):
    """An attempt is done and its effects are committed.

    Attributes:
        output: What it hands on to later tasks.
        duration_s: Wall time from acceptance to commit, seconds.
        cpu_s: Processor time that the work took, seconds.
        went_on: Its worker has begun the next task of the chain with that.
    """

    output: Output
    duration_s: Annotated[float, Field(ge=0)]
    cpu_s: Annotated[float, Field(ge=0)]
    went_on: bool = False

    def lingers(self) -> bool:
        """Return whether its worker has gone on: what control does next depends on how that ends."""
        return self.went_on


class TaskFailed(TaskReport):
    """An attempt ended without its effects.

    Attributes:
        error: The class of the failure: an error's name, `lost`, `preempted` (the worker had to go) or `cancelled`.
        message: What happened, with ids; never internal text.
        retryable: Whether another attempt could end otherwise.
        duration_s: Wall time from acceptance to the end, seconds.
        cpu_s: Processor time that the work took, seconds.
        carried: What it leaves to the next attempt.
    """

    error: str
    message: str
    retryable: bool
    duration_s: Annotated[float, Field(ge=0)] = 0.0
    cpu_s: Annotated[float, Field(ge=0)] = 0.0
    carried: Carried | None = None
