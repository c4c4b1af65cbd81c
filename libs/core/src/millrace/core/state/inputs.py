"""What can happen to a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from millrace.core.state.records import Carried, Failure, RunState, TaskState

CANCEL_GRACE_S = 30.0
"""How long what has been asked to stop is waited for where nobody says otherwise, seconds."""


@dataclass(slots=True, frozen=True)
class Start:
    """The run may start now."""


@dataclass(slots=True, frozen=True)
class Tick:
    """Time has passed: whatever is due happens."""


@dataclass(slots=True, frozen=True)
class CancelRequested:
    """Somebody wants the run to stop.

    Attributes:
        cause: Who, and why.
        grace_s: How long what has been asked to stop is waited for.
        force: Wait for nobody, and put nothing in order; of a run that is ending, any more.
    """

    cause: str
    grace_s: float = CANCEL_GRACE_S
    force: bool = False


@dataclass(slots=True, frozen=True)
class PauseRequested:
    """Somebody wants nothing in the run to begin for now."""

    cause: str


@dataclass(slots=True, frozen=True)
class ResumeRequested:
    """Somebody wants a paused run to go on."""

    cause: str


@dataclass(slots=True, frozen=True)
class ResultSet:
    """Somebody has set by hand how a task ends.

    Attributes:
        name: The task's path.
        state: Succeeded, failed or skipped.
        cause: Who, and why.
        output: What it hands on when it has succeeded.
    """

    name: str
    state: TaskState
    cause: str
    output: Any = None


@dataclass(slots=True, frozen=True)
class Admitted:
    """A task has the slots that it waits for.

    Attributes:
        ticket: As it was asked for them with; it has none of another.
    """

    name: str
    ticket: UUID


@dataclass(slots=True, frozen=True)
class _AttemptFact:
    name: str
    task_id: UUID
    attempt: int
    token: UUID
    carried: Carried | None = field(default=None, kw_only=True)


@dataclass(slots=True, frozen=True)
class Started(_AttemptFact):
    """A worker has started the attempt."""


@dataclass(slots=True, frozen=True)
class Progressed(_AttemptFact):
    """The worker is alive, and may say how far it is."""

    fraction: float | None = None
    message: str = ""


@dataclass(slots=True, frozen=True)
class Succeeded(_AttemptFact):
    """The attempt has its result.

    Attributes:
        output: That.
        went_on: Its worker has begun the next link of the chain with that; see `chains`.
    """

    output: Any = None
    went_on: bool = False


@dataclass(slots=True, frozen=True)
class Failed(_AttemptFact):
    """The attempt ended without a result."""

    failure: Failure


@dataclass(slots=True, frozen=True)
class CancelAcknowledged(_AttemptFact):
    """The worker has stopped the attempt as asked."""


@dataclass(slots=True, frozen=True)
class Signalled:
    """Somebody has sent the run a signal."""

    signal: str
    payload: Any


@dataclass(slots=True, frozen=True)
class EventCame:
    """An event has come that tasks wait for.

    Attributes:
        tasks: Their paths and ids.
        event: All of it.
    """

    tasks: tuple[tuple[str, UUID], ...]
    event: Mapping[str, Any]


@dataclass(slots=True, frozen=True)
class Voted:
    """Somebody who may has approved or rejected."""

    name: str
    principal: str
    approves: bool
    comment: str = ""
    form: Mapping[str, Any] | None = None


@dataclass(slots=True, frozen=True)
class ChildEnded:
    """A run that a task has started has ended, or could not be started."""

    name: str
    task_id: UUID
    state: RunState
    cause: str
    output: Any = None


@dataclass(slots=True, frozen=True)
class Collected:
    """The outputs of a foreach's items, in their order, None for one that has none; or None: too much to be read."""

    name: str
    outputs: Sequence[Any] | None


@dataclass(slots=True, frozen=True)
class CacheAnswered:
    """Whether the result of a task is known that has asked for it.

    Attributes:
        found: `hit`: here it is. `miss`: the task is to compute it.
        output: The result.
        source: Where and when that was computed: `run_id`, `task`, `at`.
        why: Why there is none.
    """

    name: str
    task_id: UUID
    found: Literal["hit", "miss"]
    output: Any = None
    source: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


AttemptFact = Started | Progressed | Succeeded | Failed | CancelAcknowledged


Wish = CancelRequested | PauseRequested | ResumeRequested | ResultSet | Signalled | Voted


Input = Start | Tick | Wish | Admitted | ChildEnded | Collected | CacheAnswered | EventCame | AttemptFact
