"""What control keeps, as its answers say it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.domain.changes import Outcome
from millrace.control.domain.explain import Explanation
from millrace.control.domain.runs import KeptRun
from millrace.control.domain.shown import in_order
from millrace.control.store import ShownTrigger, Waiting
from millrace.core.shown import duration_s, fraction_of, kind_of, skipped_because, waits_for
from millrace.core.state import CACHE, SET_BY, TAKEN_FROM, Failure, TaskRun

SHOWN_BYTES = 2 * 1024 * 1024
"""The most of outputs that one answer holds; a message has at most twice that."""


def run_message(
    kept: KeptRun,
    *,
    tasks: bool = True,
    past: Sequence[TaskRun] = (),
    items: str = "",
    slots: Mapping[str, str] = MappingProxyType({}),
    attempts: Iterable[Mapping[str, Any]] = (),
) -> pb.Run:
    """Return a run.

    Args:
        kept: Which.
        tasks: With its tasks.
        past: Those of scopes that are over.
        items: Of items and iterations only those in this state, and what they are in.
        slots: What those wait for that wait for slots, by name.
        attempts: Rows of those that ended without a result.
    """
    run, shown = kept.run, _Shown()
    records = dict(in_order(kept, past, items)) if tasks else {}
    told = [_task(name, records, kept, shown, slots) for name in records]
    by_id = {task.task_id: task for task in told}
    for row in attempts:
        if (task := by_id.get(str(row["task_id"]))) is not None:
            task.ended_attempts.append(_ended_attempt(row))
    return pb.Run(
        run_id=str(run.run_id),
        workflow=kept.workflow,
        workflow_hash=kept.sha256,
        state=run.state,
        cause=run.cause,
        principal=kept.principal,
        trigger=kept.trigger_name,
        event_source=run.trigger.get("source", ""),
        event_id=run.trigger.get("id", ""),
        trigger_data_json=json.dumps(run.trigger.get("data")),
        created_at=time_message(kept.created_at),
        started_at=time_message(run.started_at),
        ended_at=time_message(run.ended_at),
        output_json=shown.take(run.output) if tasks else "",
        tasks=told,
        schedule_json=json.dumps(run.trigger["schedule"]) if "schedule" in run.trigger else "",
        rerun_of=str(kept.rerun_of or ""),
        paused_at=time_message(run.pause.at if run.pause is not None else None),
        paused_by=run.pause.cause if run.pause is not None else "",
        refresh=run.refresh,
        deadline_at=time_message(run.deadline_at),
        missed_at=time_message(run.missed_at),
        trace_id=kept.traceparent.split("-")[1] if kept.traceparent.count("-") == 3 else "",  # noqa: PLR2004 - W3C's form
    )


def offset_of(run: pb.Run) -> str:
    """Return what names a state of a run: the same for the same, whichever replica says it."""
    return hashlib.blake2b(run.SerializeToString(deterministic=True), digest_size=12).hexdigest()


def workflow_message(row: Mapping[str, Any]) -> pb.Workflow:
    """Return a version of a workflow."""
    return pb.Workflow(
        name=row["name"],
        hash=row["sha256"],
        document_json=row["document"],
        principal=row["principal"],
        applied_at=time_message(row["applied_at"]),
    )


def queue_message(row: Mapping[str, Any]) -> pb.Queue:
    """Return a team's queue."""
    return pb.Queue(
        name=row["name"],
        principal=row["principal"],
        applied_at=time_message(row["applied_at"]),
        live=row["live"],
        transport=row["transport"],
    )


def match_message(found: Explanation) -> pb.TriggerMatch:
    """Return what a trigger made of an event."""
    return pb.TriggerMatch(
        trigger=found.trigger,
        disposition=found.disposition,
        reason=found.reason,
        run_id=str(found.run_id or ""),
        key=found.key,
        slot=found.slot,
        waits_until=time_message(found.waits_until),
    )


