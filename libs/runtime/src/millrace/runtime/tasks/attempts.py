"""Attempts in this process, and what is reported of them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from millrace.contracts.openlineage import LineageReported, run_event
from millrace.contracts.portable import check_portable
from millrace.contracts.tasks import Carried, Output, TaskDispatched, TaskFailed, TaskProgressed, TaskSucceeded
from millrace.runtime.command import faults
from millrace.runtime.envelope import Envelope
from millrace.runtime.errors import InvalidInput, MillraceError
from millrace.runtime.subscriptions import TaskKind
from millrace.runtime.transaction import Transaction
from pydantic import TypeAdapter, ValidationError

Place = tuple[UUID, int]
"""What an attempt's row is known by: its task and its number."""

MAX_OUTPUT_BYTES = 64 * 1024
MAX_MESSAGE_CHARS = 2_000
_LEAVES = "the work has asked its process to end: a task ends by returning, or by raising an error"
_WHY = {
    "SystemExit": _LEAVES,
    "KeyboardInterrupt": _LEAVES,
    "CancelledError": "the work was cancelled from within: nobody has cancelled it from outside",
}
"""What is told of errors that are no text of the work's own, by their class."""
_OUTPUT = TypeAdapter(Output)  # building one takes longer than all else that a small task costs


@dataclass(eq=False)
class Attempt:
    """One leased attempt, in this process.

    Attributes:
        begun: When its work began; until then it waits for a slot.
        carried: What it leaves to the next attempt, as it is kept.
        untold: Whether that is not told yet.
        preempted: Whether its work has been told that the worker has to go.
        tells_child: Passes that on to where it computes.
        stopped: Whether its work was ended from here.
    """

    task: TaskDispatched
    kind: TaskKind
    envelope: Envelope | None
    accepted: float = field(default_factory=time.monotonic)
    begun: float | None = None
    announced: bool = False
    fraction: float = 0.0
    message: str = ""
    told: float = 0.0
    worker: asyncio.Task[None] | None = None
    carried: Carried | None = None
    untold: bool = False
    preempted: bool = False
    tells_child: Callable[[], None] | None = None
    stopped: bool = False

    @property
    def place(self) -> Place:
        """Return what its row is known by."""
        return (self.task.task_id, self.task.attempt)

    def cut(self) -> None:
        """Have nothing begin by itself after it."""
        self.task = self.task.model_copy(update={"chain": ()})

    def preempt(self) -> None:
        """Tell its work that the worker has to go; what waits for a slot goes at once."""
        self.preempted = True
        if self.tells_child is not None:
            self.tells_child()

    def stop(self) -> None:
        """End its work, wherever it is."""
        self.stopped = True
        if self.worker is not None:
            self.worker.cancel()


@dataclass(frozen=True, eq=False)
class Ended:
    """How an attempt's work ended: with a result, or with an error."""

    attempt: Attempt
    cpu_s: float
    result: Any = None
    error: str = ""
    message: str = ""
    retryable: bool = True


def kind_for(service: str, kinds: Mapping[str, TaskKind], order: TaskDispatched) -> TaskKind:
    """Return the kind of task that an order is of, of those that a service or a team's worker has.

    Raises:
        InvalidInput: There is none, or the order's input is none of it.
    """
    kind = kinds.get(order.kind)
    if kind is None:
        raise InvalidInput(f"{service} has no task {order.kind}: it has {', '.join(sorted(kinds))}")
    try:
        kind.input.model_validate(order.input)
    except ValidationError as error:
        raise InvalidInput(f"{order.kind}: {faults(error)}") from None
    return kind


def about(service: str, task: TaskDispatched) -> dict[str, Any]:
    """Return what every report says of its attempt."""
    same = ("namespace", "task_id", "attempt", "token", "run_id", "kind", "name", "workflow")
    return {"service": service} | {name: getattr(task, name) for name in same}


