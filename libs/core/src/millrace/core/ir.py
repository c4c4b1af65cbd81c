"""The workflow's intermediate representation: what YAML and Python flows both become, and what control runs."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from millrace.core.errors import InvalidDocument, Problem, problems_of
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

SCHEMA_VERSION = 1
MAX_TASKS = 500
MAX_WORKFLOW_BYTES = 256 * 1024
MAX_INPUT_DEPTH = 32
NAME = r"^[a-z][a-z0-9_]{0,62}$"
WORKFLOW_NAME = r"^[a-z][a-z0-9_.\-]{0,126}$"
KIND = r"^[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}$"

Name = Annotated[str, Field(pattern=NAME)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retries(_Part):
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


class Pointer(_Part):
    """A value taken from the trigger, an earlier output or the run: `{"$from": "/tasks/ingest/output/version_id"}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)

    pointer: str = Field(alias="$from")
    default: JsonValue = None


class End(_Part):
    """How a run ends when it gets here."""

    state: Literal["succeeded", "refused", "failed"]
    reason: str | Pointer = ""


class Task(_Part):
    """One node of a workflow: work dispatched to a queue (`kind`), or the end of the run (`end`).

    Attributes:
        kind: What work it is, `<service>.<verb>`.
        queue: Who is asked to do it; by default the part of `kind` before the dot.
        needs: Tasks that must be settled first.
        run_if: `succeeded`: skipped unless every need succeeded. `settled`: whatever became of the needs.
        when: CEL over `outputs.<task>`, `status.<task>` and `trigger`; the task is skipped when it is false.
        input: A JSON object; `{"$from": <JSON pointer>}` in place of a value in it stands for the value there.
        queue_timeout_s: From dispatch until a worker has started.
        run_timeout_s: From start until the result.
        heartbeat_timeout_s: Longest silence of a worker that has started.
    """

    kind: Annotated[str, Field(pattern=KIND)] | None = None
    queue: Name | None = None
    needs: tuple[str, ...] = ()
    run_if: Literal["succeeded", "settled"] = "succeeded"
    when: str | None = None
    input: dict[str, JsonValue] = {}
    retries: Retries = Retries()
    queue_timeout_s: Seconds = 3_600.0
    run_timeout_s: Seconds = 3_600.0
    heartbeat_timeout_s: Seconds = 60.0
    end: End | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if "$from" in self.input:
            raise ValueError("`input` is an object; write a `$from` in place of one of its values")
        if (self.kind is None) == (self.end is None):
            raise ValueError("a task has either `kind` (work to dispatch) or `end` (how the run ends)")
        if self.end is not None and (work := self.model_fields_set & _WORK_FIELDS):
            raise ValueError(f"an `end` task does no work, so it has no {', '.join(sorted(work))}")
        return self

    @property
    def work_queue(self) -> str:
        """The queue that its work is dispatched to."""
        return self.queue or (self.kind or "").split(".", 1)[0]


_WORK_FIELDS = {"queue", "input", "retries", "queue_timeout_s", "run_timeout_s", "heartbeat_timeout_s"}


class Workflow(_Part):
    """A workflow: named tasks and what each needs. Read one with `parse_workflow`, which also checks its graph."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=WORKFLOW_NAME)]
    description: Annotated[str, Field(max_length=2_000)] = ""
    timeout_s: Seconds = 86_400.0
    tasks: Annotated[dict[Name, Task], Field(min_length=1, max_length=MAX_TASKS)]

    def document(self) -> dict[str, Any]:
        """Return it as JSON without what is left at its default: the form that is hashed, stored and exchanged."""
        document = self.model_dump(mode="json", exclude_defaults=True)
        for name, task in self.tasks.items():
            if task.needs:
                document["tasks"][name]["needs"] = sorted(task.needs)
            if task.queue == (task.kind or "").split(".", 1)[0]:
                del document["tasks"][name]["queue"]
        return {"schema_version": self.schema_version, **document}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its canonical JSON, hexadecimal: equal for equal workflows, whatever they were written in."""
        return hashlib.sha256(canonical_json(self.document())).hexdigest()


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


KNOWN_FIELDS = (
    f"of a workflow {', '.join(Workflow.model_fields)}; of a task {', '.join(Task.model_fields)}; "
    f"of retries {', '.join(Retries.model_fields)}; of end {', '.join(End.model_fields)}"
)
