"""What tasks have planned, as far as only control can tell whether it can be done."""

from collections.abc import Iterator
from typing import Any

from millrace.control.commands import misfit
from millrace.core.ir import Body
from millrace.core.paths import inside
from millrace.core.plan import bodies_of
from millrace.core.planning import PLAN
from pydantic import ValidationError


def misfit_in_plan(output: Any) -> str:  # noqa: ANN401 - a JSON value
    """Return why what a task has planned can never be done; nothing when it can, is no plan, or is no body at all."""
    if not isinstance(output, dict) or PLAN not in output:
        return ""
    try:
        body = Body.model_validate(output[PLAN])
    except ValidationError:
        return ""  # which is told where it would be begun
    return next(_misfits(body), "")


def _misfits(body: Body) -> Iterator[str]:
    for path, *_, one in bodies_of(body):
        yield from (f"{inside(path, name)}: {why}" for name, task in one.tasks.items() if (why := misfit(task)))
