"""Events that tasks wait for are handed to them, under the lock of the trigger that takes those."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from millrace.control.domain.runs import KeptRun
from millrace.control.domain.triggers import delivered_reason, unclaimed_reason
from millrace.control.handlers.gathering import Offered, settled_as
from millrace.control.store import Awaiting, HeldTrigger, KeptMemory, Settled, Store
from millrace.core.ir import Workflow
from millrace.core.plan import compile_plan
from millrace.core.state import EventCame, TaskState
from millrace.core.triggers import Event, Handed, Member, Memory, Trigger, hand_out
from millrace.runtime.errors import InvalidInput


async def hand_out_offered(
    held: HeldTrigger, trigger: Trigger, version: int, offered: Mapping[str, Sequence[Offered]], tx: Store
) -> None:
    """Give each task that waits under some keys an event, of those that come and those that are kept."""
    waiting = await tx.waiting_members(held, version, sorted(offered))
    keys = [key for key in sorted(offered) if offered[key] or key in waiting]
    # Those of a version that is not in force any more are for nobody: they expire.
    awaiting = await tx.awaiting(held, keys) if keys and version == held.version else {}
    for key in keys:
        kept_as = {one.member: one.kept_as for one in offered[key]}
        tasks = awaiting.get(key, [])
        found = hand_out(trigger.keeps_s, waiting.get(key, ()), [*kept_as], tx.now, waited_for=bool(tasks))
        became = _settle(found, trigger, version, key, tasks)
        tx.settle_matches(held.key, [one for m, one in became if kept_as.get(m, "waiting") != one.disposition])
        tx.save_gathering(held, version, key, KeptMemory(Memory()), found.due_at)
        if found.given is not None:
            known = {(one.event.source, one.event.id): one.event for one in offered[key]}
            event = known.get(place := (found.given.source, found.given.id))
            _tell(tasks, event or (await tx.events(held.namespace, [place]))[place][0], tx)


def _tell(tasks: Sequence[Awaiting], event: Event, tx: Store) -> None:
    tx.remove_awaited(tasks)
    by_run: defaultdict[UUID, list[tuple[str, UUID]]] = defaultdict(list)
    for one in tasks:
        by_run[one.run_id].append(one.place)
    for run_id, places in by_run.items():
        tx.add_mail(run_id, EventCame(tuple(places), event.document()))


def _settle(
    found: Handed, trigger: Trigger, version: int, key: str, tasks: Sequence[Awaiting]
) -> Iterator[tuple[Member, Settled]]:
    """Yield each event with what becomes of it."""
    for member in found.waiting:
        yield member, settled_as(version, key, member, "waiting")
    for members, how, why in (
        (found.expired, "expired", unclaimed_reason(key, trigger.keeps_s)),
        (found.refused, "dropped", "as many events wait under its key as may"),
    ):
        for member in members:
            yield member, settled_as(version, key, member, how, None, why)
    if found.given is not None:
        why = delivered_reason([(one.run_id, one.name) for one in tasks])
        yield found.given, settled_as(version, key, found.given, "delivered", tasks[0].run_id, why)


async def why_nothing_comes(kept: KeptRun, tx: Store) -> dict[str, str]:
    """Return what is said of the tasks of a run whose events no trigger hands out any more, by their paths."""
    waiting = {
        task.name: (task.inner or {})["event"]
        for task in kept.run.tasks.values()
        if task.state is TaskState.WAITING and "event" in (task.inner or {})
    }
    there = await tx.handing_triggers(kept.namespace, {*waiting.values()}) if waiting else {}
    told = "waits for an event that trigger {} takes, which is not there: apply it, or cancel the run"
    return {path: told.format(name) for path, name in waiting.items() if name not in there}


async def check_awaited(workflow: Workflow, namespace: str, tx: Store) -> None:
    """Do nothing when each event that a task of a workflow waits for is one that a trigger hands to tasks, by its key.

    Raises:
        InvalidInput: One is not; it names the task and the trigger.
    """
    steps = compile_plan(workflow).steps.items()
    wanted = {path: wait for path, step in steps if (wait := step.task.wait) is not None and wait.event is not None}
    there = await tx.handing_triggers(namespace, {str(wait.event) for wait in wanted.values()}) if wanted else {}
    for path, wait in wanted.items():
        if wait.event not in there:
            told = f"event: namespace {namespace} has no trigger {wait.event} without a workflow: apply that first"
        elif wait.key is None and (key := there[wait.event]) is not None:
            told = f"key: trigger {wait.event} has its events under what is at {key}: say under which the task waits"
        elif wait.key is not None and there[wait.event] is None:
            told = f"key: trigger {wait.event} has no `key`, so that none of its events is under one"
        else:
            continue
        raise InvalidInput(f"workflow: task {path}: wait.{told}")
