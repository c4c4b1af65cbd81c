"""Parts of the workflow's representation that have no tasks in them, and JSON values with pointers in them."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from millrace.core.errors import InvalidDocument, Problem, problems_of
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

MAX_INPUT_DEPTH = 32
NAME = r"^[a-z][a-z0-9_]{0,62}$"
TRIGGER_NAME = r"^[a-z][a-z0-9_.\-]{0,126}$"
#: Of four bytes each, an index has room for so many.
MAX_KEY_CHARS = 512
WORKFLOW_NAME = r"^[a-z][a-z0-9_.\-]{0,126}$"
DAY_S = 86_400
#: The longest that a run may last or wait: a year.
MAX_WAIT_S = 366 * DAY_S
MEMORY = r"^[0-9]{1,9}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_UNITS = {"": 1} | {u: 1_000**n for n, u in enumerate("kMGT", 1)} | {f"{u}i": 1_024**n for n, u in enumerate("KMGT", 1)}

Name = Annotated[str, Field(pattern=NAME)]


class Part(BaseModel):
    """Part of a document: it never changes, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Backoff(Part):
    """How often something is tried, and how long to wait between attempts.

    Attributes:
        max_attempts: Attempts that may end by an error of the work itself, the first one included.
        backoff_s: Wait before the second attempt.
        factor: What each further wait is multiplied by.
        max_backoff_s: The longest wait; that before the second attempt where that is longer.
        jitter: Share of a wait by which it varies, so that tasks that failed together do not return together.
    """

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    backoff_s: Annotated[float, Field(ge=0, le=86_400)] = 1.0
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    max_backoff_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2


class RetryRule(Backoff):
    """How often a task is tried after errors of some classes, or of which a condition holds.

    Attributes:
        errors: Classes of errors; all when there are none.
        when: CEL; besides what the task's `when` reads, `error.<task>` has `error` and `message`.
    """

    errors: tuple[str, ...] = ()
    when: str | None = None


class Retries(Backoff):
    """How often a task is tried, and how long to wait between attempts.

    Attributes:
        lost: Further attempts for those that ended without fault of the work: its worker was lost or preempted,
            nobody took it, or something that it needs was down.
        rules: The first that applies to the error of an attempt is followed instead.
    """

    lost: Annotated[int, Field(ge=0, le=1_000)] = 10
    rules: Annotated[tuple[RetryRule, ...], Field(max_length=20)] = ()


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
    """A pause that holds no worker: for so long, until a moment, or until something comes; exactly one of these.

    Attributes:
        for_s: Seconds from when its needs are settled.
        until: An RFC 3339 time with its offset; one that has passed is waited for no more.
        signal: The name of a signal that somebody sends the run; one that came before is not waited for. The task hands
            on what came with it.
        event: The name of a trigger without a workflow: the next event that it takes is waited for, and handed on
            whole, as conditions of triggers see it.
        key: Of those events only one under this key of the trigger: text, a number or a boolean.
    """

    for_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] | Pointer | None = None
    until: str | Pointer | None = None
    signal: Name | None = None
    event: Annotated[str, Field(pattern=TRIGGER_NAME)] | None = None
    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARS)] | Pointer | None = None

    @model_validator(mode="after")
    def _is_one_wait(self) -> Self:
        if [self.for_s, self.until, self.signal, self.event].count(None) != 3:  # noqa: PLR2004 - all but one
            raise ValueError("a wait has exactly one of `for_s`, `until`, `signal`, `event`")
        if self.key is not None and self.event is None:
            raise ValueError("`key` says which `event` is waited for")
        return self


class Subflow(Part):
    """A run of another workflow, of the version in force when its turn has come; the task hands on what that does.

    Attributes:
        workflow: Its name, in the same namespace.
        data: What it starts with, `$from` in it leading into this run.
        on_stop: What becomes of it when this task is stopped: it is cancelled and waited for, or goes on by itself.
    """

    workflow: Annotated[str, Field(pattern=WORKFLOW_NAME)]
    data: JsonValue = None
    on_stop: Literal["cancel", "abandon"] = "cancel"


