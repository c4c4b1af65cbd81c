"""A schedule as a document: what it starts, when, and what becomes of moments that were missed."""

from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from millrace.core.errors import InvalidDocument, Problem, problems_of
from millrace.core.parts import DAY_S, TRIGGER_NAME, WORKFLOW_NAME, Part
from millrace.core.schedules.cron import every_hour, parse_cron
from millrace.core.schedules.template import check_template
from millrace.core.triggers.ir import Strategy
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

#: The longest interval, jitter and catch-up window: ten years.
MAX_S = 3660 * DAY_S
MAX_DATES = 1_000
FIRST_YEAR, LAST_YEAR = 1900, 2999
MAX_SPECS = 50
MAX_SCHEDULE_BYTES = 64 * 1024

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _day(value: object) -> object:
    """Let through only what is written as `2026-12-24`: a number is no date here."""
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no date such as 2026-12-24") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("a date is text such as 2026-12-24")


def _clock(value: object) -> object:
    if isinstance(value, str):
        try:
            found = time.fromisoformat(value)
        except ValueError:
            found = None
        if found is None or found.tzinfo is not None or found.microsecond:
            raise ValueError(f"{value!r} is no time of day such as 09:30")
        return found
    if isinstance(value, time):
        return value
    raise ValueError('a time of day is text such as "09:30", in quotes')


def _known_time(moment: datetime) -> datetime:
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"it is of the year {moment.year}; schedules are of {FIRST_YEAR} to {LAST_YEAR}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_known_time)]
Day = Annotated[date, BeforeValidator(_day)]
Clock = Annotated[
    time,
    BeforeValidator(_clock),
    WithJsonSchema({"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"}),
]
MonthDay = Annotated[int, Field(ge=-31, le=31)]


