"""Where events come from, and what they must be."""

import re
from typing import Annotated, Literal, Self

from millrace.core.expression import InvalidExpression, compile_condition
from millrace.core.parts import Part
from millrace.core.pointer import parse_pointer
from pydantic import Field, model_validator

TRIGGER_VARIABLES = frozenset({"trigger"})
TOPIC = r"^[A-Za-z0-9._\-*]{1,249}$"


class Source(Part):
    """A Kafka topic, or all of a pattern, whose records are events of one namespace.

    Attributes:
        topic: Its name; a `*` in it stands for any characters. What a source names exactly is read as that says, what
            several patterns name as the longest says.
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

    @property
    def is_pattern(self) -> bool:
        """Whether it may be of several topics."""
        return "*" in self.topic

    def reads(self, topic: str) -> bool:
        """Return whether it is of a topic."""
        if not self.is_pattern:
            return topic == self.topic
        return re.fullmatch(".*".join(map(re.escape, self.topic.split("*"))), topic) is not None


class Filter(Part):
    """What an event must be; a part that is not given holds for every event.

    Attributes:
        type: The type, or with a `*` at its end what it starts with; likewise the others.
        subject: Of an event of ours, what it is about, such as a dataset.
    """

    type: Annotated[str, Field(max_length=256)] | None = None
    source: Annotated[str, Field(max_length=1024)] | None = None
    subject: Annotated[str, Field(max_length=1024)] | None = None


def check_condition(text: str | None) -> None:
    """Do nothing when a condition over `trigger` can be evaluated; else raise what is wrong with it."""
    if text is not None:
        try:
            compile_condition(text, TRIGGER_VARIABLES)
        except InvalidExpression as error:
            raise ValueError(f"when: {error}") from error


def check_pointer(text: str | None, field: str = "") -> None:
    """Do nothing when a text is a pointer; else raise what is wrong with it."""
    if text is not None:
        try:
            parse_pointer(text)
        except ValueError as error:
            raise ValueError(f"{field}: {error}" if field else str(error)) from error
