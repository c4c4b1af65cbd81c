"""What can be asked of runs that go on or have ended, checked at the edge."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from millrace.contracts.event import Namespace
from millrace.core.draft import CLEANUP_S
from millrace.core.parts import NAME
from millrace.core.state import CANCEL_GRACE_S, RunState
from millrace.runtime.command import Command
from pydantic import Field, JsonValue, field_validator, model_validator

MAX_PAGE = 200
Reason = Annotated[str, Field(max_length=500)]
GraceS = Annotated[float, Field(ge=0, le=CLEANUP_S)]
TaskPath = Annotated[str, Field(max_length=2_000)]
Version = Literal["pinned", "latest"]
Action = Literal["pause", "resume", "cancel", "rerun", "signal"]

_OPEN = (RunState.PENDING, RunState.RUNNING, RunState.PAUSED)
#: Which runs a thing is done with where the filter names no states.
_STATES: dict[str, tuple[RunState, ...]] = {
    "pause": (RunState.PENDING, RunState.RUNNING),
    "resume": (RunState.PAUSED,),
    "cancel": _OPEN,
    "rerun": (RunState.FAILED,),
    "signal": _OPEN,
}


class _OnRun(Command):
    """Something asked of one run, by somebody, for a reason."""

    namespace: Namespace
    principal: str
    run_id: UUID
    reason: Reason = ""


class CancelRun(_OnRun):
    """Ask a run to stop.

    Attributes:
        grace_s: How long its open attempts are waited for, seconds.
        force: Wait for nobody, and put nothing in order.
    """

    grace_s: GraceS = CANCEL_GRACE_S
    force: bool = False


class PauseRun(_OnRun):
    """Have nothing begin in a run for now."""


class ResumeRun(_OnRun):
    """Have a paused run go on."""


class RerunRun(Command):
    """Do a run again that has ended.

    Attributes:
        from_task: A task of the workflow itself; empty for what failed or was not reached.
        version: The one that it had, or the one in force.
        refresh: It computes anew what could be taken from the cache; from a task, it does so in any case.
    """

    namespace: Namespace
    principal: str
    run_id: UUID
    from_task: TaskPath = ""
    version: Version = "pinned"
    refresh: bool = False


class SetTaskResult(_OnRun):
    """Say how an open task ends, in place of its worker."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    task: Annotated[TaskPath, Field(min_length=1)]
    state: Literal["succeeded", "failed", "skipped"]
    output: JsonValue = None

    @model_validator(mode="after")
    def _hands_on_what_it_can(self) -> Self:
        if self.state != "succeeded" and self.output is not None:
            raise ValueError(f"a task that is {self.state} hands on nothing: leave out output_json")
        if isinstance(self.output, dict) and "$plan" in self.output:
            raise ValueError("a plan is not set by hand: set what it would come to")
        return self


class ChangeRuns(Command):
    """Do one thing with the runs of a filter, a page of them.

    Attributes:
        states: Only runs in these; where there are none, those in which it can be done.
        since: Only runs created from then on.
        until: Only runs created before.
        before_run_id: Only runs older than this one.
        dry_run: Say what would be done, and change nothing.
    """

    namespace: Namespace
    principal: str
    action: Action
    workflow: str = ""
    trigger: str = ""
    states: tuple[RunState, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    before_run_id: UUID | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    dry_run: bool = False
    reason: Reason = ""
    grace_s: GraceS = CANCEL_GRACE_S
    force: bool = False
    from_task: TaskPath = ""
    version: Version = "pinned"
    refresh: bool = False
    signal: Annotated[str, Field(pattern=NAME)] | None = None
    data: JsonValue = None

    @field_validator("before_run_id", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _says_which_signal(self) -> Self:
        if self.action == "signal" and self.signal is None:
            raise ValueError("signal.signal is not set")
        return self

    @property
    def wanted(self) -> tuple[RunState, ...]:
        """The states of runs that it is about."""
        ending = (RunState.ENDING,) if self.force else ()
        return self.states or (*_STATES[self.action], *ending)
