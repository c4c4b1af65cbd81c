"""How a run is shown, with what is kept of it."""

from collections.abc import Iterator, Sequence

from millrace.control.domain.runs import KeptRun
from millrace.core import shown
from millrace.core.state import TaskRun


def in_order(kept: KeptRun, past: Sequence[TaskRun]) -> Iterator[tuple[str, TaskRun | None]]:
    """Yield the tasks and scopes of a run, each before what is in it; None for a task whose turn has not come.

    Args:
        kept: The run.
        past: The records of its scopes that are over, as far as they are to be shown.
    """
    return shown.in_order(kept.plan, {task.name: task for task in past} | kept.run.tasks)
