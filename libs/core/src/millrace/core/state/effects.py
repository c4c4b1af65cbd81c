"""What follows from a decision, and the decision itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from millrace.core.ir import Workflow
from millrace.core.state.inputs import CancelRequested, Input, PauseRequested, ResumeRequested
from millrace.core.state.records import Carried, Failure, Run, RunState, TaskRun


@dataclass(slots=True, frozen=True)
class Hole:
    """A place in a link's input for what a task before it in the chain hands on.

    Attributes:
        path: The place: keys of objects, and indices of lists.
        task: That task's own name.
        pointer: What of its output: the tokens of a JSON pointer.
    """

    path: tuple[str | int, ...]
    task: str
    pointer: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Link:
    """A task that a worker may go on with, and its first attempt; see `chains`."""

    name: str
    task_id: UUID
    token: UUID
    input: Any
    holes: tuple[Hole, ...] = ()


@dataclass(slots=True, frozen=True)
class Dispatch:
    """Hand the task's new attempt to its queue, with what its worker may go on with."""

    name: str
    task_id: UUID
    attempt: int
    token: UUID
    input: Any
    carried: Carried | None = None
    chain: tuple[Link, ...] = ()


@dataclass(slots=True, frozen=True)
class CutChain:
    """Have the attempt's worker go on with nothing by itself."""

    name: str
    task_id: UUID
    attempt: int
    token: UUID


@dataclass(slots=True, frozen=True)
class AskSlots:
    """Put the task into the line for slots of a pool; that it has them is told as `Admitted`.

    Attributes:
        ticket: Names its place in the line, and then its slots.
        weight: How many it takes.
    """

    name: str
    task_id: UUID
    ticket: UUID
    pool: str
    weight: int
    priority: int
    fairness_key: str


@dataclass(slots=True, frozen=True)
class FreeSlots:
    """Let others have the slots that a task held, or its place in the line."""

    ticket: UUID
    pool: str


@dataclass(slots=True, frozen=True)
class CancelAttempt:
    """Ask the attempt's worker to stop; its token no longer counts unless the run is ending."""

    name: str
    task_id: UUID
    attempt: int
    token: UUID
    reason: str


@dataclass(slots=True, frozen=True)
class AttemptEnded:
    """Remember an attempt that ended without a result."""

    task: TaskRun
    failure: Failure


@dataclass(slots=True, frozen=True)
class Collect:
    """Read the outputs of a foreach's items, and tell them as `Collected`; nothing else happens to it before."""

    name: str


@dataclass(slots=True, frozen=True)
class AskCache:
    """Say whether the result of a task is known; told as `CacheAnswered`, and nothing else happens to it before.

    Attributes:
        key: What it is kept under.
        kind: What work it is.
        expires_s: How old it may be.
        refresh: It is to be computed anew.
        parts: What the key is made of, each part by its short digest.
    """

    name: str
    task_id: UUID
    key: str
    kind: str
    expires_s: float
    refresh: bool
    parts: Mapping[str, str]


@dataclass(slots=True, frozen=True)
class TellCache:
    """Keep what a task that has asked has come to; or, without `kept_s`, let nobody wait for it any more."""

    name: str
    task_id: UUID
    key: str
    kind: str
    parts: Mapping[str, str]
    output: Any = None
    kept_s: float | None = None


@dataclass(slots=True, frozen=True)
class AwaitEvent:
    """Tell the task of the next event that a trigger takes under a key, as `EventCame`, for as long as it waits."""

    name: str
    task_id: UUID
    trigger: str
    key: str


@dataclass(slots=True, frozen=True)
class DeadlineMissed:
    """Say that a task, or the run where none is named, was not done by its deadline, and what is done about that."""

    name: str
    task_id: UUID | None
    deadline_at: datetime
    action: str


@dataclass(slots=True, frozen=True)
class StartChild:
    """Start a run of another workflow; how it ended is told as `ChildEnded`."""

    name: str
    task_id: UUID
    run_id: UUID
    workflow: str
    data: Any


@dataclass(slots=True, frozen=True)
class TellChild:
    """Tell a run that a task has started to stop, to pause or to go on."""

    run_id: UUID
    told: CancelRequested | PauseRequested | ResumeRequested


@dataclass(slots=True, frozen=True)
class RunStarted:
    """Say that the run has started."""


@dataclass(slots=True, frozen=True)
class RunPaused:
    """Say that nothing in the run begins for now, and who wanted it."""

    cause: str


@dataclass(slots=True, frozen=True)
class RunResumed:
    """Say that the run goes on, who wanted it, and how long it was paused."""

    cause: str
    paused_s: float


@dataclass(slots=True, frozen=True)
class RunEnded:
    """Say how the run ended."""

    state: RunState
    cause: str


Lifecycle = RunStarted | RunPaused | RunResumed | RunEnded | DeadlineMissed
Asked = AskSlots | FreeSlots | AskCache | TellCache | AwaitEvent
Effect = Dispatch | CutChain | CancelAttempt | AttemptEnded | Collect | Asked | StartChild | TellChild | Lifecycle


@dataclass(slots=True, frozen=True)
class Refused:
    """An input that changed nothing, and why.

    Attributes:
        early: It is of a link that its worker has begun with a success that is still to be told: it is to come again.
    """

    input: Input
    reason: str
    early: bool = False


@dataclass(slots=True, frozen=True)
class Decision:
    """What follows from the inputs.

    Attributes:
        run: The run as it now stands.
        run_changed: The run's own fields differ.
        changed: The records that differ, by name.
        retired: Names of those that no later decision needs: their scope is over. They are no more in `run`.
        effects: What to do, in order.
        refused: Inputs that changed nothing: stale, late or repeated.
        planned: The workflow with what tasks have planned, which the next decision is to be made with.
    """

    run: Run
    run_changed: bool
    changed: Mapping[str, TaskRun]
    retired: tuple[str, ...]
    effects: tuple[Effect, ...]
    refused: tuple[Refused, ...]
    planned: Workflow | None = None
