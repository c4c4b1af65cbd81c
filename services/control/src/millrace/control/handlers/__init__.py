"""Everything control does: one function per command, kind of report, record and tick."""

from millrace.contracts import SERVICES
from millrace.contracts.tasks import TaskReport
from millrace.control.handlers.definitions import apply_trigger, apply_workflow
from millrace.control.handlers.events import explain_event, take_records
from millrace.control.handlers.many import change_runs
from millrace.control.handlers.operations import (
    cancel_run,
    pause_run,
    rerun_run,
    resume_run,
    set_task_result,
    signal_run,
)
from millrace.control.handlers.runs import (
    apply_reports,
    decide_task,
    fire_due,
    start_next_in_queues,
    start_run,
)
from millrace.runtime.subscriptions import on_batch

__all__ = [
    "SUBSCRIPTIONS",
    "apply_reports",
    "apply_trigger",
    "apply_workflow",
    "cancel_run",
    "change_runs",
    "decide_task",
    "explain_event",
    "fire_due",
    "pause_run",
    "rerun_run",
    "resume_run",
    "set_task_result",
    "signal_run",
    "start_next_in_queues",
    "start_run",
    "take_records",
]

TASK_TOPICS = tuple(f"{name}.tasks" for name in SERVICES)
SUBSCRIPTIONS = (on_batch(TaskReport, apply_reports, topics=TASK_TOPICS, start="earliest"),)