class FormField(Part):
    """What is asked of whoever decides: a text, a number, a yes or no, or one of some choices."""

    type: Literal["text", "number", "boolean", "choice"] = "text"
    label: Annotated[str, Field(max_length=200)] = ""
    choices: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    required: bool = True

    @model_validator(mode="after")
    def _has_what_can_be_chosen(self) -> Self:
        if (self.type == "choice") != bool(self.choices):
            raise ValueError("`choices` are for a field of type choice, which has at least one")
        return self


class Approve(Part):
    """A decision of people; nobody is held up meanwhile. Who started the run may not decide.

    Attributes:
        title: What is to be decided.
        assignees: Who may decide; with `role`, they besides.
        role: Whoever has this role or a higher one in the namespace may decide; where nobody is named either, EDIT.
        need: How many must approve. One who rejects is enough to reject.
        form: What is asked of each who approves.
        rejected: What then happens: the run ends, or goes on with `approved: false` in the task's output.
        expired: The same when the task's `timeout_s` is over; `approve` takes silence for consent.
    """

    title: str | Pointer = ""
    assignees: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    role: Literal["READ", "EDIT", "MANAGE"] | None = None
    need: Annotated[int, Field(ge=1, le=100)] = 1
    form: Annotated[dict[Name, FormField], Field(max_length=50)] = {}
    rejected: Literal["refused", "failed", "go_on"] = "refused"
    expired: Literal["refused", "failed", "go_on", "approve"] = "failed"

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.assignees and self.role is None and self.need > len(self.assignees):
            raise ValueError(f"need {self.need} is more than the {len(self.assignees)} assignees")
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


class Cache(Part):
    """That a result which was computed before is taken instead of doing the work again.

    Attributes:
        version: Of the code that does the work, as its author counts it; another version, another result.
        key: What the result depends on besides the input, `$from` in it leading into the run.
        ignore: Fields of the input that it does not depend on.
        expires_s: How old a result may be that is taken, and how long one is kept.
    """

    version: Annotated[str, Field(max_length=200)] = ""
    key: JsonValue = None
    ignore: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    expires_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] = 86_400.0


class Deadline(Part):
    """When something is to be done by, and what happens when it is not; exactly one of `after_s` and `at`.

    Attributes:
        after_s: Seconds from when the run started, or from when the task's needs were settled.
        at: An RFC 3339 time with its offset.
        action: Besides that it is told: nothing, or it fails, or it is cancelled.
    """

    after_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] | Pointer | None = None
    at: str | Pointer | None = None
    action: Literal["notify", "fail", "cancel"] = "notify"

    @model_validator(mode="after")
    def _is_one_moment(self) -> Self:
        if (self.after_s is None) == (self.at is None):
            raise ValueError("a deadline has exactly one of `after_s`, `at`")
        return self


class Resources(Part):
    """What a worker needs to do an attempt; who has it, the team whose queue it is decides.

    Attributes:
        cpu: Cores.
        memory: Bytes, with `Ki`, `Mi`, `Gi`, `Ti` or `k`, `M`, `G`, `T` behind the number: `512Mi`, `1.5Gi`.
        gpu: Devices; less than one is a share of one.
        gpu_type: Of which kind, such as `a100`.
    """

    cpu: Annotated[float, Field(gt=0, le=4_096)] | None = None
    memory: Annotated[str, Field(pattern=MEMORY)] | None = None
    gpu: Annotated[float, Field(gt=0, le=1_024)] | None = None
    gpu_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._\-]{0,62}$")] | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.cpu is None and self.memory is None and self.gpu is None:
            raise ValueError("resources have at least one of `cpu`, `memory`, `gpu`")
        if self.gpu_type is not None and self.gpu is None:
            raise ValueError("`gpu_type` says of which kind the `gpu` are; say how many")
        return self

    @property
    def memory_bytes(self) -> int | None:
        """How much memory, in bytes."""
        if self.memory is None:
            return None
        number = self.memory.rstrip("KkMGTi")
        return int(Decimal(number) * _UNITS[self.memory.removeprefix(number)])

    def needed(self) -> dict[str, Any]:
        """Return what is said, with the memory in bytes: `cpu`, `memory_bytes`, `gpu`, `gpu_type`."""
        every = {"cpu": self.cpu, "memory_bytes": self.memory_bytes, "gpu": self.gpu, "gpu_type": self.gpu_type}
        return {name: amount for name, amount in every.items() if amount is not None}


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
