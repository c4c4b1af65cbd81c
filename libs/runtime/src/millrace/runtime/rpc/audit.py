"""Who changed what: the stored answers, read as an audit trail."""

from datetime import UTC, datetime

from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.runtime.command import instant
from millrace.runtime.rpc.held import limit
from millrace.runtime.transaction import Transaction

LIST = """
SELECT time, principal, method, request_id, trace_id, body_sha256 FROM request
WHERE ($1 = '' OR namespace = $1) AND time < $2 ORDER BY time DESC, request_id LIMIT $3
"""
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


class AuditApi:
    """Serves `AuditService` over the `request` table."""

    def __init__(self, service: str) -> None:
        self._service = service

    async def List(self, request: pb.AuditServiceListRequest, tx: Transaction) -> pb.AuditServiceListResponse:
        before = instant(request.before, "before") if request.HasField("before") else LATEST
        rows = await tx.fetch(LIST, request.namespace, before, limit(request.limit))
        return pb.AuditServiceListResponse(rows=[pb.AuditRow(service=self._service, **dict(row)) for row in rows])
