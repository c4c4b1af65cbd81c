"""Parts of the workflow's representation that have no tasks in them, and JSON values with pointers in them."""

import json
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from millrace.core.errors import InvalidDocument, Problem, problems_of
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

MAX_INPUT_DEPTH = 32
#: The longest that a run may last or wait: a year.
MAX_WAIT_S = 366 * 86_400


class Part(BaseModel):
    """Part of a document: it never changes, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Retries(Part):
    """How often a task is tried, and how long to wait between attempts.

    Attributes:
        max_attempts: Attempts that may end by an error of the work itself, the first one included.
        backoff_s: Wait before the second attempt.
        factor: What each further wait is multiplied by.
        jitter: Share of a wait by which it varies, so that tasks that failed together do not return together.
        lost: Further attempts for those that ended without fault of the work: worker lost, nobody took it, or something
            that it needs was down.
    """

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    backoff_s: Annotated[float, Field(ge=0, le=86_400)] = 1.0
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    max_backoff_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    lost: Annotated[int, Field(ge=0, le=1_000)] = 10


class Pointer(Part):
    """A value taken from the trigger, an earlier output or the run: `{"$from": "/tasks/ingest/output/version_id"}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)

    pointer: str = Field(alias="$from")
    default: JsonValue = None


class End(Part):
    """How a run ends when it gets here."""

    state: Literal["succeeded", "refused", "failed"]
    reason: str | Pointer = ""


class Wait(Part):
    """A pause that holds no worker: for so long, or until a moment; exactly one of the two.

    Attributes:
        for_s: Seconds from when its needs are settled.
        until: An RFC 3339 time with its offset; one that has passed is waited for no more.
    """

    for_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] | Pointer | None = None
    until: str | Pointer | None = None

    @model_validator(mode="after")
    def _is_one_wait(self) -> Self:
        if (self.for_s is None) == (self.until is None):
            raise ValueError("a wait has either `for_s` or `until`")
        return self


class Gate(Part):
    """A condition that the run must meet to go on.

    Attributes:
        condition: CEL, as in `when`.
        otherwise: How the run ends when it is false.
        reason: What is then said.
    """

    condition: str
    otherwise: Literal["refused", "failed"] = "refused"
    reason: str | Pointer = ""


def canonical_json(document: JsonValue) -> bytes:
    """Return the one spelling of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def pointers_in(value: JsonValue, path: str = "input", depth: int = 0) -> Iterator[tuple[str, Pointer]]:
    """Yield each `$from` in a task's input with its place.

    Raises:
        InvalidDocument: One is malformed, or the input is nested too deep.
    """
    if depth > MAX_INPUT_DEPTH:
        raise InvalidDocument("input", [Problem(path, f"nested deeper than {MAX_INPUT_DEPTH} levels")])
    if isinstance(value, dict) and "$from" in value:
        try:
            yield path, Pointer.model_validate(value)
        except ValidationError as error:
            found = problems_of(error, "$from, default")
            raise InvalidDocument("input", [Problem(f"{path}.{p.field}", p.message) for p in found]) from error
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from pointers_in(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from pointers_in(item, f"{path}.{index}", depth + 1)
