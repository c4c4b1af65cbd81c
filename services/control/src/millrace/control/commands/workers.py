"""What workers that lease their tasks can ask, checked at the edge."""

from typing import Annotated
from uuid import UUID

from millrace.contracts.event import Namespace
from millrace.contracts.tasks import Carried, Output
from millrace.core.parts import NAME
from millrace.runtime.command import Command
from pydantic import Field

MOST_TASKS = 500
MAX_WAIT_S = 60.0
MAX_OUTPUT_BYTES = 64 * 1024

Label = Annotated[str, Field(min_length=1, max_length=128)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LeaseTasks(Command):
    """Take tasks of a queue.

    Attributes:
        life: Which of the worker's lives asks.
        wait_s: How long it waits where there is nothing, seconds.
        except_kinds: Kinds that it has no place for now.
    """

    namespace: Namespace
    request_id: Label
    queue: Annotated[str, Field(pattern=NAME)]
    worker: Label
    life: Label
    max_tasks: Annotated[int, Field(ge=1, le=MOST_TASKS)] = 1
    wait_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] = 0.0
    except_kinds: Annotated[tuple[str, ...], Field(max_length=1000)] = ()


class OfAttempt(Command):
    """Something that is said of one attempt."""

    task_id: UUID
    attempt: Annotated[int, Field(ge=1)]
    token: UUID

    @property
    def place(self) -> tuple[UUID, int, UUID]:
        """Return what names the attempt, and its token."""
        return self.task_id, self.attempt, self.token


class Beat(OfAttempt):
    """An attempt goes on.

    Attributes:
        carried: What it leaves to the next one; None where that is what was said before.
    """

    fraction: Fraction = 0.0
    message: Annotated[str, Field(max_length=200)] = ""
    carried: Carried | None = None


class KeepAlive(Command):
    """Keep leases, and what attempts leave."""

    namespace: Namespace
    beats: Annotated[tuple[Beat, ...], Field(max_length=MOST_TASKS)]


class Result(OfAttempt):
    """An attempt has ended, with what it hands on or with an error.

    Attributes:
        output: What it hands on; None where it failed.
        carried: What it leaves to the next one; None where that is what was said before.
    """

    duration_s: Seconds = 0.0
    cpu_s: Seconds = 0.0
    output: Output | None = None
    error: Annotated[str, Field(max_length=256)] = ""
    message: Annotated[str, Field(max_length=2000)] = ""
    retryable: bool = True
    carried: Carried | None = None


class CompleteTasks(Command):
    """Take how attempts have ended."""

    namespace: Namespace
    results: Annotated[tuple[Result, ...], Field(max_length=MOST_TASKS)]
