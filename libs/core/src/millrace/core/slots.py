"""Tasks that take slots of a pool: in line for them, until they are told that they have them."""

from typing import Any
from uuid import UUID

from millrace.core.draft import Draft
from millrace.core.ir import MAX_KEY_CHARS, MAX_PRIORITY
from millrace.core.parts import Pointer
from millrace.core.paths import parent
from millrace.core.plan import value_at
from millrace.core.pointer import KeptElsewhere, PointerMissing
from millrace.core.references import is_reference, told
from millrace.core.state import TICKET, AskSlots, Failure, TaskRun, TaskState
from millrace.core.values import document_of, missing

INVALID_TURN = "InvalidTurn"


def ask(draft: Draft, task: TaskRun) -> None:
    """Have a task wait for slots of its pool, or fail it when it cannot be said whose turn it is in."""
    spec = draft.plan.step(task.name).task
    try:
        priority = _priority(_value(draft, task, spec.priority))
        key = _key(_value(draft, task, spec.fairness_key))
    except PointerMissing as error:
        draft.fail(task, missing(error, INVALID_TURN))
        return
    except ValueError as error:
        draft.fail(task, Failure(INVALID_TURN, str(error), retryable=False))
        return
    ticket: UUID = draft.new_id()
    task.state, task.due_at = TaskState.QUEUED, draft.deadline(task)
    task.inner = {**(task.inner or {}), TICKET: str(ticket)}
    draft.effects.append(AskSlots(task.name, task.task_id, ticket, spec.pool or "", spec.weight, priority, key))


def _value(draft: Draft, task: TaskRun, given: Any) -> Any:  # noqa: ANN401 - a JSON value, or where one is
    if not isinstance(given, Pointer):
        return given
    found = value_at(given, document_of(draft.run, draft.plan, parent(task.name)))
    if is_reference(found):
        raise KeptElsewhere(told(given.pointer, found))
    return found


def _priority(value: Any) -> int:  # noqa: ANN401 - a JSON value
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise ValueError(f"priority is {value!r}, not a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}")
    return value


def _key(value: Any) -> str:  # noqa: ANN401 - likewise
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > MAX_KEY_CHARS:
        told = f"{str(value)[:50]!r} is no text or whole number of at most {MAX_KEY_CHARS} characters"
        raise ValueError(f"fairness_key: {told}")
    return str(value)
