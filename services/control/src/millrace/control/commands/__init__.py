"""What control can be asked, checked at the edge."""

import json
from typing import Annotated, Any, Literal
from uuid import UUID

from millrace.contracts import SERVICES
from millrace.contracts.event import Namespace
from millrace.contracts.portable import portable
from millrace.core.errors import InvalidDocument
from millrace.core.ir import Workflow
from millrace.core.misfits import check_fits
from millrace.core.parse import parse_workflow
from millrace.core.parts import NAME
from millrace.core.state import RunState
from millrace.core.triggers import Trigger, parse_trigger
from millrace.core.yaml import load_document
from millrace.runtime.command import Command
from millrace.runtime.errors import InvalidInput
from pydantic import AwareDatetime, Field, JsonValue, field_validator

MAX_DATA_BYTES = 64 * 1024
MAX_LISTED = 500


class ApplyWorkflow(Command):
    """Put a workflow in force."""

    namespace: Namespace
    principal: str
    workflow: Workflow

    @field_validator("workflow")
    @classmethod
    def _can_be_done(cls, workflow: Workflow) -> Workflow:
        check_fits(workflow)
        return workflow


class GetWorkflow(Command):
    """Look at a workflow.

    Attributes:
        hash: A version's SHA-256, hex; empty for the one in force.
    """

    namespace: Namespace
    name: Annotated[str, Field(min_length=1, max_length=128)]
    hash: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


class ApplyTrigger(Command):
    """Put a trigger in force, with the source it listens to."""

    namespace: Namespace
    principal: str
    trigger: Trigger

    @field_validator("trigger")
    @classmethod
    def _is_not_read_already(cls, trigger: Trigger) -> Trigger:
        for source in trigger.sources():
            if carries_tasks(source.topic):
                raise ValueError(f"{source.topic} carries tasks; a trigger listens to facts, such as data.versions")
        return trigger


class ApplyQueue(Command):
    """Have a queue of a team's own."""

    namespace: Namespace
    principal: str
    queue: Annotated[str, Field(pattern=NAME)]
    transport: Literal["kafka", "grpc"] = "kafka"

    @field_validator("queue")
    @classmethod
    def _is_no_service(cls, queue: str) -> str:
        if queue in SERVICES:
            raise ValueError(f"{queue} is a service, which has its queue already")
        return queue


class ListNamed(Command):
    """Look at a page of a namespace's things that have names, by name.

    Attributes:
        after: Those whose names come after this one.
    """

    namespace: Namespace
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 50
    after: Annotated[str, Field(max_length=128)] = ""


class GetTrigger(Command):
    """Look at a trigger."""

    namespace: Namespace
    name: Annotated[str, Field(min_length=1, max_length=128)]


class PauseTrigger(Command):
    """Let a trigger start nothing."""

    namespace: Namespace
    principal: str
    name: Annotated[str, Field(min_length=1, max_length=128)]


class ResumeTrigger(PauseTrigger):
    """Let a trigger go on."""


class UnblockTrigger(PauseTrigger):
    """Let a strict sequence go on behind a run that has failed."""


class DeleteTrigger(PauseTrigger):
    """Take a trigger out of force."""


class StartRun(Command):
    """Start a run of a workflow's version in force.

    Attributes:
        refresh: It computes anew what could be taken from the cache.
    """

    namespace: Namespace
    principal: str
    workflow: Annotated[str, Field(min_length=1, max_length=128)]
    data: JsonValue = None
    refresh: bool = False


class SignalRun(Command):
    """Send a run a signal."""

    namespace: Namespace
    principal: str
    run_id: UUID
    signal: Annotated[str, Field(pattern=NAME)]
    data: JsonValue = None


class DecideTask(Command):
    """Approve or reject what a run waits for.

    Attributes:
        role: The most that who decides may do in the namespace, an `Action`.
    """

    namespace: Namespace
    principal: str
    role: int
    run_id: UUID
    task: Annotated[str, Field(min_length=1, max_length=2_000)]
    approve: bool
    comment: Annotated[str, Field(max_length=2_000)] = ""
    form: JsonValue = None


class ListApprovals(Command):
    """Look at what waits to be decided.

    Attributes:
        after: What waits since then or later, in the order of the time, the run and the task; as text, with spaces.
    """

    namespace: Namespace
    limit: Annotated[int, Field(ge=0, le=MAX_LISTED)] = 50
    after: tuple[AwareDatetime, UUID, str] | None = None

    @field_validator("after", mode="before")
    @classmethod
    def _as_told(cls, value: object) -> object:
        return value.split(" ", 2) if isinstance(value, str) and value else value or None


class GetRun(Command):
    """Look at one run."""

    namespace: Namespace
    run_id: UUID


class ShowRun(GetRun):
    """Look at one run, and a page of its items that are over.

    Attributes:
        items: In which state those are that are told; all when it is empty.
        after: As `Past.next_after` says it.
    """

    items: Literal["", "succeeded", "failed", "cancelled"] = ""
    limit: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    after: tuple[int, AwareDatetime, str] | None = None

    @field_validator("after", mode="before")
    @classmethod
    def _as_told(cls, value: object) -> object:
        return value.split(" ", 2) if isinstance(value, str) and value else value or None


class ListRuns(Command):
    """Look at the newest runs."""

    namespace: Namespace
    workflow: str = ""
    state: RunState | None = None
    limit: Annotated[int, Field(ge=0, le=MAX_LISTED)] = 50
    before_run_id: UUID | None = None

    @field_validator("state", "before_run_id", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None


class ExplainEvent(Command):
    """Ask why an event did or did not start a run.

    Attributes:
        source: Empty where only one event has the id.
    """

    namespace: Namespace
    source: Annotated[str, Field(max_length=1024)] = ""
    event_id: Annotated[str, Field(min_length=1, max_length=1024)]


def carries_tasks(topic: str) -> bool:
    """Return whether a topic is of orders and reports, which start no runs."""
    return topic.endswith(".tasks") or topic.startswith("control.tasks.")


def read_workflow(text: str) -> Workflow:
    """Return the workflow in YAML or JSON text.

    Raises:
        InvalidInput: It is not a valid one; each problem is named.
    """
    try:
        return parse_workflow(load_document(text, "workflow"))
    except InvalidDocument as error:
        raise InvalidInput(str(error)) from error


def read_trigger(text: str) -> Trigger:
    """Return the trigger in YAML or JSON text.

    Raises:
        InvalidInput: It is not a valid one; each problem is named.
    """
    try:
        return parse_trigger(load_document(text, "trigger"))
    except InvalidDocument as error:
        raise InvalidInput(str(error)) from error


def read_data(text: str, what: str = "data_json") -> Any:  # noqa: ANN401 - a JSON value is any value
    """Return the JSON in `text`; None for no text.

    Raises:
        InvalidInput: It is not JSON, or too large.
    """
    if not text:
        return None
    if len(text.encode()) > MAX_DATA_BYTES:
        raise InvalidInput(f"{what} has more than {MAX_DATA_BYTES} bytes: send a reference to it")
    return read_json(text, what)


def read_json(text: str, what: str) -> Any:  # noqa: ANN401 - a JSON value is any value
    """Return the JSON in `text`.

    Raises:
        InvalidInput: It is not JSON, or cannot be carried and kept (`portable`).
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from error
    try:
        portable(value)
    except ValueError as error:
        raise InvalidInput(f"{what} cannot be taken: {error}") from None
    return value
