"""gRPC in: translate, hand over, translate back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.observability.v1 import observability_pb2 as pb
from millrace.observability.clients.audit import gather_audit
from millrace.observability.commands import USUAL_AUDIT_ROWS, GetRunCost, GetSeries, ListAudit
from millrace.observability.domain import AuditRow, RunCost, Series, newest_first
from millrace.observability.handlers import view_run_cost, view_series
from millrace.observability.store import Store
from millrace.runtime.command import instant


@dataclass(frozen=True)
class ObservabilityApi:
    """`ObservabilityService`.

    Attributes:
        channel: Gives a channel to a service, on behalf of whoever asks.
        services: Whose mutating calls are listed.
        audit_timeout_s: How long each of them may take, seconds.
    """

    channel: Callable[[str], grpc.aio.Channel]
    services: Sequence[str]
    audit_timeout_s: float

    async def GetSeries(self, request: pb.GetSeriesRequest, tx: Store) -> pb.GetSeriesResponse:
        """See the proto."""
        return pb.GetSeriesResponse(series=map(_series, await view_series(_get_series(request), tx)))

    async def GetRunCost(self, request: pb.GetRunCostRequest, tx: Store) -> pb.GetRunCostResponse:
        """See the proto."""
        return _run_cost(await view_run_cost(GetRunCost(namespace=request.namespace, run_id=request.run_id), tx))

    async def ListAudit(self, request: pb.ListAuditRequest, _: object) -> pb.ListAuditResponse:
        """See the proto."""
        asked = ListAudit(namespace=request.namespace, limit=request.limit or USUAL_AUDIT_ROWS)
        audit = await gather_audit(self.channel, self.services, asked.namespace, asked.limit, self.audit_timeout_s)
        entries = map(_entry, newest_first(audit.rows, asked.limit))
        return pb.ListAuditResponse(entries=entries, unreachable=audit.unreachable)


def _get_series(request: pb.GetSeriesRequest) -> GetSeries:
    return GetSeries(
        namespace=request.namespace,
        metric=request.metric,
        start=instant(getattr(request, "from"), "from") if request.HasField("from") else None,
        end=instant(request.to, "to") if request.HasField("to") else None,
        labels=dict(request.labels),
    )


def _stamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _series(series: Series) -> pb.Series:
    return pb.Series(
        labels=series.labels, points=[pb.Point(time=_stamp(at), value=value) for at, value in series.points]
    )


def _run_cost(cost: RunCost) -> pb.GetRunCostResponse:
    steps = [
        pb.StepCost(
            task=step.task,
            attempts=step.attempts,
            duration_s=step.duration_s,
            cpu_s=step.cpu_s,
            cost=float(step.cost),
        )
        for step in cost.steps
    ]
    return pb.GetRunCostResponse(
        run_id=str(cost.run_id),
        state=cost.state,
        duration_s=cost.duration_s,
        cpu_s=cost.cpu_s,
        cost=float(cost.cost),
        currency=cost.currency,
        steps=steps,
    )


def _entry(row: AuditRow) -> pb.AuditEntry:
    return pb.AuditEntry(
        time=_stamp(row.time),
        service=row.service,
        principal=row.principal,
        method=row.method,
        request_id=row.request_id,
        trace_id=row.trace_id,
    )
