"""What control can be asked about schedules, checked at the edge."""

from datetime import datetime
from typing import Annotated, Self

from millrace.contracts.event import Namespace
from millrace.core.errors import InvalidDocument
from millrace.core.parts import TRIGGER_NAME
from millrace.core.schedules import HORIZON, MAX_SCHEDULE_BYTES, Schedule, parse_schedule
from millrace.core.schedules.document import Moment
from millrace.core.yaml import load_document
from millrace.runtime.command import Command
from millrace.runtime.errors import InvalidInput
from pydantic import Field, model_validator

BACKFILL_ID = r"^[A-Za-z0-9][A-Za-z0-9_.:+\-]{0,126}$"
MAX_PREVIEW = 1_000
MAX_AT_ONCE = 100

ScheduleName = Annotated[str, Field(pattern=TRIGGER_NAME)]


class ApplySchedule(Command):
    """Put a schedule in force."""

    namespace: Namespace
    principal: str
    schedule: Schedule


class NamedSchedule(Command):
    """Do something with a schedule: look at it, pause, resume or delete it."""

    namespace: Namespace
    principal: str
    name: ScheduleName


class PreviewSchedule(Command):
    """Look at a schedule's next moments.

    Attributes:
        name: A schedule in force; empty where a document is given.
        after: Where to begin; None for now.
    """

    namespace: Namespace
    name: Annotated[str, Field(pattern=rf"{TRIGGER_NAME}|^$")] = ""
    schedule: Schedule | None = None
    count: Annotated[int, Field(ge=1, le=MAX_PREVIEW)] = 10
    after: Moment | None = None

    @model_validator(mode="after")
    def _is_about_one(self) -> Self:
        if bool(self.name) == (self.schedule is not None):
            raise ValueError("say which: the `name` of a schedule in force, or a `schedule` document")
        return self


class StartBackfill(Command):
    """Start runs for moments of the past.

    Attributes:
        backfill_id: With one, moments that had a run have another; without one, only those that had none have one.
        at_once: How many of its runs may be under way together.
    """

    namespace: Namespace
    principal: str
    schedule: ScheduleName
    backfill_id: Annotated[str, Field(pattern=rf"{BACKFILL_ID}|^$")] = ""
    from_at: Moment
    to_at: Moment
    newest_first: bool = False
    at_once: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 1
    dry_run: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.from_at >= self.to_at:
            raise ValueError("`from` is not before `to`")
        if self.to_at - self.from_at > HORIZON:
            raise ValueError("the range is longer than 50 years; ask for it in parts")
        return self

    @property
    def id(self) -> str:
        """Return what it is called: as was said, or by its range."""
        return self.backfill_id or f"{_short(self.from_at)}..{_short(self.to_at)}"


class CancelBackfill(Command):
    """Start no more of a backfill."""

    namespace: Namespace
    principal: str
    schedule: ScheduleName
    backfill_id: Annotated[str, Field(pattern=BACKFILL_ID)]
    cancel_runs: bool = False


def read_schedule(text: str) -> Schedule:
    """Return the schedule in YAML or JSON text.

    Raises:
        InvalidInput: It is not a valid one; each problem is named.
    """
    if len(text.encode()) > MAX_SCHEDULE_BYTES:
        raise InvalidInput(f"the schedule has more than {MAX_SCHEDULE_BYTES} bytes")
    try:
        return parse_schedule(load_document(text, "schedule"))
    except InvalidDocument as error:
        raise InvalidInput(str(error)) from error


def _short(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
