"""Queues of teams: asked for, and looked up for what names them."""

from collections.abc import Iterable, Mapping
from typing import Any

from millrace.control.commands import ApplyQueue
from millrace.control.domain.queues import live_queues, others, unknown_queue
from millrace.control.store import Store
from millrace.core.ir import Task, Workflow
from millrace.core.plan import compile_plan
from millrace.runtime.errors import Conflict, InvalidInput


async def apply_queue(command: ApplyQueue, tx: Store) -> tuple[Mapping[str, Any], bool]:
    """Keep that a namespace has a queue, whose topics, if any, are then made; return it, and whether it was new.

    Raises:
        Conflict: Another namespace has one of this name, or its tasks go out in another way.
    """
    new = await tx.add_queue(command.namespace, command.queue, command.principal, command.transport)
    found = await tx.queue(command.queue)
    if found["namespace"] != command.namespace:
        raise Conflict(f"queue {command.queue} is another namespace's: take another name")
    if found["transport"] != command.transport:
        raise Conflict(f"queue {command.queue} is one of {found['transport']}, and stays so: take another name")
    if new:
        tx.on_commit(Store.signals.queue_applied)
        tx.on_commit(Store.signals.applied)
    return found, new


async def queues_for(tasks: Iterable[Task], namespace: str, tx: Store) -> frozenset[str]:
    """Return the queues of a namespace that may be named, looked up only where some task names one."""
    return live_queues(await tx.queues(namespace)) if others(tasks) else frozenset()


async def check_queues(workflow: Workflow, namespace: str, tx: Store) -> None:
    """Do nothing when each task of a workflow is for a queue that is there.

    Raises:
        InvalidInput: One is not; it names the task and the queues that are.
    """
    steps = compile_plan(workflow).steps
    live = await queues_for((step.task for step in steps.values()), namespace, tx)
    for path, step in steps.items():
        if why := unknown_queue(step.task, live):
            raise InvalidInput(f"workflow: task {path}: {why}")
