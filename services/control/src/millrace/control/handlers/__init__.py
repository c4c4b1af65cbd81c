"""Everything control does: one function per command, kind of report, record and tick."""

from millrace.contracts import SERVICES
from millrace.contracts.tasks import TaskReport
from millrace.control.handlers.admission import look_at_pools
from millrace.control.handlers.caching import look_at_results
from millrace.control.handlers.definitions import (
    apply_trigger,
    apply_workflow,
    delete_trigger,
    missing_subflows,
    pause_trigger,
    resume_trigger,
    unblock_trigger,
)
from millrace.control.handlers.events import explain_event, explain_run, take_records
from millrace.control.handlers.firing import look_at_schedules
from millrace.control.handlers.leases import complete_tasks, keep_alive, lease_tasks
from millrace.control.handlers.many import change_runs
from millrace.control.handlers.operations import (
    cancel_run,
    pause_run,
    rerun_run,
    resume_run,
    set_task_result,
    signal_run,
)
from millrace.control.handlers.pools import apply_pool, apply_quota, delete_pool, get_pool, why_tasks_wait
from millrace.control.handlers.queues import apply_queue
from millrace.control.handlers.runs import apply_reports, decide_task, fire_due, start_run
from millrace.control.handlers.schedules import (
    apply_schedule,
    cancel_backfill,
    delete_schedule,
    pause_schedule,
    preview_schedule,
    resume_schedule,
    start_backfill,
)
from millrace.control.handlers.triggers import look_at_triggers
from millrace.runtime.subscriptions import Subscription, on_batch

__all__ = [
    "SUBSCRIPTIONS",
    "apply_pool",
    "apply_queue",
    "apply_quota",
    "apply_reports",
    "apply_schedule",
    "apply_trigger",
    "apply_workflow",
    "cancel_backfill",
    "cancel_run",
    "change_runs",
    "complete_tasks",
    "decide_task",
    "delete_pool",
    "delete_schedule",
    "delete_trigger",
    "explain_event",
    "explain_run",
    "fire_due",
    "get_pool",
    "keep_alive",
    "lease_tasks",
    "look_at_pools",
    "look_at_results",
    "look_at_schedules",
    "look_at_triggers",
    "missing_subflows",
    "pause_run",
    "pause_schedule",
    "pause_trigger",
    "preview_schedule",
    "reports_of",
    "rerun_run",
    "resume_run",
    "resume_schedule",
    "resume_trigger",
    "set_task_result",
    "signal_run",
    "start_backfill",
    "start_run",
    "take_records",
    "unblock_trigger",
    "why_tasks_wait",
]

TASK_TOPICS = tuple(f"{name}.tasks" for name in SERVICES)
SUBSCRIPTIONS = (on_batch(TaskReport, apply_reports, topics=TASK_TOPICS, start="earliest"),)


def reports_of(queue: str) -> Subscription:
    """Return the row by which what the workers of a team's queue report is taken."""
    return on_batch(TaskReport, apply_reports, topics=[f"{queue}.tasks"], start="earliest")
