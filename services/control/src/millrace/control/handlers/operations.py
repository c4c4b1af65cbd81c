"""What people do with a run that goes on or has ended."""

from millrace.control.commands import SignalRun
from millrace.control.commands.operations import (
    CancelRun,
    ChangeRuns,
    PauseRun,
    RerunRun,
    ResumeRun,
    SetTaskResult,
    Version,
)
from millrace.control.domain.changes import Change, changes
from millrace.control.domain.runs import KeptRun
from millrace.control.handlers.deciding import advance, begin_runs, pending
from millrace.control.store import Store
from millrace.core.paths import written
from millrace.core.rerun import CannotRerun, part_done, taken_over
from millrace.core.state import (
    CancelRequested,
    Input,
    PauseRequested,
    ResultSet,
    ResumeRequested,
    Run,
    RunState,
    Signalled,
    TaskState,
)
from millrace.runtime.errors import Conflict, InvalidInput
from millrace.runtime.failpoints import failpoint
from millrace.runtime.traceparent import current_traceparent


async def cancel_run(command: CancelRun, tx: Store) -> Change:
    """Ask a run to stop, or stop it at once; one that is ending already goes on to its end unless it is forced.

    Raises:
        NotFound: It does not exist.
        Conflict: It has ended.
    """
    kept = await tx.hold_run(command.namespace, command.run_id)
    if kept.run.state.ended:
        raise Conflict(f"run {command.run_id} is {kept.run.state}, it has ended already")
    await failpoint("control.cancel_run")
    if kept.run.state is RunState.ENDING and not command.force:
        return Change(kept, ())
    return await tell(kept, cancelled(command), tx)


async def pause_run(command: PauseRun, tx: Store) -> Change:
    """Have nothing begin in a run until it is resumed.

    Raises:
        NotFound: It does not exist.
        Conflict: It is paused, ending or has ended.
    """
    kept = await tx.hold_run(command.namespace, command.run_id)
    return await tell(kept, PauseRequested(by(command)), tx)


async def resume_run(command: ResumeRun, tx: Store) -> Change:
    """Have a paused run go on.

    Raises:
        NotFound: It does not exist.
        Conflict: It is not paused.
    """
    kept = await tx.hold_run(command.namespace, command.run_id)
    return await tell(kept, ResumeRequested(by(command)), tx)


async def signal_run(command: SignalRun, tx: Store) -> Change:
    """Send a run a signal.

    Raises:
        NotFound: It does not exist.
        Conflict: It has ended, is ending, or keeps too many already.
    """
    kept = await tx.hold_run(command.namespace, command.run_id)
    return await tell(kept, Signalled(command.signal, command.data), tx)


async def set_task_result(command: SetTaskResult, tx: Store) -> Change:
    """Say how an open task ends, in place of its worker.

    Raises:
        NotFound: The run does not exist.
        InvalidInput: A task of work is to hand on something else than an object.
        Conflict: The task is not open, or is for people to decide.
    """
    kept = await tx.hold_run(command.namespace, command.run_id)
    step = kept.plan.steps.get(written(command.task))
    output = command.output
    if step is not None and step.task.kind is not None and command.state == "succeeded":
        output = {} if output is None else output
        if not isinstance(output, dict):
            raise InvalidInput(f"output_json: task {command.task} is work, which hands on an object")
    told = ResultSet(command.task, TaskState(command.state), by(command), output)
    return await tell(kept, told, tx)


async def rerun_run(command: RerunRun, tx: Store) -> Change:
    """Begin a run that does one again that has ended.

    Raises:
        NotFound: It does not exist, or its workflow is not in force any more.
        Conflict: It has not ended, or cannot be done again as asked.
    """
    origin = await tx.hold_run(command.namespace, command.run_id)
    kept = await again(origin, command.principal, command.from_task, command.version, tx, refresh=command.refresh)
    begins_with = kept.run
    await begin_runs([kept], [kept], tx)
    return Change(kept, changes(unbegun(begins_with), kept.run))


async def again(
    origin: KeptRun, principal: str, from_task: str, version: Version, tx: Store, *, refresh: bool
) -> KeptRun:
    """Return a run that does one again, and has not started; from a task, it computes all anew that it does.

    Raises:
        NotFound: Its workflow is not in force any more.
        Conflict: It has not ended, or cannot be done again as asked.
    """
    if not origin.run.state.ended:
        raise Conflict(f"run {origin.run.run_id} is {origin.run.state}: cancel it, or wait for its end")
    before = (await tx.plans([origin.sha256]))[origin.sha256]
    plan = before if version == "pinned" else await tx.plan_in_force(origin.namespace, origin.workflow)
    items = {name: await tx.items_done(origin.run.run_id, name) for name in part_done(origin.run, before)}
    try:
        tasks = taken_over(origin.run, before, plan, from_task, items)
    except CannotRerun as error:
        raise Conflict(str(error)) from error
    return pending(
        tx.new_id(),
        plan,
        origin.run.trigger,
        tx,
        namespace=origin.namespace,
        principal=principal,
        traceparent=current_traceparent(),
        trigger_name=origin.trigger_name,
        rerun_of=origin.run.run_id,
        refresh=refresh or bool(from_task),
        tasks=tasks,
    )


def unbegun(run: Run) -> Run:
    """Return a run as it is before it has anything."""
    return Run(run.run_id, RunState.PENDING, run.trigger)


def by(command: PauseRun | ResumeRun | SetTaskResult | ChangeRuns) -> str:
    """Return who wants something, and why."""
    return command.principal + (f": {command.reason}" if command.reason else "")


def cancelled(command: CancelRun | ChangeRuns) -> CancelRequested:
    """Return what a run is told that somebody wants to stop."""
    how = "stopped at once" if command.force else "cancelled"
    cause = f"{how} by {command.principal}" + (f": {command.reason}" if command.reason else "")
    return CancelRequested(cause, command.grace_s, command.force)


async def tell(kept: KeptRun, happened: Input, tx: Store) -> Change:
    """Tell a held run what somebody wants of it.

    Raises:
        Conflict: Its state forbids it.
    """
    before = kept.run
    if refused := await advance([(kept, [happened], None)], tx):
        raise Conflict(refused[0].reason)
    return Change(kept, changes(before, kept.run))
