"""Orders for queues without topics: kept, for workers that ask for them, exactly while their attempts are open."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from millrace.contracts.control import LeasedTaskEnded
from millrace.contracts.event import Event
from millrace.contracts.tasks import ChainCut, TaskCancelled, TaskDispatched
from millrace.control.domain.runs import KeptRun
from millrace.control.store import Store
from millrace.core.state import (
    ATTEMPT_OPEN,
    AttemptEnded,
    CancelAcknowledged,
    CancelAttempt,
    Decision,
    Input,
    TaskRun,
    TaskState,
)


def keep_orders(
    kept: KeptRun, decision: Decision, events: Iterable[Event], leased: Collection[str], tx: Store
) -> list[Event]:
    """Keep what of a decision's events are orders for queues whose tasks are leased, and return the others.

    With those comes how attempts ended that a worker had, and of which it said nothing.
    """
    others: list[Event] = [
        LeasedTaskEnded(**about_leased(kept, effect.task), outcome="failed", error=effect.failure.error)
        for effect in decision.effects
        if isinstance(effect, AttemptEnded)
        and effect.task.started_at is not None
        and kept.plan.step(effect.task.name).task.work_queue in leased
        and (effect.task.task_id, effect.task.attempt) not in tx.told_ends
    ]
    for event in events:
        if isinstance(event, TaskDispatched) and event.queue in leased:
            # Whoever leases a task does that alone.
            tx.add_lease(event.model_copy(update={"chain": ()}), kept.traceparent)
        elif isinstance(event, ChainCut) and event.queue in leased:
            continue
        elif isinstance(event, TaskCancelled) and event.queue in leased:
            tx.cancel_lease(event)
        else:
            others.append(event)
    for name, task in decision.changed.items():
        if task.attempt and kept.plan.step(name).task.work_queue in leased:
            tx.drop_leases(task.task_id, before=task.attempt if task.state in ATTEMPT_OPEN else task.attempt + 1)
    return others


def about_leased(kept: KeptRun, task: TaskRun) -> dict[str, Any]:
    """Return what is told of every attempt that is leased."""
    step = kept.plan.step(task.name).task
    return {
        "namespace": kept.namespace,
        "run_id": kept.run.run_id,
        "workflow": kept.workflow,
        "workflow_hash": kept.sha256,
        "queue": step.work_queue,
        "task_id": task.task_id,
        "attempt": task.attempt,
        "kind": step.kind or "",
        "name": task.name,
    }


async def held_where_leased(runs: Sequence[KeptRun], tx: Store) -> Sequence[KeptRun]:
    """Return runs, under their locks where tasks of one are leased: leases are written under those only.

    All or none is locked: who saves some without their locks holds none that somebody may want before those.
    """
    if all(kept.ours for kept in runs) or not await tx.leased_queues({q for kept in runs for q in kept.plan.queues}):
        return runs
    return await tx.hold_runs(kept.run.run_id for kept in runs)


async def stopped_unleased(kept: KeptRun, asked: CancelAttempt, tx: Store) -> Sequence[Input]:
    """Return that an attempt has stopped which is to stop and which no worker has leased; nothing otherwise."""
    task = kept.run.tasks.get(asked.name)
    if task is None or task.state is not TaskState.CANCELLING or task.token != asked.token:
        return ()
    if not await tx.leased_queues({kept.plan.step(asked.name).task.work_queue}):
        return ()
    if not await tx.drop_unleased(asked.task_id, asked.attempt):
        return ()
    return (CancelAcknowledged(asked.name, asked.task_id, asked.attempt, asked.token),)
