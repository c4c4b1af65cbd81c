"""Pools and quotas are put in force, looked at and taken out of force."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.control.commands.pools import ApplyPool, ApplyQuota, DeletePool, GetPool
from millrace.control.domain.admission import pools_of, why_queued
from millrace.control.domain.runs import KeptRun
from millrace.control.domain.slots import named_pools, unknown_pool
from millrace.control.handlers.admission import look_at_pools
from millrace.control.store import Store
from millrace.control.store.admission import lines_of, pool_of
from millrace.core.admission import in_order
from millrace.core.ir import Task, Workflow
from millrace.core.plan import compile_plan
from millrace.runtime.errors import Conflict, InvalidInput

MAX_POOLS = 1_000
"""The most pools of a namespace."""
SHOWN = 100
"""The most holders, and the most of those that wait, that are shown of a pool."""


@dataclass(frozen=True, slots=True)
class PoolShown:
    """A pool as it stands, who holds slots of it, and who waits, in the order in which they would be let in."""

    pool: Mapping[str, Any]
    holders: Sequence[Mapping[str, Any]]
    waiters: Sequence[Mapping[str, Any]]


async def apply_pool(command: ApplyPool, tx: Store) -> tuple[Mapping[str, Any], bool]:
    """Put a pool in force, and let in whoever it now has slots for; return it, and whether it was not so already.

    Raises:
        Conflict: The namespace has too many.
    """
    tx.open_admission(command.namespace)
    await tx.hold_admissions([command.namespace])
    changed = await tx.put_pool(command)
    if await tx.count_pools(command.namespace) > MAX_POOLS:
        raise Conflict(f"namespace {command.namespace} has {MAX_POOLS} pools already: delete one")
    if changed:
        await look_at_pools([command.namespace], tx)
    return await tx.shown_pool(command.namespace, command.name), changed


async def get_pool(asked: GetPool, tx: Store) -> PoolShown:
    """Return a pool, who holds slots of it and who waits.

    Raises:
        NotFound: It does not exist.
    """
    pool = await tx.shown_pool(asked.namespace, asked.name)
    waiters = {row["ticket"]: row for row in await tx.waiters(asked.namespace, asked.name)}
    lines = lines_of({asked.name: pool_of(pool)}, [*waiters.values()])
    first = [waiters[one.ticket] for line in lines for one in in_order(line)]
    return PoolShown(pool, await tx.holders(asked.namespace, asked.name, SHOWN), first[:SHOWN])


async def delete_pool(command: DeletePool, tx: Store) -> None:
    """Have a pool no more.

    Raises:
        NotFound: It does not exist.
        Conflict: A workflow in force names it, or tasks hold or wait for its slots.
    """
    namespace, name = command.namespace, command.name
    await tx.hold_admissions([namespace])
    await tx.hold_pool(namespace, name)
    held, waiting = await tx.use_of(namespace, name)
    if held or waiting:
        raise Conflict(
            f"pool {name} is in use: {held} tasks hold slots of it, {waiting} wait; with 0 slots, it empties"
        )
    for workflow, sha256 in await tx.may_name(namespace, name):
        steps = (await tx.plans([sha256]))[sha256].steps.values()
        if name in named_pools(step.task for step in steps):
            raise Conflict(f"pool {name} is named by workflow {workflow}: apply that without it first")
    tx.delete_pool(namespace, name)


async def apply_quota(command: ApplyQuota, tx: Store) -> tuple[Mapping[str, Any], bool]:
    """Put a namespace's quota in force, and let in whoever it has room for; return it, and whether it is another."""
    changed = await tx.put_quota(command.namespace, command.max_leases, command.principal)
    if changed:
        await look_at_pools([command.namespace], tx)
    return await tx.quota(command.namespace), changed


async def slots_for(tasks: Iterable[Task], namespace: str, tx: Store, *, keep: bool = False) -> dict[str, int]:
    """Return how many slots the pools have that some tasks name, looked up only where some task names one."""
    named = named_pools(tasks)
    return await tx.slots_of(namespace, named, keep=keep) if named else {}


async def check_pools(workflow: Workflow, namespace: str, tx: Store) -> None:
    """Do nothing when each task of a workflow can have the slots that it takes.

    Raises:
        InvalidInput: One cannot; it names the task, and the pool.
    """
    steps = compile_plan(workflow).steps
    slots = await slots_for((step.task for step in steps.values()), namespace, tx, keep=True)
    for path, step in steps.items():
        if why := unknown_pool(step.task, slots):
            raise InvalidInput(f"workflow: task {path}: {why}")


async def why_tasks_wait(kept: KeptRun, tx: Store) -> dict[str, str]:
    """Return what each task of a run that waits for slots waits for, by name; looked up only where some task does."""
    pools = pools_of(kept)
    return why_queued(kept, await tx.standings(kept.namespace, pools.values())) if pools else {}
