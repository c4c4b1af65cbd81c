"""What tasks have planned, as far as only control can tell whether it can be done."""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from millrace.control.domain.queues import unknown_queue
from millrace.control.domain.slots import unknown_pool
from millrace.core.ir import Body, Task
from millrace.core.paths import inside
from millrace.core.plan import bodies_of
from millrace.core.planning import PLAN
from pydantic import ValidationError


def misfit_in_plan(
    output: Any,  # noqa: ANN401 - a JSON value
    live: Collection[str] = (),
    slots: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Return why what a task has planned can never be done; nothing when it can, is no plan, or is no body at all.

    Args:
        output: What the task hands on.
        live: The queues of the namespace's teams.
        slots: How many slots the pools have that it names.
    """
    tasks = planned_tasks(output)
    found = ((path, unknown_queue(task, live) or unknown_pool(task, slots)) for path, task in tasks)
    return next((f"{path}: {why}" for path, why in found if why), "")


def planned_tasks(output: Any) -> Iterator[tuple[str, Task]]:  # noqa: ANN401 - a JSON value
    """Yield the tasks that an output plans, by their paths in it; none where it is no plan that can be read."""
    if not isinstance(output, dict) or PLAN not in output:
        return
    try:
        body = Body.model_validate(output[PLAN])
    except ValidationError:
        return  # which is told where it would be begun
    for path, *_, one in bodies_of(body):
        yield from ((inside(path, name), task) for name, task in one.tasks.items())
