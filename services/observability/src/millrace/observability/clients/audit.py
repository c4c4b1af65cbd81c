"""What observability asks of every service: its mutating calls."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC

import grpc
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import AuditServiceStub
from millrace.observability.domain import AuditRow
from millrace.runtime.errors import Denied, MillraceError


@dataclass(frozen=True)
class Audit:
    """What all services together answered.

    Attributes:
        unreachable: Those that did not, in time.
    """

    rows: Sequence[AuditRow]
    unreachable: Sequence[str]


async def gather_audit(
    channel: Callable[[str], grpc.aio.Channel], services: Sequence[str], namespace: str, limit: int, timeout_s: float
) -> Audit:
    """Ask all services at once; those that do not answer, or not in time, are named.

    Raises:
        Denied: Whoever asks may not see a service's calls.
    """
    asked = [_rows(channel, service, namespace, limit, timeout_s) for service in services]
    answers = dict(zip(services, await asyncio.gather(*asked), strict=True))
    rows = [row for answer in answers.values() if answer is not None for row in answer]
    return Audit(rows, [service for service, answer in answers.items() if answer is None])


async def _rows(
    channel: Callable[[str], grpc.aio.Channel], service: str, namespace: str, limit: int, timeout_s: float
) -> list[AuditRow] | None:
    request = pb.AuditServiceListRequest(namespace=namespace, limit=limit)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await AuditServiceStub(channel(service)).List(request, timeout=timeout_s)
    except Denied:
        raise
    except (MillraceError, TimeoutError):
        return None
    return [
        AuditRow(row.time.ToDatetime(UTC), service, row.principal, row.method, row.request_id, row.trace_id)
        for row in answer.rows
    ]
