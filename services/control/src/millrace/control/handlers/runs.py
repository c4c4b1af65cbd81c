"""What becomes of runs: started, told something by people, by services and by the clock."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import structlog
from millrace.contracts.tasks import TaskReport, TaskSucceeded
from millrace.control.commands import DecideTask, StartRun
from millrace.control.domain.approvals import check_may_decide, form_of
from millrace.control.domain.plans import planned_tasks
from millrace.control.domain.runs import KeptRun, input_of
from millrace.control.handlers.deciding import advance, begin_runs, pending
from millrace.control.handlers.operations import tell
from millrace.control.handlers.orders import held_where_leased
from millrace.control.handlers.pools import slots_for
from millrace.control.handlers.queues import queues_for
from millrace.control.store import Store
from millrace.core.ir import Task
from millrace.core.paths import written
from millrace.core.state import Input, Tick, Voted
from millrace.runtime.errors import NotFound
from millrace.runtime.failpoints import failpoint
from millrace.runtime.traceparent import current_traceparent

log = structlog.get_logger()


async def start_run(command: StartRun, tx: Store) -> KeptRun:
    """Start a run of a workflow on the caller's behalf.

    Raises:
        NotFound: The workflow does not exist.
    """
    plan = await tx.plan_in_force(command.namespace, command.workflow)
    await failpoint("control.start_run")
    given = {"id": "", "source": "", "type": "", "subject": "", "time": tx.now.isoformat(), "data": command.data}
    kept = pending(
        tx.new_id(),
        plan,
        given,
        tx,
        namespace=command.namespace,
        principal=command.principal,
        traceparent=current_traceparent(),
        refresh=command.refresh,
    )
    await begin_runs([kept], [kept], tx)
    return kept


async def decide_task(command: DecideTask, tx: Store) -> KeptRun:
    """Approve or reject what a run waits for.

    Raises:
        NotFound: The run does not exist, or has no such task.
        Denied: It is for others to decide.
        InvalidInput: The form is not filled in as the task asks.
        Conflict: It does not wait for this, or this one has decided already.
    """
    kept = await tx.hold_run(command.namespace, command.run_id)
    task, step = command.task, kept.plan.steps.get(written(command.task))
    if step is None or step.task.approve is None:
        raise NotFound(f"run {command.run_id} has no task {task} that is for people to decide")
    principal, approve = command.principal, step.task.approve
    check_may_decide(approve, task, principal=principal, role=command.role, author=kept.principal)
    form = form_of(approve, command.form) if command.approve else {}
    return (await tell(kept, Voted(task, principal, command.approve, command.comment, form), tx)).kept


async def apply_reports(reports: Sequence[TaskReport], tx: Store) -> None:
    """Move each run on by what the services say of its tasks."""
    by_run: defaultdict[UUID, list[TaskReport]] = defaultdict(list)
    for report in reports:
        by_run[report.run_id].append(report)
    kept_runs = await held_where_leased(await tx.runs_at_hand(by_run), tx)
    await failpoint("control.runs_held")
    if len(kept_runs) < len(by_run):
        missing = by_run.keys() - {kept.run.run_id for kept in kept_runs}
        log.warning("reports_refused", reason="the run does not exist", run_ids=sorted(map(str, missing)))
    told = []
    for kept in kept_runs:
        mine = by_run[kept.run.run_id]
        told.append((kept, await inputs_of(mine, kept, tx), mine[-1]))
    for refused in await advance(told, tx):
        if refused.early:
            raise NotFound(f"{refused.reason} yet: the success with which its worker has begun it is to come first")
    await failpoint("control.decided")


async def inputs_of(reports: Sequence[TaskReport], kept: KeptRun, tx: Store) -> list[Input]:
    """Return what reports of a run's tasks mean to a decision on it."""
    # Of the run's own namespace, whatever a report says: a team's worker writes those.
    live = await queues_for(planned := _planned(reports), kept.namespace, tx)
    slots = await slots_for(planned, kept.namespace, tx)
    return [input_of(_of_its_own(report, kept), live, slots) for report in reports]


def _of_its_own(report: TaskReport, kept: KeptRun) -> TaskReport:
    """Return a report as it counts: only whoever does the tasks of a queue begins any there, and in its namespace."""
    if not isinstance(report, TaskSucceeded) or not report.went_on:
        return report
    step = kept.plan.steps.get(written(report.name))
    trusted = step is not None and (report.namespace, report.service) == (kept.namespace, step.task.work_queue)
    return report if trusted else report.model_copy(update={"went_on": False})


def _planned(reports: Sequence[TaskReport]) -> list[Task]:
    return [task for r in reports if isinstance(r, TaskSucceeded) for _, task in planned_tasks(r.output)]


async def fire_due(run_ids: Sequence[UUID], tx: Store) -> int:
    """Let happen what is due of some runs and tell them their mail; one that somebody else holds is left for later.

    Returns:
        Of how many runs.
    """
    kept_runs = await tx.hold_runs(run_ids, skip_locked=True)
    mail = await tx.take_mail(kept.run.run_id for kept in kept_runs)
    await advance([(kept, [*mail.get(kept.run.run_id, ()), Tick()], None) for kept in kept_runs], tx)
    await failpoint("control.fired")
    return len(kept_runs)
