"""How a run is shown, with what is kept of it."""

from collections.abc import Iterator, Sequence

from millrace.control.domain.runs import KeptRun
from millrace.core import shown
from millrace.core.paths import ROOT, scopes_around
from millrace.core.state import TaskRun


def in_order(kept: KeptRun, past: Sequence[TaskRun], items: str = "") -> Iterator[tuple[str, TaskRun | None]]:
    """Yield the tasks and scopes of a run, each before what is in it; None for a task whose turn has not come.

    Args:
        kept: The run.
        past: The records of its scopes that are over, as far as they are to be shown.
        items: Of items and iterations only those in this state, and what they are in.
    """
    tasks = {task.name: task for task in past} | kept.run.tasks
    if items:
        wanted = {name for name, task in tasks.items() if name.endswith("]") and task.state == items}
        around = {scope for name in wanted for scope in scopes_around(name)}
        tasks = {name: task for name, task in tasks.items() if _item(name) in {ROOT, *around}}
    return shown.in_order(kept.plan, tasks)


def _item(path: str) -> str:
    """Return the innermost item or iteration that a path leads to or into; the run where there is none."""
    return path[: path.rindex("]") + 1] if "]" in path else ROOT
