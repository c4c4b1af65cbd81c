"""What starts a flow: triggers and schedules, declared beside it and traced into the documents that YAML would say."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Literal, TypedDict, Unpack

from millrace.core.errors import InvalidDocument
from millrace.core.ir import Workflow
from millrace.core.schedules import Schedule, parse_schedule
from millrace.core.triggers import Strategy, Trigger, parse_trigger
from millrace.sdk.flows.refs import Condition, Place, Ref, place_of, plain, pointer_text
from millrace.sdk.flows.steps import moment_text
from millrace.sdk.flows.trace import author_line, pointed_at

Document = Mapping[str, Any]

event = Ref(Place(("trigger",), "trigger"))
"""The event that a trigger looks at: in a condition (`event.data.month <= 12`), or as a place (`key=event.data.id`)."""

moment = Ref(Place(("schedule",), "schedule"))
"""The moment that a run of a schedule is for: `data={"day": moment.date}`."""


def text(template: str) -> dict[str, str]:
    """Return a text with values of the moment in it: `text("s3://landing/$year/$month/$day.csv")`."""
    return {"$text": template}


class TriggerOptions(TypedDict, total=False):
    """What else a trigger may say; in each of it, conditions and references stand for what they mean.

    Attributes:
        when: An event for which it is false is not taken; as text, CEL over `trigger`.
        dedupe: Where in the event it is what makes it another one.
        key: Where the key is by which events are joined, batched or debounced.
        join: `{"of": "all", "members": [{"name": …, "source": {"topic": …}}, …], "window_s": …}`, …
        mode: Whether each event has its run, or the newest of those that wait, or some together.
        batch: `{"size": 100, "within_s": 60}`.
        debounce: `{"quiet_s": 30, "at_most_s": 300}`.
        throttle: `{"runs": 10, "per_s": 60, "burst": 20}`.
        strategy: What becomes of a run while another of the trigger is under way.
        limit: With `parallel`: how many may be under way.
        paused: It starts nothing.
        on_paused: What becomes of events meanwhile.
    """

    when: Condition | str
    dedupe: Ref | str
    key: Ref | str
    join: Document
    mode: Literal["per_event", "latest", "batch"]
    batch: Document
    debounce: Document
    throttle: Document
    strategy: Strategy
    limit: int
    paused: bool
    on_paused: Literal["queue", "drop"]


class ScheduleOptions(TypedDict, total=False):
    """What else a schedule may say.

    Attributes:
        zone: An IANA time zone; UTC where it is not said.
        exclude: Days on which nothing is started: `[{"dates": [date(2026, 12, 24)]}]`.
        start: No moment is before this one.
        end: Nor at this one or after it.
        dst: `{"skipped": "after", "doubled": "first"}`: times of day that do not exist, or come twice.
        jitter_s: The most by which a start is late on purpose.
        strategy: What runs of it do to one another.
        limit: With `parallel`: how many may be under way.
        late_after_s: What could not be started for longer than this has been missed.
        catch_up: What is started of what was missed.
        catch_up_window_s: Not what was missed longer ago than this.
        on_paused: What becomes of what comes due while it is paused.
        data: What a run starts with, with `moment` and `text(…)` in it.
    """

    zone: str
    exclude: Sequence[Document]
    start: datetime
    end: datetime
    dst: Document
    jitter_s: float
    strategy: Strategy
    limit: int
    late_after_s: float
    catch_up: Literal["all", "latest", "none"]
    catch_up_window_s: float
    on_paused: Literal["queue", "drop"]
    data: Any


class Starts:
    """A flow with what starts it.

    Attributes:
        workflow: What is started.
        triggers: By events, in the order in which they were declared.
        schedules: By time, likewise.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.triggers: list[Trigger] = []
        self.schedules: list[Schedule] = []

    def on(
        self,
        topic: str | Document | None = None,
        *,
        name: str = "",
        type: str | None = None,  # noqa: A002 - the field's name everywhere
        source: str | None = None,
        subject: str | None = None,
        **options: Unpack[TriggerOptions],
    ) -> Trigger:
        """Declare a trigger: runs are started for events of a topic; return it as it will be applied.

        Args:
            topic: Its name, or a pattern; or the source whole: `{"topic": "stock", "format": "json", "id": "/id"}`. It
                may be left out where each member of a join has a source of its own.
            name: The trigger's; the flow's where it is not given.
            type: What an event's type must be, or with a `*` at its end what it begins with.
            source: Likewise its source.
            subject: Likewise its subject.
            options: What else it says.

        Raises:
            InvalidDocument: It cannot be used as it stands; it names the line in which it was declared.
            ValueError: The flow has a trigger of this name already.
        """
        wanted = {"type": type, "source": source, "subject": subject}
        document = {
            "name": self._free_name("trigger", name, self.triggers),
            "workflow": self.workflow.name,
            "source": {"topic": topic} if isinstance(topic, str) else topic,
            "filter": {part: one for part, one in wanted.items() if one is not None},
            **options,
        }
        try:
            made = parse_trigger(_written({field: value for field, value in document.items() if value is not None}))
        except InvalidDocument as error:
            raise pointed_at(error, author_line()) from None
        self.triggers.append(made)
        return made

    def cron(self, cron: str, *, name: str = "", **options: Unpack[ScheduleOptions]) -> Schedule:
        """Declare a schedule by five fields, or `@hourly`, `@daily`, …; return it as it will be applied.

        Args:
            cron: Minute, hour, day of month, month, day of week.
            name: The schedule's; the flow's where it is not given.
            options: What else it says.

        Raises:
            InvalidDocument: It cannot be used as it stands; it names the line in which it was declared.
            ValueError: The flow has a schedule of this name already, or a moment has no offset from UTC.
        """
        return self._scheduled({"cron": cron}, name, options)

    def every(self, interval: timedelta, *, name: str = "", **options: Unpack[ScheduleOptions]) -> Schedule:
        """Declare a schedule of moments at the same distance, whole seconds; as `cron` otherwise."""
        seconds = interval.total_seconds()
        return self._scheduled({"interval": {"every_s": int(seconds) if seconds % 1 == 0 else seconds}}, name, options)

    def calendar(
        self,
        *at: str | time,
        days: Iterable[Document] = (),
        name: str = "",
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Declare a schedule of times of some days, every day where none are given; as `cron` otherwise."""
        return self._scheduled({"calendar": {"at": [*at], "days": [*days]}}, name, options)

    def _scheduled(self, rule: Document, name: str, options: ScheduleOptions) -> Schedule:
        rest: dict[str, Any] = {**options}
        data = rest.pop("data", None)
        name = self._free_name("schedule", name, self.schedules)
        document = _written({"name": name, "workflow": self.workflow.name, **rule, **rest})
        if data is not None:
            document["data"] = plain(data, {})
        try:
            made = parse_schedule(document)
        except InvalidDocument as error:
            raise pointed_at(error, author_line()) from None
        self.schedules.append(made)
        return made

    def _free_name(self, what: str, given: str, there: Iterable[Trigger | Schedule]) -> str:
        name = given or self.workflow.name
        if any(one.name == name for one in there):
            raise ValueError(
                f"flow {self.workflow.name} has a {what} {name!r} already; give this one its own: name=..."
            )
        return name


def _written(value: Any, field: str = "") -> Any:  # noqa: ANN401 - JSON with what stands for some of it
    """Return what is declared as JSON: conditions as their text, references as pointers into the event, times as text.

    Raises:
        ValueError: Something is no part of an event, or a moment has no offset from UTC.
    """
    if isinstance(value, Mapping):
        return {name: _written(one, name) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_written(one) for one in value]
    if isinstance(value, Ref):
        return place_of(value).expression if field == "when" else _pointer(value)
    return _text_of(value)


def _text_of(value: Any) -> Any:  # noqa: ANN401 - likewise
    match value:
        case Condition():
            return value.text
        case datetime():
            return moment_text(value, "a moment")
        case date() | time():
            return value.isoformat()
    return value


def _pointer(ref: Ref) -> str:
    first, *rest = place_of(ref).pointer or ("",)
    if first != "trigger" or not rest:
        raise ValueError(f"{place_of(ref).expression} is no part of an event; one is event.data.id, or /data/id")
    return pointer_text(rest)
