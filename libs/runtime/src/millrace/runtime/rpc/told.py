"""What is measured, traced and logged of every call."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from millrace.runtime.caller import Caller
from millrace.runtime.rpc.methods import Rpc
from millrace.runtime.status import Status, status_of
from millrace.runtime.telemetry import (
    NAMESPACE,
    RPC_CODE,
    RPC_DURATION,
    RPC_METHOD,
    RPC_SERVICE,
    RPC_SYSTEM,
    span,
)
from opentelemetry.trace import SpanKind

log = structlog.get_logger()


@dataclass
class Told:
    """What the log line of one call says."""

    begun: float = field(default_factory=time.perf_counter)
    who: Caller = field(default_factory=lambda: Caller(""))
    request_id: str = ""
    repeated: bool = False
    status: Status | None = None
    failure: BaseException | None = None


@contextmanager
def reported(service: str, rpc: Rpc, metadata: Mapping[str, str], told: Told) -> Iterator[None]:
    """Measure, trace and log a call; what it raised becomes its status."""
    called, _, method = rpc.name.rpartition("/")
    attributes = {RPC_SYSTEM: "grpc", RPC_SERVICE: called, RPC_METHOD: method}
    parent = metadata.get("traceparent", "")
    with span(service, rpc.name, parent=parent, kind=SpanKind.SERVER, attributes=attributes) as opened:
        try:
            yield
        except asyncio.CancelledError:
            told.status = Status(grpc.StatusCode.CANCELLED, "the caller went away")
            raise
        except Exception as error:  # noqa: BLE001 - whatever an RPC raises becomes a status
            told.status, told.failure = status_of(error), error
        finally:
            code = told.status.code if told.status else grpc.StatusCode.OK
            duration_s = time.perf_counter() - told.begun
            RPC_DURATION.labels(rpc.name, code.name).observe(duration_s)
            opened.set_attributes({RPC_CODE: code.value[0], NAMESPACE: told.who.namespace})
            _log(service, rpc, told, code, duration_s)


def _log(service: str, rpc: Rpc, told: Told, code: grpc.StatusCode, duration_s: float) -> None:
    line: dict[str, Any] = {
        "service": service,
        "method": rpc.name,
        "principal": told.who.principal,
        "namespace": told.who.namespace,
        "code": code.name,
        "duration_s": round(duration_s, 6),
    }
    if told.who.service:
        line["via"] = told.who.service
    if told.request_id:
        line |= {"request_id": told.request_id, "repeated": told.repeated}
    if told.status is None:
        log.info("rpc_handled", **line)
    elif told.status.ours:
        log.info("rpc_handled", **line, reason=told.status.message)
    else:
        log.error("rpc_handled", **line, exc_info=told.failure)
