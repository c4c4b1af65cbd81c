"""gRPC in: translate, hand over, translate back."""

from collections.abc import AsyncIterator
from operator import itemgetter

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.api.messages import approval_message, offset_of, queue_message, run_message, workflow_message
from millrace.control.api.operations import Operations
from millrace.control.api.pages import asked_page, cut
from millrace.control.api.pools import PoolApi
from millrace.control.api.schedules import ScheduleApi
from millrace.control.api.triggers import TriggerApi
from millrace.control.commands import (
    ApplyQueue,
    ApplyWorkflow,
    DecideTask,
    GetRun,
    GetWorkflow,
    ListApprovals,
    ListRuns,
    ShowRun,
    StartRun,
    read_data,
    read_workflow,
)
from millrace.control.handlers import (
    apply_queue,
    apply_workflow,
    decide_task,
    missing_subflows,
    start_run,
    why_tasks_wait,
)
from millrace.control.store import Store
from millrace.runtime.caller import caller
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Denied

WATCH_POLL_S = 1.0
"""How often a watched run is looked at when nothing in this process has changed it, seconds."""


class ControlApi(Operations, TriggerApi, ScheduleApi, PoolApi):
    """What control answers; one line each way."""

    async def ApplyWorkflow(self, request: pb.ApplyWorkflowRequest, tx: Store) -> pb.ApplyWorkflowResponse:
        workflow = read_workflow(request.workflow)
        command = ApplyWorkflow(namespace=request.namespace, principal=caller().principal, workflow=workflow)
        changed = await apply_workflow(command, tx)
        return pb.ApplyWorkflowResponse(
            name=workflow.name,
            hash=workflow.sha256,
            unchanged=changed is None,
            differences=changed or (),
            warnings=await missing_subflows(workflow, command.namespace, tx),
        )

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, tx: Store) -> pb.GetWorkflowResponse:
        asked = GetWorkflow(namespace=request.namespace, name=request.name, hash=request.hash)
        found = await tx.workflow(asked.namespace, asked.name, asked.hash)
        return pb.GetWorkflowResponse(workflow=workflow_message(found))

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, tx: Store) -> pb.ListWorkflowsResponse:
        asked = asked_page(request)
        page, after = cut(await tx.workflows(asked.namespace, asked.after, asked.limit + 1), asked, itemgetter("name"))
        return pb.ListWorkflowsResponse(workflows=map(workflow_message, page), next_after=after)

    async def ApplyQueue(self, request: pb.ApplyQueueRequest, tx: Store) -> pb.ApplyQueueResponse:
        command = ApplyQueue(
            namespace=request.namespace,
            principal=caller().principal,
            queue=request.queue,
            transport=request.transport or "kafka",
        )
        found, new = await apply_queue(command, tx)
        return pb.ApplyQueueResponse(queue=queue_message(found), unchanged=not new)

    async def ListQueues(self, request: pb.ListQueuesRequest, tx: Store) -> pb.ListQueuesResponse:
        asked = asked_page(request)
        page, after = cut(await tx.queues(asked.namespace, asked.after, asked.limit + 1), asked, itemgetter("name"))
        return pb.ListQueuesResponse(queues=map(queue_message, page), next_after=after)

    async def StartRun(self, request: pb.StartRunRequest, tx: Store) -> pb.StartRunResponse:
        command = StartRun(
            namespace=request.namespace,
            principal=caller().principal,
            workflow=request.workflow,
            data=read_data(request.data_json),
            refresh=request.refresh,
        )
        return pb.StartRunResponse(run=run_message(await start_run(command, tx)))

    async def GetRun(self, request: pb.GetRunRequest, tx: Store) -> pb.GetRunResponse:
        asked = ShowRun(
            namespace=request.namespace,
            run_id=request.run_id,
            items=request.items,
            limit=request.limit or ShowRun.model_fields["limit"].default,
            after=request.after,
        )
        kept = await tx.run(asked.namespace, asked.run_id)
        past = await tx.past(asked.run_id, asked.limit, asked.items, asked.after)
        slots, attempts = await why_tasks_wait(kept, tx), await tx.attempts(asked.run_id)
        told = run_message(kept, past=past.records, items=asked.items, slots=slots, attempts=attempts)
        return pb.GetRunResponse(run=told, next_after=past.next_after)

    async def WatchRun(
        self, request: pb.WatchRunRequest, begin: Transactions[Store]
    ) -> AsyncIterator[pb.WatchRunResponse]:
        asked = GetRun(namespace=request.namespace, run_id=request.run_id)
        signals, offset = Store.signals, request.after
        with signals.watching(asked.run_id) as changed:
            while True:
                async with begin() as tx:
                    kept = await tx.run(asked.namespace, asked.run_id)
                told = run_message(kept)
                if (here := offset_of(told)) != offset:
                    offset = here
                    yield pb.WatchRunResponse(run=told, offset=offset)
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
        runs = await tx.list_runs(asked.namespace, asked.workflow, asked.state or "", asked.before_run_id, asked.limit)
        return pb.ListRunsResponse(runs=[run_message(kept, tasks=False) for kept in runs])

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
        return pb.DecideTaskResponse(run=run_message(await decide_task(command, tx), tasks=False))

    async def ListApprovals(self, request: pb.ListApprovalsRequest, tx: Store) -> pb.ListApprovalsResponse:
        asked = ListApprovals(
            namespace=request.namespace,
            limit=request.limit or ListApprovals.model_fields["limit"].default,
            after=request.after,
        )
        waiting = await tx.waiting(asked.namespace, asked.limit + 1, asked.after)
        page, more = waiting[: asked.limit], len(waiting) > asked.limit
        after = f"{page[-1].began_at.isoformat()} {page[-1].run_id} {page[-1].task}" if more else ""
        return pb.ListApprovalsResponse(approvals=map(approval_message, page), next_after=after)
