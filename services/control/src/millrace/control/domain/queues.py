"""Who may be asked to do work: the seven services, and the queues of teams."""

from collections.abc import Collection, Iterable, Mapping

from millrace.contracts import SERVICES
from millrace.core.ir import Task


def others(tasks: Iterable[Task]) -> set[str]:
    """Return the queues of some tasks that are none of the services'."""
    return {task.work_queue for task in tasks if task.kind is not None} - {*SERVICES}


def unknown_queue(task: Task, live: Collection[str]) -> str:
    """Return that a task is for a queue that is not there; nothing when it is, or when the task is no work."""
    # An order to a queue that nobody has could never leave, and nothing that comes after it.
    if task.kind is None or task.work_queue in SERVICES or task.work_queue in live:
        return ""
    return f"there is no queue {task.work_queue}; queues are {', '.join((*SERVICES, *sorted(live)))}"


def live_queues(rows: Iterable[Mapping[str, object]]) -> frozenset[str]:
    """Return the names of the queues that workflows may name."""
    return frozenset(str(row["name"]) for row in rows if row["live"])
