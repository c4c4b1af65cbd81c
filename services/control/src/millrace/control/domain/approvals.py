"""Who may decide, and what they must say."""

from typing import Any

from millrace.core.approvals import form_problem, objection
from millrace.core.parts import Approve
from millrace.runtime.access import Action
from millrace.runtime.errors import Denied, InvalidInput


def check_may_decide(approve: Approve, task: str, *, principal: str, role: int, author: str) -> None:
    """Do nothing when somebody may decide.

    Args:
        approve: What is asked, and of whom.
        task: What it is called in its run.
        principal: Who decides.
        role: The most that they may do in the namespace, an `Action`; 0 for nothing.
        author: Who started the run.

    Raises:
        Denied: They may not.
    """
    named = Action(role).name if role else ""
    if (why := objection(approve, task, principal=principal, role=named, author=author)) is not None:
        raise Denied(why)


def form_of(approve: Approve, given: Any) -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    """Return what was filled in.

    Raises:
        InvalidInput: Something is missing, unknown or of another kind; it names the field and what would be right.
    """
    if (problem := form_problem(approve, given)) is not None:
        raise InvalidInput(problem)
    return dict(given or {})
