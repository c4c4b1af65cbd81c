"""Workflows and triggers are put in force."""

from millrace.control.commands import ApplyTrigger, ApplyWorkflow
from millrace.control.handlers.queues import check_queues
from millrace.control.store import Store
from millrace.core.difference import differences
from millrace.runtime.errors import Conflict


async def apply_workflow(command: ApplyWorkflow, tx: Store) -> list[str] | None:
    """Put a workflow in force for new runs.

    Returns:
        What differs from the version before, a line each; None where it is in force already.

    Raises:
        InvalidInput: A task is for a queue that is not there.
    """
    await check_queues(command.workflow, command.namespace, tx)
    before = await tx.put_workflow(command.namespace, command.workflow, command.principal)
    if not before:
        return None if before is None else []
    return [*differences((await tx.plans([before]))[before].workflow, command.workflow)]


async def apply_trigger(command: ApplyTrigger, tx: Store) -> bool:
    """Put a trigger in force; return whether it was not already.

    Raises:
        NotFound: Its workflow does not exist.
        Conflict: Its topic has another source, which other triggers listen to.
    """
    trigger, namespace = command.trigger, command.namespace
    await tx.plan_in_force(namespace, trigger.workflow)
    source = await tx.hold_source(namespace, trigger.source.topic)
    if source is not None and source != trigger.source:
        others = await tx.triggers_of(namespace, trigger.source.topic, but=trigger.name)
        if others:
            raise Conflict(
                f"topic {trigger.source.topic} is read as {source.model_dump(exclude_defaults=True)} by trigger "
                f"{', '.join(others)}; a topic has one source in a namespace"
            )
    if await tx.hold_trigger(namespace, trigger.name) == trigger:
        return False
    tx.put_source(namespace, trigger.source)
    tx.put_trigger(namespace, trigger, command.principal)
    return True