def failed(
    service: str,
    task: TaskDispatched,
    error: str,
    message: str,
    *,
    retryable: bool,
    carried: Carried | None = None,
) -> TaskFailed:
    """Return the report of an attempt that ended without its effects."""
    said = about(service, task)
    return TaskFailed(
        **said, error=error, message=plain(message, MAX_MESSAGE_CHARS), retryable=retryable, carried=carried
    )


def report_of(service: str, ended: Ended, *, went_on: bool = False) -> TaskSucceeded | TaskFailed:
    """Return the report of how an attempt has ended, now; its output is known to be one that can travel.

    Args:
        service: Whose.
        ended: How.
        went_on: Whether what is chained to it is begun with that.
    """
    attempt, task = ended.attempt, ended.attempt.task
    said = about(service, task) | {"duration_s": time.monotonic() - attempt.accepted, "cpu_s": ended.cpu_s}
    if not ended.error:
        return TaskSucceeded(**said, output=ended.result, went_on=went_on)
    why = plain(ended.message, MAX_MESSAGE_CHARS)
    return TaskFailed(**said, error=ended.error, message=why, retryable=ended.retryable, carried=attempt.carried)


def checked(ended: Ended) -> Ended:
    """Return how an attempt has ended: one whose output cannot travel has failed."""
    if ended.error:
        return ended
    try:
        check_size(ended.attempt.task, ended.result)
    except InvalidInput as error:
        return replace(ended, error="InvalidInput", message=str(error), retryable=False)
    return ended


def raised(attempt: Attempt, cpu_s: float, error: BaseException) -> Ended:
    """Return how an attempt has ended whose work, or the keeping of its result, has raised something."""
    name = type(error).__name__
    unsaid = _WHY.get(name, "internal error; the service's log has more")
    return Ended(
        attempt,
        cpu_s,
        error=name,
        message=text_of(error) if isinstance(error, MillraceError) else unsaid,
        retryable=not isinstance(error, InvalidInput),
    )


def progressed(service: str, attempt: Attempt, carried: Carried | None = None) -> TaskProgressed:
    """Return the report of how far an attempt is, and what it leaves to the next one, where there is news of that."""
    fraction = min(1.0, max(0.0, attempt.fraction))
    said = about(service, attempt.task)
    return TaskProgressed(**said, fraction=fraction, message=plain(attempt.message, 200), carried=carried)


def text_of(error: BaseException) -> str:
    """Return what an error says; its class where that cannot be had."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is the work's own
        return type(error).__name__


def plain(text: str, most: int) -> str:
    """Return the beginning of what work said, without what UTF-8 or a database does not take."""
    return text[:most].replace("\0", "").encode("utf-8", "replace").decode()


def output_json(output: Output) -> bytes:
    """Return an output as it travels."""
    return _OUTPUT.dump_json(output)


def check_size(task: TaskDispatched, output: Output) -> None:
    """Do nothing where an output can travel.

    Raises:
        InvalidInput: It is too large, or no service could read it, or no database store it.
    """
    try:
        dumped = output_json(output)
    except ValueError as error:
        raise InvalidInput(f"{task.kind} hands on what is no JSON: {plain(str(error), 200)}") from None
    if len(dumped) > MAX_OUTPUT_BYTES:
        raise InvalidInput(
            f"{task.kind} hands on {len(dumped)} bytes, more than {MAX_OUTPUT_BYTES}: put them in an artifact"
        )
    try:
        check_portable(dumped)
    except ValueError as error:
        raise InvalidInput(f"{task.kind} hands on what cannot be carried: {error}") from None


def report_lineage(service: str, attempt: Attempt, tx: Transaction) -> None:
    """Emit what a task said that it used and made; nothing when it said nothing."""
    if not (tx.used_refs or tx.made_refs):
        return
    task = attempt.task
    event = run_event(
        namespace=task.namespace,
        service=service,
        task=task,
        time=tx.now,
        state="COMPLETE",
        used=tx.used_refs,
        made=tx.made_refs,
        traceparent=attempt.envelope.traceparent if attempt.envelope else "",
    )
    tx.emit(LineageReported(namespace=task.namespace, service=service, run_id=task.task_id, event=event))
