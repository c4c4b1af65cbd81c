"""What an app does with Millrace: declare, run, predict, explain, operate."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import uuid4

from millrace.contracts import oip
from millrace.contracts.rpc.control.v1 import control_pb2 as control
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.data.v1 import data_pb2 as data
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.contracts.rpc.feature.v1 import feature_pb2 as feature
from millrace.contracts.rpc.feature.v1.feature_pb2_grpc import FeatureServiceStub
from millrace.contracts.rpc.inference.v1 import inference_pb2 as inference
from millrace.contracts.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as lineage
from millrace.contracts.rpc.lineage.v1.lineage_pb2_grpc import LineageServiceStub
from millrace.contracts.rpc.observability.v1 import observability_pb2 as observability
from millrace.contracts.rpc.observability.v1.observability_pb2_grpc import ObservabilityServiceStub
from millrace.runtime.errors import Unavailable
from millrace.sdk.connection import Connection, connection
from millrace.sdk.held import HeldEvents
from millrace.sdk.operations import Operations
from millrace.sdk.pages import PAGE, pages
from millrace.sdk.pools import Pools
from millrace.sdk.predictions import Model, Prediction, Row, infer_request, model_of, predictions
from millrace.sdk.schedules import Schedules

if TYPE_CHECKING:
    import pyarrow as pa
    from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceAsyncStub
    from millrace.contracts.rpc.feature.v1.feature_pb2_grpc import FeatureServiceAsyncStub
    from millrace.contracts.rpc.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from millrace.contracts.rpc.lineage.v1.lineage_pb2_grpc import LineageServiceAsyncStub
    from millrace.contracts.rpc.observability.v1.observability_pb2_grpc import ObservabilityServiceAsyncStub

NAMESPACE = "demo"
NAMESPACE_HEADER = "x-millrace-namespace"
ENDED = frozenset({"succeeded", "refused", "failed", "cancelled"})
PATIENCE_S = 60.0
"""How long a watcher waits for a control that does not answer."""
RETRY_S = 0.5

Direction = Literal["upstream", "downstream", "both"]
_DIRECTIONS: Mapping[Direction, lineage.Direction] = {
    "upstream": lineage.DIRECTION_UPSTREAM,
    "downstream": lineage.DIRECTION_DOWNSTREAM,
    "both": lineage.DIRECTION_BOTH,
}


class Client(Operations):
    """The services of one namespace, for asynchronous code: `async with Client() as millrace`.

    Every method asks one service and raises the error that the service raised. What changes something may be repeated
    by the connection, and is done once.

    Args:
        to: Where the services answer, and the token; when not given, what `MILLRACE_ENDPOINTS` and `MILLRACE_TOKEN`
            say, or else the stack in this folder.
        namespace: Whose things to work on.

    Raises:
        Unavailable: It is not said where the services are.
    """

    def __init__(self, to: Connection | None = None, *, namespace: str = NAMESPACE) -> None:
        self.namespace = namespace
        self._channels = (to or connection()).channels()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channels.close()

    async def apply_workflow(self, workflow: str) -> control.ApplyWorkflowResponse:
        """Put a workflow (YAML or JSON) in force."""
        request = control.ApplyWorkflowRequest(namespace=self.namespace, request_id=_new(), workflow=workflow)
        return await self._control.ApplyWorkflow(request)

    async def apply_queue(self, queue: str, transport: Literal["kafka", "grpc"] = "kafka") -> control.Queue:
        """Have a queue of the namespace's own, and return it; it is live within 2 s.

        Args:
            queue: Its name.
            transport: Whether its tasks go out on Kafka, or its workers lease them from control.
        """
        request = control.ApplyQueueRequest(
            namespace=self.namespace, request_id=_new(), queue=queue, transport=transport
        )
        return (await self._control.ApplyQueue(request)).queue

    async def queues(self) -> Sequence[control.Queue]:
        """Return the queues of the namespace, by name."""
        found = pages(self._control.ListQueues, control.ListQueuesRequest(namespace=self.namespace, limit=PAGE))
        return [one async for page in found for one in page.queues]

    async def apply_trigger(self, trigger: str | Mapping[str, Any]) -> control.ApplyTriggerResponse:
        """Put a trigger (YAML or JSON, or what that says) in force."""
        text = trigger if isinstance(trigger, str) else json.dumps(trigger)
        request = control.ApplyTriggerRequest(namespace=self.namespace, request_id=_new(), trigger=text)
        return await self._control.ApplyTrigger(request)

    async def triggers(self) -> Sequence[control.Trigger]:
        """Return the triggers in force, and how they stand."""
        found = pages(self._control.ListTriggers, control.ListTriggersRequest(namespace=self.namespace, limit=PAGE))
        return [one async for page in found for one in page.triggers]

    async def trigger(self, name: str) -> control.Trigger:
        """Return a trigger in force, and how it stands."""
        return (await self._control.GetTrigger(control.GetTriggerRequest(namespace=self.namespace, name=name))).trigger

    async def pause_trigger(self, name: str) -> control.Trigger:
        """Let a trigger start nothing until it is resumed; what comes meanwhile is queued or dropped, as it says."""
        request = control.PauseTriggerRequest(namespace=self.namespace, request_id=_new(), name=name)
        return (await self._control.PauseTrigger(request)).trigger

    async def resume_trigger(self, name: str) -> control.Trigger:
        """Let a trigger go on, first with what came while it was paused."""
        request = control.ResumeTriggerRequest(namespace=self.namespace, request_id=_new(), name=name)
        return (await self._control.ResumeTrigger(request)).trigger

    async def unblock_trigger(self, name: str) -> control.Trigger:
        """Let the runs of a strict sequence go on behind one that has failed."""
        request = control.UnblockTriggerRequest(namespace=self.namespace, request_id=_new(), name=name)
        return (await self._control.UnblockTrigger(request)).trigger

    async def delete_trigger(self, name: str) -> control.DeleteTriggerResponse:
        """Take a trigger out of force; its runs that have not begun are cancelled, its events that wait are dropped."""
        request = control.DeleteTriggerRequest(namespace=self.namespace, request_id=_new(), name=name)
        return await self._control.DeleteTrigger(request)

    async def apply_contract(self, contract: str) -> data.ApplyContractResponse:
        """Put a dataset's contract (ODCS, YAML) in force."""
        request = data.ApplyContractRequest(namespace=self.namespace, request_id=_new(), odcs_yaml=contract)
        return await DataServiceStub(self._channels.to("data")).ApplyContract(request)

    async def apply_views(self, views: str) -> Sequence[feature.View]:
        """Put feature views (a YAML stream) in force."""
        request = feature.ApplyViewsRequest(namespace=self.namespace, request_id=_new(), views_yaml=views)
        return (await self._feature.ApplyViews(request)).views

    async def start_run(
        self,
        workflow: str,
        data: Any = None,  # noqa: ANN401 - any JSON value
        *,
        request_id: str = "",
        refresh: bool = False,
    ) -> control.Run:
        """Start a run.

        Args:
            workflow: Its name.
            data: What `/trigger/data` of its task inputs points into, JSON.
            request_id: Calls with the same one start one run.
            refresh: Compute anew what could be taken from the cache.
        """
        text = json.dumps(data, allow_nan=False)
        request = control.StartRunRequest(
            namespace=self.namespace,
            request_id=request_id or _new(),
            workflow=workflow,
            data_json=text,
            refresh=refresh,
        )
        return (await self._control.StartRun(request)).run

    async def run(self, run_id: str) -> control.Run:
        """Return a run, with its tasks."""
        return (await self._control.GetRun(control.GetRunRequest(namespace=self.namespace, run_id=run_id))).run

    async def run_page(
        self, run_id: str, *, items: str = "", limit: int = 0, after: str = ""
    ) -> control.GetRunResponse:
        """Return a run with a page of its items and iterations that are over, and where the next page begins.

        Args:
            run_id: Which.
            items: Only those that are `succeeded`, `failed` or `cancelled`.
            limit: How many at most; default: 1,000. Failed ones come first.
            after: `next_after` of the page before.
        """
        return await self._control.GetRun(
            control.GetRunRequest(namespace=self.namespace, run_id=run_id, items=items, limit=limit, after=after)
        )

    async def runs(
        self, *, workflow: str = "", state: str = "", limit: int = 50, before_run_id: str = ""
    ) -> Sequence[control.Run]:
        """Return the newest runs, without their tasks."""
        request = control.ListRunsRequest(
            namespace=self.namespace, workflow=workflow, state=state, limit=limit, before_run_id=before_run_id
        )
        return (await self._control.ListRuns(request)).runs

    async def watch_run(self, run_id: str) -> AsyncIterator[control.Run]:
        """Yield a run now and after each change, until it has ended; control may be restarted meanwhile."""
        last = control.Run()
        lost_at: float | None = None
        while last.state not in ENDED:
            try:
                request = control.WatchRunRequest(namespace=self.namespace, run_id=run_id)
                async for told in self._control.WatchRun(request):
                    lost_at = None
                    if told.run != last:
                        last = told.run
                        yield last
            except Unavailable:
                # A run may be silent for weeks: what counts is how long nobody answers.
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > PATIENCE_S:
                    raise
            if last.state not in ENDED:
                await asyncio.sleep(RETRY_S)

    async def workflow(self, name: str, version: str = "") -> control.Workflow:
        """Return a workflow in force, or the version of a hash."""
        asked = control.GetWorkflowRequest(namespace=self.namespace, name=name, hash=version)
        return (await self._control.GetWorkflow(asked)).workflow

    async def workflows(self) -> Sequence[control.Workflow]:
        """Return the workflows in force, without their documents."""
        found = pages(self._control.ListWorkflows, control.ListWorkflowsRequest(namespace=self.namespace, limit=PAGE))
        return [one async for page in found for one in page.workflows]

    async def decide_task(
        self, run_id: str, task: str, *, approve: bool, comment: str = "", form: Mapping[str, Any] | None = None
    ) -> control.Run:
        """Approve or reject what a run waits for."""
        request = control.DecideTaskRequest(
            namespace=self.namespace,
            request_id=_new(),
            run_id=run_id,
            task=task,
            approve=approve,
            comment=comment,
            form_json=json.dumps(form) if form is not None else "",
        )
        return (await self._control.DecideTask(request)).run

    async def approvals(self, limit: int = 50) -> Sequence[control.Approval]:
        """Return what waits to be decided, the oldest first."""
        found: list[control.Approval] = []
        asked = control.ListApprovalsRequest(namespace=self.namespace, limit=min(limit, PAGE))
        async for page in pages(self._control.ListApprovals, asked):
            found += page.approvals
            if len(found) >= limit:
                break
        return found[:limit]

    async def explain_event(self, source: str, event_id: str) -> control.ExplainEventResponse:
        """Return why an event did or did not start a run; where only one has the id, its source may be empty."""
        request = control.ExplainEventRequest(namespace=self.namespace, source=source, event_id=event_id)
        return await self._control.ExplainEvent(request)

    async def explain_run(self, run_id: str) -> control.ExplainRunResponse:
        """Return what started a run, and why it stands where it does."""
        return await self._control.ExplainRun(control.ExplainRunRequest(namespace=self.namespace, run_id=run_id))

    async def model(self, name: str) -> Model:
        """Return what a model takes, by the Open Inference Protocol."""
        metadata = await self._inference.ModelMetadata(oip.ModelMetadataRequest(name=name), metadata=self._whose())
        return model_of(metadata)

    async def predict(self, model: str, rows: Sequence[Row], routing_keys: Sequence[str] = ()) -> list[Prediction]:
        """Return a model's score of each row, by the Open Inference Protocol.

        Args:
            model: Its name.
            rows: Each with the same inputs: text for an entity's key, a number (or None for not known) for a feature.
            routing_keys: One for each row, or none; during a canary the same key is answered by the same version, and
                a label that comes later names the request by it.
        """
        request = infer_request(model, rows, routing_keys, _new())
        return predictions(await self._inference.ModelInfer(request, metadata=self._whose()))

    async def route(self, model: str) -> inference.GetRouteResponse:
        """Return which versions of a model answer, with what share, and the moves that led there, newest first."""
        return await self._deployments.GetRoute(inference.GetRouteRequest(namespace=self.namespace, model=model))

    async def canary(self, deployment_id: str) -> inference.GetCanaryResponse:
        """Return what is known of a canary's answers so far, and how many labelled ones its judge waits for."""
        request = inference.GetCanaryRequest(namespace=self.namespace, deployment_id=deployment_id)
        return await self._deployments.GetCanary(request)

    async def compute(self, views: Sequence[str], spine: "pa.Table", sources: Mapping[str, "pa.Table"]) -> "pa.Table":
        """Return request-time features, computed by the views' own SQL: columns `view.feature`, a row for each asked.

        Args:
            views: Their names.
            spine: Rows to compute for: the entity columns and the time `t`.
            sources: What the views read: name -> rows.

        Raises:
            Unavailable: pyarrow is not installed.
        """
        try:
            from millrace.sdk import arrow  # noqa: PLC0415 - pyarrow is there only with the extra [arrow]
        except ImportError as error:
            raise Unavailable(f"{error.name} is not installed: pip install 'millrace-sdk[arrow]'") from error

        request = feature.ComputeRequest(
            namespace=self.namespace,
            views=views,
            spine_arrow=arrow.stream(spine),
            sources_arrow={name: arrow.stream(rows) for name, rows in sources.items()},
        )
        return arrow.table((await self._feature.Compute(request)).features_arrow)

    async def explain(self, prediction_id: str) -> lineage.ExplainResponse:
        """Return the way from a prediction back to the files that it rests on."""
        request = lineage.ExplainRequest(namespace=self.namespace, prediction_id=prediction_id)
        return await self._lineage.Explain(request)

    async def graph(self, node: str, direction: Direction = "both", *, depth: int = 0) -> lineage.GetGraphResponse:
        """Return what lies upstream or downstream of a node such as `data.version:3f…`; depth 0 is all of it."""
        request = lineage.GetGraphRequest(
            namespace=self.namespace, node=node, direction=_DIRECTIONS[direction], depth=depth
        )
        return await self._lineage.GetGraph(request)

    async def audit(self, *, limit: int = 100) -> observability.ListAuditResponse:
        """Return who changed what, over all services, newest first."""
        return await self._observability.ListAudit(
            observability.ListAuditRequest(namespace=self.namespace, limit=limit)
        )

    async def series(
        self, metric: str, start: datetime, end: datetime, labels: Mapping[str, str] | None = None
    ) -> Sequence[observability.Series]:
        """Return a metric over time, such as `run_duration_s`; only series with these labels."""
        request = observability.GetSeriesRequest(namespace=self.namespace, metric=metric, to=end, labels=labels or {})
        getattr(request, "from").FromDatetime(start)
        return (await self._observability.GetSeries(request)).series

    async def cost(self, run_id: str) -> observability.GetRunCostResponse:
        """Return what a run took and cost, step by step."""
        return await self._observability.GetRunCost(
            observability.GetRunCostRequest(namespace=self.namespace, run_id=run_id)
        )

    @cached_property
    def held(self) -> HeldEvents:
        """Return the events that services could not handle."""
        return HeldEvents(self._channels, self.namespace)

    @cached_property
    def schedules(self) -> Schedules:
        """Return the schedules, by which runs are started."""
        return Schedules(self._channels, self.namespace)

    @cached_property
    def pools(self) -> Pools:
        """Return the pools, whose slots tasks take, and the namespace's quota."""
        return Pools(self._channels, self.namespace)

    @cached_property
    def _control(self) -> "ControlServiceAsyncStub":
        return ControlServiceStub(self._channels.to("control"))

    @cached_property
    def _feature(self) -> "FeatureServiceAsyncStub":
        return FeatureServiceStub(self._channels.to("feature"))

    @cached_property
    def _deployments(self) -> "InferenceServiceAsyncStub":
        return InferenceServiceStub(self._channels.to("inference"))

    @cached_property
    def _inference(self) -> oip.OpenInferenceStub:
        return oip.OpenInferenceStub(self._channels.to("inference"))

    @cached_property
    def _lineage(self) -> "LineageServiceAsyncStub":
        return LineageServiceStub(self._channels.to("lineage"))

    @cached_property
    def _observability(self) -> "ObservabilityServiceAsyncStub":
        return ObservabilityServiceStub(self._channels.to("observability"))

    def _whose(self) -> Sequence[tuple[str, str]]:
        """Return the namespace for a protocol that has no field for it."""
        return ((NAMESPACE_HEADER, self.namespace),)


def _new() -> str:
    return str(uuid4())