class Days(Part):
    """Some days: those for which all that is given holds.

    Attributes:
        dates: These days, such as `2026-12-24`.
        from: From this day on.
        to: Up to and including this day.
        months: Months, 1 to 12.
        month_days: Days of the month, 1 to 31; -1 is its last day, -2 the day before.
        weekdays: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`.
        nth: With `weekdays`: only the first (1), the third (3), the last (-1), … of them in their month.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)

    dates: Annotated[tuple[Day, ...], Field(max_length=MAX_DATES)] = ()
    from_: Day | None = Field(None, alias="from")
    to: Day | None = None
    months: Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(max_length=12)] = ()
    month_days: Annotated[tuple[MonthDay, ...], Field(max_length=62)] = ()
    weekdays: Annotated[tuple[Weekday, ...], Field(max_length=7)] = ()
    nth: Annotated[tuple[Annotated[int, Field(ge=-5, le=5)], ...], Field(max_length=10)] = ()

    @cached_property
    def date_set(self) -> frozenset[date]:
        """Return the dates, as they are looked up."""
        return frozenset(self.dates)

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError("it names no day; give `dates`, `from`, `to`, `months`, `month_days` or `weekdays`")
        if 0 in self.month_days or 0 in self.nth:
            raise ValueError("`month_days` and `nth` count from 1, and from the end from -1; there is no 0")
        if self.nth and not self.weekdays:
            raise ValueError("`nth` counts `weekdays` in their month, and none are given")
        if self.from_ is not None and self.to is not None and self.from_ > self.to:
            raise ValueError(f"`from` {self.from_} is after `to` {self.to}")
        return self


class Calendar(Part):
    """Times of some days.

    Attributes:
        at: Times of day, such as `09:30`.
        days: A day is one of them if any of these says so; every day when there are none.
    """

    at: Annotated[tuple[Clock, ...], Field(min_length=1, max_length=MAX_SPECS)]
    days: Annotated[tuple[Days, ...], Field(max_length=MAX_SPECS)] = ()


class Interval(Part):
    """Moments at the same distance, counted from the schedule's `start`, or else from 1970-01-01T00:00:00Z.

    Attributes:
        every_s: Seconds that pass between them, whatever clocks are set to.
    """

    every_s: Annotated[int, Field(ge=1, le=MAX_S)]


class Dst(Part):
    """What becomes of a time of day when clocks are set.

    Attributes:
        skipped: A time that does not exist: it is `after` the gap, in its first moment; it is `shift`ed by as much as
            clocks are (02:30 is then 03:30); or `skip`ped.
        doubled: A time that comes twice: its `first` coming, its `second`, or `both`.
    """

    skipped: Literal["after", "shift", "skip"]
    doubled: Literal["first", "second", "both"]


def _as_usual(known: dict[str, Any]) -> Dst | None:
    """Return what cron does: rules for every hour follow the time that passes, others are kept once a day."""
    if known.get("interval") is not None:
        return None
    if every_hour(known.get("cron") or ""):
        return Dst(skipped="skip", doubled="both")
    return Dst(skipped="after", doubled="first")


class Schedule(Part):
    """A rule that starts a run of `workflow` at moments: those of exactly one of `cron`, `interval` and `calendar`.

    Attributes:
        cron: Five fields: minute, hour, day of month, month, day of week; or `@hourly`, `@daily`, `@weekly`,
            `@monthly`, `@yearly`.
        zone: An IANA time zone, such as `Europe/Berlin`; all times of day and days are in it.
        exclude: Days, by the schedule's zone, on which nothing is started.
        start: Moments before this are none of its.
        end: Nor are this and those after it.
        dst: Without it, a time that does not exist is `after` the gap and one that comes twice is its `first`; a cron
            whose minute or hour begins with `*` skips what does not exist and takes both of what comes twice.
        jitter_s: The most by which a start is late on purpose, the same for the same schedule and moment; never as much
            as until the next moment.
        strategy: What runs of it do to one another, as for a trigger.
        limit: With `parallel`, how many may be under way together; without it, any number.
        late_after_s: What could not be started for longer than this has been missed.
        catch_up: What is started of what was missed: `all`, in order; only the `latest`; or `none`.
        catch_up_window_s: What was missed longer ago than this is not caught up.
        on_paused: What comes due while it is paused: `drop`, or `queue` to catch it up as `catch_up` says.
        data: What a run starts with: `{$from: /schedule/…}` stands for a value of the moment, `{$text: …}` for a text
            with such values in it.
    """

    name: Annotated[str, Field(pattern=TRIGGER_NAME)]
    workflow: Annotated[str, Field(pattern=WORKFLOW_NAME)]
    cron: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    interval: Interval | None = None
    calendar: Calendar | None = None
    zone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    exclude: Annotated[tuple[Days, ...], Field(max_length=MAX_SPECS)] = ()
    start: Moment | None = None
    end: Moment | None = None
    dst: Dst | None = Field(default_factory=_as_usual)
    jitter_s: Annotated[float, Field(ge=0, le=MAX_S)] = 0.0
    strategy: Strategy = "queue"
    limit: Annotated[int, Field(ge=1, le=1_000)] | None = None
    late_after_s: Annotated[float, Field(ge=1, le=MAX_S)] = 60.0
    catch_up: Literal["all", "latest", "none"] = "latest"
    catch_up_window_s: Annotated[float, Field(ge=0, le=MAX_S)] = 7 * DAY_S
    on_paused: Literal["queue", "drop"] = "drop"
    data: JsonValue = None

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if [self.cron, self.interval, self.calendar].count(None) != 2:  # noqa: PLR2004 - all but one
            raise ValueError("a schedule has exactly one of `cron`, `interval`, `calendar`")
        try:
            ZoneInfo(self.zone)
        except (LookupError, ValueError, OSError):
            raise ValueError(f"zone: {self.zone!r} is no IANA time zone such as Europe/Berlin") from None
        if self.cron is not None:
            parse_cron(self.cron)
        if (self.interval is None) != (self.dst is not None):
            raise ValueError("`dst` says both `skipped` and `doubled`, or is left out; an interval has none")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("`start` is not before `end`")
        if self.limit is not None and self.strategy != "parallel":
            raise ValueError(f"`limit` is of the strategy parallel; with {self.strategy} one run at a time goes on")
        check_template(self.data)
        return self

    @property
    def tz(self) -> ZoneInfo:
        """Return its zone."""
        return ZoneInfo(self.zone)

    @property
    def window(self) -> timedelta:
        """Return how far back it catches up."""
        return timedelta(seconds=self.catch_up_window_s)

    def document(self) -> dict[str, Any]:
        """Return it as JSON, with what it says without being told."""
        whole = self.model_dump(mode="json", exclude_none=True)
        short = self.model_dump(mode="json", exclude_defaults=True)
        return {name: short.get(name, value) for name, value in whole.items()}

    def same_moments(self, other: "Schedule") -> bool:
        """Return whether both are of the same moments, and so differ in what is started at most."""
        said = {"cron", "interval", "calendar", "zone", "exclude", "start", "end", "dst"}
        return self.model_dump(include=said) == other.model_dump(include=said)


def parse_schedule(document: JsonValue) -> Schedule:
    """Return the schedule that a JSON document describes.

    Raises:
        InvalidDocument: It is not one; each problem names its field.
    """
    try:
        return Schedule.model_validate(document)
    except ValidationError as error:
        known = (
            f"{', '.join(Schedule.model_fields)}; of calendar {', '.join(Calendar.model_fields)}; of interval "
            f"{', '.join(Interval.model_fields)}; of dst {', '.join(Dst.model_fields)}; of days "
            f"{', '.join(field.alias or name for name, field in Days.model_fields.items())}"
        )
        raise InvalidDocument("schedule", problems_of(error, known)) from error
    except RecursionError as error:
        raise InvalidDocument("schedule", [Problem("data", "nested too deep")]) from error
