"""Our errors as gRPC statuses, and back: the same class is raised on both sides."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from millrace.runtime.errors import (
    Conflict,
    Denied,
    InvalidInput,
    MillraceError,
    NotFound,
    Overloaded,
    Unavailable,
)

DETAILS = "grpc-status-details-bin"
MAX_MESSAGE = 2000

_CODES: dict[type[MillraceError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_ERRORS: dict[grpc.StatusCode, type[MillraceError]] = {code: error for error, code in _CODES.items()} | {
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
}
_NOT_THERE = ("failed to connect", "socket closed", "connection refused", "connection reset")
"""What gRPC itself says when nobody listens or the connection is lost."""


class DeadlineExceeded(MillraceError):
    """The caller's time, or what a call may take, is over."""


@dataclass(frozen=True)
class Status:
    """What a caller is told of a failure.

    Attributes:
        ours: Whether it is one of our errors; otherwise the failure is a bug, and its text stays here.
    """

    code: grpc.StatusCode
    message: str
    retry_after_s: float = 0.0
    ours: bool = True

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """Return the details: when to try again, where that is known."""
        if not self.retry_after_s:
            return ()
        info = RetryInfo()
        info.retry_delay.FromMilliseconds(math.ceil(self.retry_after_s * 1000))
        status = RpcStatus(code=self.code.value[0], message=self.message)
        status.details.add().Pack(info)
        return ((DETAILS, status.SerializeToString()),)


def status_of(error: BaseException) -> Status:
    """Return what a caller is told of an error; of one that is not ours, nothing."""
    if isinstance(error, DeadlineExceeded):
        return Status(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))
    if isinstance(error, Denied):
        known = error.authenticated
        return Status(grpc.StatusCode.PERMISSION_DENIED if known else grpc.StatusCode.UNAUTHENTICATED, str(error))
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            wait_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
            return Status(code, str(error)[:MAX_MESSAGE], wait_s)
    if isinstance(error, _database_away()):
        return Status(grpc.StatusCode.UNAVAILABLE, "the database did not answer as it should: try again", ours=False)
    return Status(grpc.StatusCode.INTERNAL, "internal error", ours=False)


def _database_away() -> tuple[type[BaseException], ...]:
    import asyncpg  # noqa: PLC0415 - whoever only calls has no database

    return (
        ConnectionError,
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.TransactionRollbackError,
        asyncpg.LockNotAvailableError,
        asyncpg.ReadOnlySQLTransactionError,
        TimeoutError,
    )


def error_of(
    code: grpc.StatusCode, message: str, metadata: Iterable[tuple[str, str | bytes]], service: str
) -> MillraceError:
    """Return the error that a failed call stands for.

    Args:
        code: Its status.
        message: Its text.
        metadata: What came last with it.
        service: Who was asked; named where the text would not make sense alone.
    """
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
        return Denied(message, authenticated=code is grpc.StatusCode.PERMISSION_DENIED)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in message:
            return InvalidInput(f"{service}: {message}")
        return Overloaded(message, retry_after_s=_retry_after_s(metadata))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"{service} did not answer in time")
    if code is grpc.StatusCode.UNAVAILABLE and any(told in message.lower() for told in _NOT_THERE):
        return Unavailable(f"{service} does not answer")
    kind = _ERRORS.get(code)
    return kind(message) if kind else MillraceError(f"{service} failed: {message or code.name.lower()}")


def _retry_after_s(metadata: Iterable[tuple[str, str | bytes]]) -> float:
    for name, value in metadata:
        if name == DETAILS and isinstance(value, bytes):
            try:
                for detail in RpcStatus.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        wait_ms: int = info.retry_delay.ToMilliseconds()
                        return max(0, wait_ms) / 1000
            except DecodeError:
                break
    return 1.0
