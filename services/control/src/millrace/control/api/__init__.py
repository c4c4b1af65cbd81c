"""gRPC in: translate, hand over, translate back."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.api.schedules import ScheduleApi
from millrace.control.commands import (
    ApplyQueue,
    ApplyTrigger,
    ApplyWorkflow,
    CancelRun,
    DecideTask,
    ExplainEvent,
    GetRun,
    GetWorkflow,
    ListApprovals,
    ListRuns,
    PauseTrigger,
    ResumeTrigger,
    SignalRun,
    StartRun,
    UnblockTrigger,
    read_data,
    read_trigger,
    read_workflow,
)
from millrace.control.domain.explain import Explanation, led_by
from millrace.control.domain.runs import KeptRun
from millrace.control.domain.shown import in_order
from millrace.control.handlers import (
    apply_queue,
    apply_trigger,
    apply_workflow,
    cancel_run,
    decide_task,
    explain_event,
    explain_run,
    pause_trigger,
    resume_trigger,
    signal_run,
    start_run,
    unblock_trigger,
)
from millrace.control.store import ShownTrigger, Store, Waiting
from millrace.core.shown import duration_s, fraction_of, kind_of
from millrace.core.state import TaskRun
from millrace.runtime.access import caller
from millrace.runtime.errors import Denied
from millrace.runtime.transaction import Transactions

SHOWN = 1_000
"""The most tasks of scopes that are over that are shown of a run."""
SHOWN_BYTES = 2 * 1024 * 1024
"""The most of outputs that one answer holds; a message has at most twice that."""
WATCH_POLL_S = 1.0
"""How often a watched run is looked at when nothing in this process has changed it, seconds."""


class ControlApi(ScheduleApi):
    """What control answers; one line each way."""

    async def ApplyWorkflow(self, request: pb.ApplyWorkflowRequest, tx: Store) -> pb.ApplyWorkflowResponse:
        workflow = read_workflow(request.workflow)
        command = ApplyWorkflow(namespace=request.namespace, principal=caller().principal, workflow=workflow)
        changed = await apply_workflow(command, tx)
        return pb.ApplyWorkflowResponse(
            name=workflow.name, hash=workflow.sha256, unchanged=changed is None, differences=changed or ()
        )

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, tx: Store) -> pb.GetWorkflowResponse:
        asked = GetWorkflow(namespace=request.namespace, name=request.name, hash=request.hash)
        return pb.GetWorkflowResponse(workflow=_workflow(await tx.workflow(asked.namespace, asked.name, asked.hash)))

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, tx: Store) -> pb.ListWorkflowsResponse:
        return pb.ListWorkflowsResponse(workflows=[_workflow(row) for row in await tx.workflows(request.namespace)])

    async def ApplyTrigger(self, request: pb.ApplyTriggerRequest, tx: Store) -> pb.ApplyTriggerResponse:
        trigger = read_trigger(request.trigger)
        command = ApplyTrigger(namespace=request.namespace, principal=caller().principal, trigger=trigger)
        return pb.ApplyTriggerResponse(name=trigger.name, unchanged=not await apply_trigger(command, tx))

    async def ApplyQueue(self, request: pb.ApplyQueueRequest, tx: Store) -> pb.ApplyQueueResponse:
        command = ApplyQueue(namespace=request.namespace, principal=caller().principal, queue=request.queue)
        found, new = await apply_queue(command, tx)
        return pb.ApplyQueueResponse(queue=_queue(found), unchanged=not new)

    async def ListQueues(self, request: pb.ListQueuesRequest, tx: Store) -> pb.ListQueuesResponse:
        return pb.ListQueuesResponse(queues=[_queue(row) for row in await tx.queues(request.namespace)])

    async def StartRun(self, request: pb.StartRunRequest, tx: Store) -> pb.StartRunResponse:
        command = StartRun(
            namespace=request.namespace,
            principal=caller().principal,
            workflow=request.workflow,
            data=read_data(request.data_json),
        )
        return pb.StartRunResponse(run=_run(await start_run(command, tx)))

    async def GetRun(self, request: pb.GetRunRequest, tx: Store) -> pb.GetRunResponse:
        asked = GetRun(namespace=request.namespace, run_id=request.run_id)
        kept = await tx.run(asked.namespace, asked.run_id)
        return pb.GetRunResponse(run=_run(kept, past=await tx.past(kept.run.run_id, SHOWN)))

    async def WatchRun(
        self, request: pb.WatchRunRequest, begin: Transactions[Store]
    ) -> AsyncIterator[pb.WatchRunResponse]:
        asked = GetRun(namespace=request.namespace, run_id=request.run_id)
        signals, last = Store.signals, None
        with signals.watching(asked.run_id) as changed:
            while True:
                async with begin() as tx:
                    kept = await tx.run(asked.namespace, asked.run_id)
                told = _run(kept)
                if told != last:
                    last = told
                    yield pb.WatchRunResponse(run=told)
                if kept.run.state.ended:
                    return
                await changed.wait(WATCH_POLL_S)

    async def ListRuns(self, request: pb.ListRunsRequest, tx: Store) -> pb.ListRunsResponse:
        asked = ListRuns(
            namespace=request.namespace,
            workflow=request.workflow,
            state=request.state,
            limit=request.limit or ListRuns.model_fields["limit"].default,
            before_run_id=request.before_run_id,
        )
        runs = await tx.list_runs(asked.namespace, asked.workflow, asked.state, asked.before_run_id, asked.limit)
        return pb.ListRunsResponse(runs=[_run(kept, tasks=False) for kept in runs])

    async def CancelRun(self, request: pb.CancelRunRequest, tx: Store) -> pb.CancelRunResponse:
        command = CancelRun(
            namespace=request.namespace, principal=caller().principal, run_id=request.run_id, reason=request.reason
        )
        return pb.CancelRunResponse(run=_run(await cancel_run(command, tx), tasks=False))

    async def SignalRun(self, request: pb.SignalRunRequest, tx: Store) -> pb.SignalRunResponse:
        command = SignalRun(
            namespace=request.namespace,
            principal=caller().principal,
            run_id=request.run_id,
            signal=request.signal,
            data=read_data(request.data_json),
        )
        return pb.SignalRunResponse(run=_run(await signal_run(command, tx), tasks=False))

    async def DecideTask(self, request: pb.DecideTaskRequest, tx: Store) -> pb.DecideTaskResponse:
        if caller().service:
            raise Denied(f"{caller().service} may not decide for {caller().principal}: people do that themselves")
        command = DecideTask(
            namespace=request.namespace,
            principal=caller().principal,
            role=caller().role,
            run_id=request.run_id,
            task=request.task,
            approve=request.approve,
            comment=request.comment,
            form=read_data(request.form_json),
        )
        return pb.DecideTaskResponse(run=_run(await decide_task(command, tx), tasks=False))

    async def ListApprovals(self, request: pb.ListApprovalsRequest, tx: Store) -> pb.ListApprovalsResponse:
        asked = ListApprovals(
            namespace=request.namespace, limit=request.limit or ListApprovals.model_fields["limit"].default
        )
        waiting = await tx.waiting(asked.namespace, asked.limit)
        return pb.ListApprovalsResponse(approvals=[_approval(one) for one in waiting])

    async def ExplainEvent(self, request: pb.ExplainEventRequest, tx: Store) -> pb.ExplainEventResponse:
        asked = ExplainEvent(namespace=request.namespace, source=request.source, event_id=request.event_id)
        arrived, explanations = await explain_event(asked, tx)
        if arrived is None:
            return pb.ExplainEventResponse(received=False)
        return pb.ExplainEventResponse(
            received=True,
            received_at=_time(arrived.received_at),
            deliveries=arrived.deliveries,
            source=arrived.event.source,
            matches=[_match(found) for found in explanations],
        )

    async def ExplainRun(self, request: pb.ExplainRunRequest, tx: Store) -> pb.ExplainRunResponse:
        kept, reasons = await explain_run(GetRun(namespace=request.namespace, run_id=request.run_id), tx)
        events = [
            pb.RunEvent(source=e["source"], event_id=e["id"], type=e["type"], time=e["time"], slot=slot)
            for slot, e in led_by(kept.run)
        ]
        return pb.ExplainRunResponse(run=_run(kept, tasks=False), reasons=reasons, events=events)

    async def ListTriggers(self, request: pb.ListTriggersRequest, tx: Store) -> pb.ListTriggersResponse:
        return pb.ListTriggersResponse(triggers=[_trigger(one) for one in await tx.shown_triggers(request.namespace)])

    async def PauseTrigger(self, request: pb.PauseTriggerRequest, tx: Store) -> pb.PauseTriggerResponse:
        command = PauseTrigger(namespace=request.namespace, principal=caller().principal, name=request.name)
        return pb.PauseTriggerResponse(trigger=_trigger(await pause_trigger(command, tx)))

    async def ResumeTrigger(self, request: pb.ResumeTriggerRequest, tx: Store) -> pb.ResumeTriggerResponse:
        command = ResumeTrigger(namespace=request.namespace, principal=caller().principal, name=request.name)
        return pb.ResumeTriggerResponse(trigger=_trigger(await resume_trigger(command, tx)))

    async def UnblockTrigger(self, request: pb.UnblockTriggerRequest, tx: Store) -> pb.UnblockTriggerResponse:
        command = UnblockTrigger(namespace=request.namespace, principal=caller().principal, name=request.name)
        return pb.UnblockTriggerResponse(trigger=_trigger(await unblock_trigger(command, tx)))


def _run(kept: KeptRun, *, tasks: bool = True, past: Sequence[TaskRun] = ()) -> pb.Run:
    run, shown = kept.run, _Shown()
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
        created_at=_time(kept.created_at),
        started_at=_time(run.started_at),
        ended_at=_time(run.ended_at),
        output_json=shown.take(run.output) if tasks else "",
        tasks=[_task(name, task, kept, shown) for name, task in in_order(kept, past)] if tasks else [],
        schedule_json=json.dumps(run.trigger["schedule"]) if "schedule" in run.trigger else "",
        trace_id=kept.traceparent.split("-")[1] if kept.traceparent.count("-") == 3 else "",  # noqa: PLR2004 - W3C's form
    )


def _workflow(row: Mapping[str, Any]) -> pb.Workflow:
    return pb.Workflow(
        name=row["name"],
        hash=row["sha256"],
        document_json=row["document"],
        principal=row["principal"],
        applied_at=_time(row["applied_at"]),
    )


def _queue(row: Mapping[str, Any]) -> pb.Queue:
    return pb.Queue(name=row["name"], principal=row["principal"], applied_at=_time(row["applied_at"]), live=row["live"])


def _match(found: Explanation) -> pb.TriggerMatch:
    return pb.TriggerMatch(
        trigger=found.trigger,
        disposition=found.disposition,
        reason=found.reason,
        run_id=str(found.run_id or ""),
        key=found.key,
        slot=found.slot,
        waits_until=_time(found.waits_until),
    )


def _trigger(shown: ShownTrigger) -> pb.Trigger:
    return pb.Trigger(
        name=shown.name,
        workflow=shown.workflow,
        document_json=json.dumps(shown.document),
        principal=shown.principal,
        applied_at=_time(shown.applied_at),
        paused_at=_time(shown.paused_at),
        paused_by=shown.paused_by,
        blocked_by=str(shown.blocked_by or ""),
        waiting_runs=shown.waiting_runs,
        queued_events=shown.queued_events,
        waiting_events=shown.waiting_events,
        next_at=_time(shown.next_at),
    )


def _approval(waiting: Waiting) -> pb.Approval:
    asked = waiting.asked
    return pb.Approval(
        run_id=str(waiting.run_id),
        workflow=waiting.workflow,
        task=waiting.task,
        title=waiting.inner["title"],
        since=_time(waiting.began_at),
        expires_at=_time(waiting.due_at),
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


def _task(name: str, task: TaskRun | None, kept: KeptRun, shown: _Shown) -> pb.Task:
    kind = kind_of(name, kept.plan)
    if task is None:
        return pb.Task(name=name, kind=kind, state="blocked")
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
        dispatched_at=_time(task.dispatched_at or task.began_at),
        ended_at=_time(task.ended_at),
    )


def _time(at: datetime | None) -> Any:  # noqa: ANN401 - the stubs take a Timestamp or None
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