def trigger_message(shown: ShownTrigger) -> pb.Trigger:
    """Return a trigger in force, and how it stands."""
    return pb.Trigger(
        name=shown.name,
        workflow=shown.workflow,
        document_json=json.dumps(shown.document),
        principal=shown.principal,
        applied_at=time_message(shown.applied_at),
        paused_at=time_message(shown.paused_at),
        paused_by=shown.paused_by,
        blocked_by=str(shown.blocked_by or ""),
        waiting_runs=shown.waiting_runs,
        queued_events=shown.queued_events,
        waiting_events=shown.waiting_events,
        next_at=time_message(shown.next_at),
        last_match_at=time_message(shown.matched_at),
        last_error_at=time_message(shown.failed_at),
        last_error=shown.failure,
    )


def approval_message(waiting: Waiting) -> pb.Approval:
    """Return what waits to be decided."""
    asked = waiting.asked
    return pb.Approval(
        run_id=str(waiting.run_id),
        workflow=waiting.workflow,
        task=waiting.task,
        title=waiting.inner["title"],
        since=time_message(waiting.began_at),
        expires_at=time_message(waiting.due_at),
        need=asked.need,
        approved_by=[vote["by"] for vote in waiting.inner["votes"]],
        assignees=asked.assignees,
        role=asked.role or ("" if asked.assignees else "EDIT"),
        form_json=json.dumps({name: field.model_dump(mode="json") for name, field in asked.form.items()}),
    )


class _Shown:
    """Outputs as they are shown: as many as one answer holds, the first of them."""

    def __init__(self) -> None:
        self._left = SHOWN_BYTES

    def take(self, output: Any) -> str:  # noqa: ANN401 - a JSON value
        """Return an output as JSON; nothing for none, or when there is no room for it."""
        text = json.dumps(output) if output is not None else ""
        if len(text) > self._left:
            return ""
        self._left -= len(text)
        return text


def _task(
    name: str, records: Mapping[str, TaskRun | None], kept: KeptRun, shown: _Shown, slots: Mapping[str, str]
) -> pb.Task:
    task = records[name]
    kind = kind_of(name, kept.plan)
    pool = "" if kept.plan.is_scope(name) else kept.plan.step(name).task.pool or ""
    if task is None:
        return pb.Task(name=name, kind=kind, state="blocked", pool=pool, resources_json=_resources(name, kept))
    cache = (task.inner or {}).get(CACHE)
    return pb.Task(
        task_id=str(task.task_id),
        name=name,
        kind=kind,
        state=task.state,
        attempts=task.attempt,
        duration_s=duration_s(task),
        output_json=shown.take(task.output),
        error=str(task.failure) if task.failure is not None else "",
        progress=fraction_of(task),
        progress_message=task.message,
        dispatched_at=time_message(task.dispatched_at or task.began_at),
        ended_at=time_message(task.ended_at),
        set_by=(task.inner or {}).get(SET_BY, ""),
        taken_from=(task.inner or {}).get(TAKEN_FROM, ""),
        pool=pool,
        waits_for=slots.get(name) or waits_for(task, kept.plan),
        external_ref=task.carried.external_ref if task.carried is not None else "",
        deadline_at=time_message(task.deadline_at),
        missed_at=time_message(task.missed_at),
        cache_json=json.dumps(cache) if cache is not None else "",
        resources_json=_resources(name, kept),
        skipped_because=skipped_because(task, kept.plan, records.get),
    )


def _ended_attempt(row: Mapping[str, Any]) -> pb.EndedAttempt:
    return pb.EndedAttempt(
        attempt=row["attempt"],
        error=str(Failure(row["error"], row["message"])),
        lost=row["lost"],
        dispatched_at=time_message(row["dispatched_at"]),
        ended_at=time_message(row["ended_at"]),
    )


def _resources(name: str, kept: KeptRun) -> str:
    """Return what a worker needs for a task, as JSON; nothing where nothing is said, or it is a scope."""
    spec = None if kept.plan.is_scope(name) else kept.plan.step(name).task.resources
    return spec.model_dump_json(exclude_defaults=True) if spec is not None else ""


def time_message(at: datetime | None) -> Any:  # noqa: ANN401 - the stubs take a Timestamp or None
    """Return a time; None for none."""
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def change_message(told: Outcome) -> pb.RunChange:
    """Return what became of one of many runs."""
    return pb.RunChange(
        run_id=str(told.kept.run.run_id),
        workflow=told.kept.workflow,
        state=told.kept.run.state,
        outcome=told.outcome,
        changes=told.changes,
        reason=told.reason,
        rerun_run_id=str(told.rerun_run_id or ""),
    )
