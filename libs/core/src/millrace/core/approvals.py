"""Who may decide, and what they must say."""

from collections.abc import Mapping
from typing import Any

from millrace.core.parts import Approve, FormField

ROLES = ("READ", "EDIT", "MANAGE")
"""Each includes the ones before it."""
MAX_TEXT_CHARS = 10_000


def objection(approve: Approve, task: str, *, principal: str, role: str, author: str) -> str | None:
    """Return why somebody may not decide, or None.

    Args:
        approve: What is asked, and of whom.
        task: What it is called in its run.
        principal: Who decides.
        role: The most that they may do in the namespace, one of ROLES; empty for nothing.
        author: Who started the run.
    """
    if principal == author:
        return f"{principal} started the run, and so may not decide on its task {task}"
    if principal in approve.assignees:
        return None
    needed = approve.role or (None if approve.assignees else "EDIT")
    if needed is not None and role and ROLES.index(role) >= ROLES.index(needed):
        return None
    named = ", ".join(approve.assignees)
    who = " or ".join(filter(None, (named, f"who may {needed}" if needed else "")))
    return f"{principal} may not decide on task {task}: that is for {who}"


def form_problem(approve: Approve, given: Any) -> str | None:  # noqa: ANN401 - a JSON value
    """Return what is missing, unknown or of another kind in a form, with its field and what would be right, or None."""
    filled: Mapping[str, Any] = given if given is not None else {}
    if not isinstance(filled, dict):
        return f"form: it is {type(given).__name__}, not an object"
    if unknown := sorted(filled.keys() - approve.form.keys()):
        return f"form.{unknown[0]}: unknown field; known are {', '.join(approve.form) or 'none'}"
    for name, field in approve.form.items():
        if name in filled:
            if not _fits(field, filled[name]):
                return f"form.{name}: it is {str(filled[name])[:100]!r}, not {wanted(field)}"
        elif field.required:
            return f"form.{name}: is missing; it is {wanted(field)}"
    return None


def wanted(field: FormField) -> str:
    """Return in words what a field of a form takes."""
    if field.type == "choice":
        return f"one of {', '.join(field.choices)}"
    if field.type == "text":
        return f"a text of up to {MAX_TEXT_CHARS} characters"
    return f"a {field.type}"


def _fits(field: FormField, value: Any) -> bool:  # noqa: ANN401 - a JSON value
    match field.type:
        case "text":
            return isinstance(value, str) and len(value) <= MAX_TEXT_CHARS
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
    return value in field.choices
