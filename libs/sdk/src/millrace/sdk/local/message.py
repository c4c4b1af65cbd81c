"""A run in this process in the form in which control tells of one, so that both are shown alike."""

import itertools
import json
from collections import ChainMap
from collections.abc import Iterator
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.control.v1.control_pb2 import Run, Task
from millrace.core.shown import duration_s, fraction_of, in_order, kind_of, skipped_because, waits_for
from millrace.core.state import CACHE, TASK_OPEN, TaskRun, TaskState
from millrace.sdk.local.run import LocalRun

MOST_TASKS = 300
"""The most tasks that are shown of a run: those that are open or have failed, then the latest."""


def as_message(run: LocalRun, now: datetime | None = None, *, whole: bool = False) -> Run:
    """Return a run with its tasks.

    Args:
        run: Which.
        now: What time it is on its clock; default: when it ended.
        whole: With all tasks, not only those that are shown.
    """
    shown = run.tasks if whole else dict(_shown(run))
    now = now or run.run.ended_at
    return Run(
        run_id=str(run.run_id),
        workflow=run.workflow,
        workflow_hash=run.plan.workflow.sha256,
        state=run.state,
        cause=run.cause,
        principal=run.principal,
        trigger_data_json=json.dumps(run.run.trigger.get("data")),
        started_at=_time(run.run.started_at),
        ended_at=_time(run.run.ended_at),
        output_json=json.dumps(run.run.output) if run.run.output is not None else "",
        tasks=[task_message(run, name, task, now) for name, task in in_order(run.plan, shown)],
        refresh=run.run.refresh,
        deadline_at=_time(run.run.deadline_at),
        missed_at=_time(run.run.missed_at),
    )


def task_message(run: LocalRun, name: str, task: TaskRun | None, now: datetime | None = None) -> Task:
    """Return a task of a run at a moment on its clock; without a record, its turn has not come."""
    kind = kind_of(name, run.plan)
    if task is None:
        return Task(name=name, kind=kind, state="blocked")
    began_at = task.dispatched_at or task.began_at
    cache = (task.inner or {}).get(CACHE)
    resources = None if run.plan.is_scope(name) else run.plan.step(name).task.resources
    goes_on = began_at is not None and now is not None and task.state in TASK_OPEN
    going_s = (now - began_at).total_seconds() if goes_on else 0.0  # type: ignore[operator]  # neither is None
    return Task(
        task_id=str(task.task_id),
        name=name,
        kind=kind,
        state=task.state,
        attempts=task.attempt,
        duration_s=going_s or duration_s(task),
        output_json=json.dumps(task.output) if task.output is not None else "",
        error=_error(run, task),
        progress=fraction_of(task),
        progress_message=task.message,
        dispatched_at=_time(began_at),
        ended_at=_time(task.ended_at),
        external_ref=task.carried.external_ref if task.carried is not None else "",
        waits_for=waits_for(task, run.plan),
        deadline_at=_time(task.deadline_at),
        missed_at=_time(task.missed_at),
        cache_json=json.dumps(cache) if cache is not None else "",
        resources_json=resources.model_dump_json(exclude_defaults=True) if resources is not None else "",
        skipped_because=skipped_because(task, run.plan, ChainMap(run.run.tasks, run.past).get),
    )


def _shown(run: LocalRun) -> Iterator[tuple[str, TaskRun]]:
    """Yield the records that are shown."""
    yield from run.run.tasks.items()
    if len(run.past) <= MOST_TASKS:
        yield from run.past.items()
        return
    failed = ((name, task) for name, task in run.past.items() if task.state is TaskState.FAILED)
    yield from itertools.islice(failed, MOST_TASKS // 2)
    yield from itertools.islice(((name, run.past[name]) for name in reversed(run.past)), MOST_TASKS // 2)


def _error(run: LocalRun, task: TaskRun) -> str:
    """Return why a task failed, with the author's line."""
    if task.failure is None:
        return ""
    came = run.raised.get(task.name)
    place = came.place if came is not None and came.kind == task.failure.error else ""
    return f"{task.failure}" + (f"  [{place}]" if place else "")


def _time(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
