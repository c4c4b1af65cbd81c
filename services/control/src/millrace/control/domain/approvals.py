"""Who may decide, and what they must say."""

from collections.abc import Mapping
from typing import Any

from millrace.core.parts import Approve, FormField
from millrace.runtime.access import Action
from millrace.runtime.errors import Denied, InvalidInput

MAX_TEXT_CHARS = 10_000


def check_may_decide(approve: Approve, task: str, *, principal: str, role: int, author: str) -> None:
    """Do nothing when somebody may decide.

    Args:
        approve: What is asked, and of whom.
        task: What it is called in its run.
        principal: Who decides.
        role: The most that they may do in the namespace, an `Action`.
        author: Who started the run.

    Raises:
        Denied: They may not.
    """
    if principal == author:
        raise Denied(f"{principal} started the run, and so may not decide on its task {task}")
    if principal in approve.assignees:
        return
    needed = approve.role or (None if approve.assignees else "EDIT")
    if needed is None or role < Action[needed]:
        named = ", ".join(approve.assignees)
        who = " or ".join(filter(None, (named, f"who may {needed}" if needed else "")))
        raise Denied(f"{principal} may not decide on task {task}: that is for {who}")


def form_of(approve: Approve, given: Any) -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    """Return what was filled in.

    Raises:
        InvalidInput: Something is missing, unknown or of another kind; it names the field and what would be right.
    """
    filled: Mapping[str, Any] = given if given is not None else {}
    if not isinstance(filled, dict):
        raise InvalidInput(f"form: it is {type(given).__name__}, not an object")
    if unknown := sorted(filled.keys() - approve.form.keys()):
        raise InvalidInput(f"form.{unknown[0]}: unknown field; known are {', '.join(approve.form) or 'none'}")
    for name, field in approve.form.items():
        if name in filled:
            _check(name, field, filled[name])
        elif field.required:
            raise InvalidInput(f"form.{name}: is missing; it is {_wanted(field)}")
    return dict(filled)


def _check(name: str, field: FormField, value: Any) -> None:  # noqa: ANN401 - a JSON value
    fits = {
        "text": isinstance(value, str) and len(value) <= MAX_TEXT_CHARS,
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "choice": value in field.choices,
    }
    if not fits[field.type]:
        raise InvalidInput(f"form.{name}: it is {str(value)[:100]!r}, not {_wanted(field)}")


def _wanted(field: FormField) -> str:
    if field.type == "choice":
        return f"one of {', '.join(field.choices)}"
    if field.type == "text":
        return f"a text of up to {MAX_TEXT_CHARS} characters"
    return f"a {field.type}"
