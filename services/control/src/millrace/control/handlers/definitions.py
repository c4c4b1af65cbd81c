"""Workflows and triggers are put in force."""

from millrace.control.commands import (
    ApplyTrigger,
    ApplyWorkflow,
    DeleteTrigger,
    PauseTrigger,
    ResumeTrigger,
    UnblockTrigger,
)
from millrace.control.handlers.awaited import check_awaited
from millrace.control.handlers.pools import check_pools
from millrace.control.handlers.queues import check_queues
from millrace.control.handlers.triggers import MAX_CANCELLED, MAX_DROPPED, Following, follow
from millrace.control.store import HeldTrigger, ShownTrigger, Store
from millrace.core.difference import differences
from millrace.core.ir import Workflow
from millrace.core.plan import compile_plan
from millrace.runtime.errors import Conflict


async def apply_workflow(command: ApplyWorkflow, tx: Store) -> list[str] | None:
    """Put a workflow in force for new runs.

    Returns:
        What differs from the version before, a line each; None where it is in force already.

    Raises:
        InvalidInput: A task is for a queue that is not there, takes slots of a pool that has not as many, or waits for
            an event that no trigger hands to tasks.
    """
    await check_queues(command.workflow, command.namespace, tx)
    await check_pools(command.workflow, command.namespace, tx)
    await check_awaited(command.workflow, command.namespace, tx)
    before = await tx.put_workflow(command.namespace, command.workflow, command.principal)
    if not before:
        return None if before is None else []
    return [*differences((await tx.plans([before]))[before].workflow, command.workflow)]


async def missing_subflows(workflow: Workflow, namespace: str, tx: Store) -> list[str]:
    """Return which of a workflow's subflows are not there yet, a line each: they may be applied after it."""
    steps = compile_plan(workflow).steps.values()
    named = {f"{step.field}.subflow.workflow": step.task.subflow.workflow for step in steps if step.task.subflow}
    there = await tx.workflows_there(namespace, {*named.values()}) if named else set()
    return [
        f"{field}: there is no workflow {name} in namespace {namespace} yet: apply it before a run comes to this"
        for field, name in named.items()
        if name not in there
    ]


async def apply_trigger(command: ApplyTrigger, tx: Store) -> bool:
    """Put a trigger in force; return whether it was not already.

    Raises:
        NotFound: Its workflow does not exist.
        Conflict: A topic of it has another source, which other triggers listen to; or one of its name starts runs,
            and this one does not, or the other way round.
    """
    trigger, namespace = command.trigger, command.namespace
    if trigger.workflow is not None:
        await tx.plan_in_force(namespace, trigger.workflow)
    sources = sorted(trigger.sources(), key=lambda source: source.topic)
    for source in sources:
        there = await tx.hold_source(namespace, source.topic)
        if there is not None and there != source:
            others = await tx.triggers_of(namespace, source.topic, but=trigger.name)
            if others:
                raise Conflict(
                    f"topic {source.topic} is read as {there.model_dump(exclude_defaults=True)} by trigger "
                    f"{', '.join(others)}; a topic has one source in a namespace"
                )
    before = await tx.hold_trigger(namespace, trigger.name)
    if before == trigger:
        return False
    if before is not None and (before.workflow is None) != (trigger.workflow is None):
        what = "hands its events to tasks" if before.workflow is None else f"starts runs of {before.workflow}"
        raise Conflict(f"trigger {trigger.name} {what}: give this one another name, or delete that first")
    if before is not None and trigger.workflow is None and (before.key is None) != (trigger.key is None):
        raise Conflict(f"trigger {trigger.name} has {'no' if before.key is None else 'a'} `key`, by which tasks wait")
    for source in sources:
        tx.put_source(namespace, source)
    same_shape = before is not None and before.shape() == trigger.shape()
    tx.put_trigger(namespace, trigger, command.principal, same_shape=same_shape)
    if trigger.paused or (before is not None and before.paused):
        held = await tx.hold_one(namespace, trigger.name)
        _set_paused(held, command.principal if trigger.paused else "", tx)
    return True


async def pause_trigger(command: PauseTrigger, tx: Store) -> ShownTrigger:
    """Let a trigger start nothing until somebody resumes it; one that is paused stays so.

    Raises:
        NotFound: It does not exist.
    """
    held = await tx.hold_one(command.namespace, command.name)
    if held.paused_at is None:
        _set_paused(held, command.principal, tx)
    return await tx.shown_trigger(command.namespace, command.name)


async def resume_trigger(command: ResumeTrigger, tx: Store) -> ShownTrigger:
    """Let a trigger go on, first with what came while it was paused.

    Raises:
        NotFound: It does not exist.
        Conflict: Its own document says that it is paused.
    """
    held = await tx.hold_one(command.namespace, command.name)
    if held.trigger.paused:
        raise Conflict(f"trigger {command.name} says `paused: true`; apply it without that")
    if held.paused_at is not None:
        _set_paused(held, "", tx)
    return await tx.shown_trigger(command.namespace, command.name)


async def unblock_trigger(command: UnblockTrigger, tx: Store) -> ShownTrigger:
    """Let the runs of a strict sequence go on behind one that has failed.

    Raises:
        NotFound: The trigger does not exist.
        Conflict: No run of it has failed that others wait behind.
    """
    held = await tx.hold_one(command.namespace, command.name)
    failed = held.last_run is not None and await tx.has_failed(held.last_run)
    if held.trigger.strategy != "strict_sequence" or not failed:
        raise Conflict(f"trigger {command.name} is not blocked: no run of a strict sequence has failed")
    held.last_run = None
    tx.save_trigger(held)
    return await tx.shown_trigger(command.namespace, command.name)


async def delete_trigger(command: DeleteTrigger, tx: Store) -> tuple[int, int]:
    """Take a trigger out of force; return how many runs that waited are cancelled, and how many events are dropped.

    Raises:
        NotFound: It does not exist.
        Conflict: Too many runs wait for their turn, or too many events.
    """
    held = await tx.hold_one(command.namespace, command.name)
    if await tx.waiting_events(held, MAX_DROPPED + 1) > MAX_DROPPED:
        raise Conflict(
            f"more than {MAX_DROPPED} events wait in trigger {command.name}: apply it with a filter that takes nothing "
            "and resume it, so that they are dropped little by little"
        )
    waiting = await tx.open_in(*held.key, limit=MAX_CANCELLED + 1, waiting=True)
    if len(waiting) > MAX_CANCELLED:
        raise Conflict(
            f"more than {MAX_CANCELLED} runs of trigger {command.name} wait for their turn: cancel them first"
        )
    cause = f"{command.principal} deleted trigger {command.name}"
    dropped = await tx.drop_waiting(held, cause)
    tx.delete_trigger(held)
    await follow(Following(ended={run.run_id: cause for run in waiting}), tx)
    return len(waiting), dropped


def _set_paused(held: HeldTrigger, by: str, tx: Store) -> None:
    """Pause a held trigger on somebody's behalf, or let it go on where that is nobody."""
    held.paused_at, held.paused_by = (tx.now, by) if by else (None, "")
    held.draining = held.draining or not by
    tx.save_standing(held)
