"""Whose slots tasks may take: those of the pools of their namespace."""

from collections.abc import Iterable, Mapping, Sequence

from millrace.core.ir import Task


def unknown_pool(task: Task, pools: Mapping[str, int]) -> str:
    """Return why a task can never have its slots; nothing when it can, or takes none.

    Args:
        task: Which.
        pools: How many slots each pool has that it may name, by name.
    """
    if task.pool is None:
        return ""
    if task.pool not in pools:
        return f"there is no pool {task.pool}: `millrace pool apply {task.pool} --slots N` makes one"
    if pools[task.pool] and task.weight > pools[task.pool]:
        return f"weight {task.weight} is more than the {pools[task.pool]} slots of pool {task.pool}"
    return ""


def named_pools(tasks: Iterable[Task]) -> Sequence[str]:
    """Return the pools that some tasks take slots of."""
    return sorted({task.pool for task in tasks if task.pool is not None})
