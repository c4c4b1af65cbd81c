"""Sources and triggers: which events are read, and which of them start a run of what."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

from millrace.core.errors import InvalidDocument, problems_of
from millrace.core.expression import ExpressionFailed, InvalidExpression, compile_condition
from millrace.core.parts import WORKFLOW_NAME
from millrace.core.pointer import PointerMissing, parse_pointer, resolve
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

TRIGGER_VARIABLES = frozenset({"trigger"})
TOPIC = r"^[A-Za-z0-9._\-]{1,249}$"
TRIGGER_NAME = r"^[a-z][a-z0-9_.\-]{0,126}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """A Kafka topic whose records are events of one namespace.

    Attributes:
        format: `cloudevents` (1.0, binary or structured), or `json`: any JSON object.
        id: For `json`: pointer to the event's id; without it, its place in the topic is its id.
        type: For `json`: the type that its events have.
        start: Where reading begins the first time.
    """

    topic: Annotated[str, Field(pattern=TOPIC)]
    format: Literal["cloudevents", "json"] = "cloudevents"
    id: str | None = None
    type: Annotated[str, Field(max_length=256)] | None = None
    start: Literal["earliest", "now"] = "earliest"

    @model_validator(mode="after")
    def _fits_its_format(self) -> Self:
        if self.format == "cloudevents" and (self.id is not None or self.type is not None):
            raise ValueError("`id` and `type` are for format json; a CloudEvent has its own")
        if self.id is not None:
            parse_pointer(self.id)
        return self


class Filter(_Part):
    """What an event must be; a part that is not given holds for every event.

    Attributes:
        subject: The subject, or with a `*` at its end what it starts with.
    """

    type: Annotated[str, Field(max_length=256)] | None = None
    source: Annotated[str, Field(max_length=1024)] | None = None
    subject: Annotated[str, Field(max_length=1024)] | None = None


class Trigger(_Part):
    """A rule that starts a run of `workflow` for each event that it takes.

    Attributes:
        source: Where its events come from; a topic has one source in a namespace, shared by its triggers.
        when: CEL over `trigger`; an event for which it is false is not taken.
        dedupe: Pointer into the event; events with the same value start one run. Default: its source and id.
        strategy: `queue`: one run at a time, in order. `parallel`: each at once.
        paused: It takes no event.
    """

    name: Annotated[str, Field(pattern=TRIGGER_NAME)]
    workflow: Annotated[str, Field(pattern=WORKFLOW_NAME)]
    source: Source
    filter: Filter = Filter()
    when: str | None = None
    dedupe: str | None = None
    strategy: Literal["queue", "parallel"] = "parallel"
    paused: bool = False

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.when is not None:
            try:
                compile_condition(self.when, TRIGGER_VARIABLES)
            except InvalidExpression as error:
                raise ValueError(f"when: {error}") from error
        if self.dedupe is not None:
            parse_pointer(self.dedupe)
        return self


@dataclass(frozen=True, slots=True)
class Event:
    """An event from outside, whatever form it came in."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: JsonValue

    def document(self) -> dict[str, Any]:
        """Return it as conditions and pointers see it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Match:
    """Whether a trigger takes an event.

    Attributes:
        dedupe_key: Two taken events with the same key start one run.
        reason: Why it is not taken; empty if it is.
    """

    taken: bool
    reason: str = ""
    dedupe_key: str = ""


def match(trigger: Trigger, event: Event) -> Match:
    """Return whether `trigger` takes `event`, and if not, which part of it did not hold."""
    if trigger.paused:
        return Match(taken=False, reason="the trigger is paused")
    for part, wanted, found in (
        ("type", trigger.filter.type, event.type),
        ("source", trigger.filter.source, event.source),
        ("subject", trigger.filter.subject, event.subject),
    ):
        if wanted is not None and not _fits(part, wanted, found):
            return Match(taken=False, reason=f"its {part} is {found!r}; the trigger wants {wanted!r}")
    document = event.document()
    if reason := _refuses(trigger, document):
        return Match(taken=False, reason=reason)
    return _taken(trigger, event, document)


def _taken(trigger: Trigger, event: Event, document: Mapping[str, Any]) -> Match:
    if trigger.dedupe is None:
        return Match(taken=True, dedupe_key=f"{event.source} {event.id}")
    try:
        key = resolve(document, parse_pointer(trigger.dedupe))
    except PointerMissing as error:
        return Match(taken=False, reason=f"it has no dedupe key: {error}")
    if isinstance(key, dict | list) or key is None:
        return Match(taken=False, reason=f"its dedupe key at {trigger.dedupe} is not text, a number or a boolean")
    return Match(taken=True, dedupe_key=str(key))


def _fits(part: str, wanted: str, found: str) -> bool:
    if part == "subject" and wanted.endswith("*"):
        return found.startswith(wanted[:-1])
    return found == wanted


def _refuses(trigger: Trigger, document: Mapping[str, Any]) -> str:
    if trigger.when is None:
        return ""
    condition = compile_condition(trigger.when, TRIGGER_VARIABLES)
    try:
        return "" if condition.holds({"trigger": document}) else f"{trigger.when!r} is false for it"
    except ExpressionFailed as error:
        return str(error)


def parse_trigger(document: JsonValue) -> Trigger:
    """Return the trigger that a JSON document describes.

    Raises:
        InvalidDocument: It is not one; each problem names its field.
    """
    try:
        return Trigger.model_validate(document)
    except ValidationError as error:
        known = (
            f"{', '.join(Trigger.model_fields)}; of source {', '.join(Source.model_fields)}; "
            f"of filter {', '.join(Filter.model_fields)}"
        )
        raise InvalidDocument("trigger", problems_of(error, known)) from error
