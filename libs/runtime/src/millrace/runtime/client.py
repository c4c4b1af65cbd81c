"""Calls to other services: one channel per target for life, a deadline on every call, our errors back."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import grpc
from google.protobuf.message import Message
from millrace.runtime.access import AUTHORIZATION, CALLER, MAX_TOKEN_BYTES, ON_BEHALF, PRIORITY
from millrace.runtime.errors import InvalidInput, MillraceError, Unavailable
from millrace.runtime.reloaded import ReloadedFile
from millrace.runtime.status import error_of
from millrace.runtime.telemetry import current_traceparent

DEADLINE_S = 30.0
STREAM_DEADLINE_S = 3600.0
#: What an answer needs to come back in, taken off a deadline that is passed on.
MARGIN_S = 0.05
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: Not below what servers allow (rpc/server.py).
PING_S = 30

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", PING_S * 1000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 1),
]

Given = Sequence[tuple[str, Any]] | None


class Token:
    """The token that a process calls with, read again when its file changes."""

    def __init__(self, path: Path) -> None:
        self._file = ReloadedFile(path, _read_token)

    def value(self) -> str:
        """Return it.

        Raises:
            Unavailable: The file cannot be read.
        """
        return self._file.value()


class FixedToken:
    """A token that a process is told once, as text.

    Raises:
        InvalidInput: The text is no token.
    """

    def __init__(self, text: str) -> None:
        try:
            self._text = _read_token(text.encode())
        except ValueError as error:
            raise InvalidInput(f"the token cannot be used: {error}") from None

    def value(self) -> str:
        """Return it."""
        return self._text


class Channels:
    """The channels of one process, one per target for as long as it lives.

    Args:
        endpoints: Where the services answer: name -> `host:port`.
        token: What the process calls with.
    """

    def __init__(self, endpoints: Mapping[str, str], token: Token | FixedToken) -> None:
        self._endpoints = endpoints
        self._token = token
        self._open: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close them all; calls in flight end."""
        opened, self._open = self._open, {}
        for channel in opened.values():
            await channel.close(None)

    def to(self, service: str, *, on_behalf_of: str = "") -> grpc.aio.Channel:
        """Return what a stub of another service is made with: `DataServiceStub(channels.to("data"))`.

        It adds the token, the trace and a deadline to every call, and raises our errors.

        Args:
            service: The other service's name.
            on_behalf_of: The principal for whom it is asked.

        Raises:
            Unavailable: It is not set where the service answers.
        """
        if service not in self._open:
            target = target_of(service, self._endpoints)
            self._open[service] = grpc.aio.insecure_channel(target, options=options_of(service))
        calling = Calling(service, self._token, on_behalf_of=on_behalf_of)
        return cast("grpc.aio.Channel", _Channel(self._open[service], calling))


@contextmanager
def blocking_channel(service: str, target: str, token: Token | FixedToken) -> Iterator[grpc.Channel]:
    """Lend a channel for code that is not asynchronous, such as a command line."""
    with grpc.insecure_channel(target, options=options_of(service)) as channel:
        yield cast("grpc.Channel", _BlockingChannel(channel, Calling(service, token)))


def target_of(service: str, endpoints: Mapping[str, str]) -> str:
    """Return where a service answers.

    Raises:
        Unavailable: Nobody said.
    """
    target = endpoints.get(service)
    if not target:
        raise Unavailable(f"it is not set where {service} answers: add it to the endpoints, as host:port")
    return target


def options_of(service: str) -> list[tuple[str, Any]]:
    """Return how a channel behaves: it repeats our own RPCs, which all only read or have a `request_id`."""
    package = f"millrace.{service}.v1"
    ours = [
        f"{package}.{service.capitalize()}Service",
        "millrace.runtime.v1.HeldService",
        "millrace.runtime.v1.AuditService",
    ]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {
        "methodConfig": [{"name": [{"service": name} for name in ours], "retryPolicy": retry}],
        # When many calls fail, repeating them makes it worse.
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
    }
    return [*_OPTIONS, ("grpc.service_config", json.dumps(config))]


class Calling:
    """What is added to every call on a channel, and what a failed one becomes."""

    def __init__(self, service: str, token: Token | FixedToken, *, on_behalf_of: str = "") -> None:
        self._service = service
        self._token = token
        self._on_behalf_of = on_behalf_of

    def metadata(self, given: Given) -> tuple[tuple[str, Any], ...]:
        """Return who calls and as part of what, with what the caller adds."""
        asking = CALLER.get(None)
        # What a task asks may wait behind what people ask.
        batch = asking.priority == "batch" if asking else bool(self._on_behalf_of)
        added = {
            AUTHORIZATION: f"Bearer {self._token.value()}",
            ON_BEHALF: self._on_behalf_of,
            PRIORITY: "batch" if batch else "",
            "traceparent": current_traceparent(),
        }
        return (*((name, value) for name, value in added.items() if value), *(given or ()))

    def timeout_s(self, given: float | None, usual_s: float) -> float:
        """Return how long the call may take; inside an RPC not longer than its own caller waits."""
        wanted_s = usual_s if given is None else given
        asking = CALLER.get(None)
        if asking is None:
            return wanted_s
        left_s = asking.deadline - time.monotonic() - MARGIN_S
        if left_s <= 0:
            raise Unavailable(f"no time is left to ask {self._service}")
        return min(wanted_s, left_s)

    def error(self, error: grpc.RpcError) -> MillraceError:
        """Return the error that a failed call stands for."""
        if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):
            return Unavailable(f"{self._service} cannot be asked")
        metadata: Any = error.trailing_metadata() or ()
        return error_of(error.code(), error.details() or "", tuple(metadata), self._service)


class _Channel:
    """What a stub needs of a channel that is shared by many, with what one of them adds to its calls."""

    def __init__(self, shared: grpc.aio.Channel, calling: Calling) -> None:
        self._shared = shared
        self._calling = calling

    def unary_unary(self, method: str, **form: Any) -> Callable[..., Awaitable[Any]]:  # noqa: ANN401 - gRPC's
        inner = self._shared.unary_unary(method, **form)
        calling = self._calling

        async def call(
            request: Message, *, timeout: float | None = None, metadata: Given = (), wait_for_ready: bool | None = None
        ) -> Any:  # noqa: ANN401 - the stub knows the type
            timeout_s, added = calling.timeout_s(timeout, DEADLINE_S), calling.metadata(metadata)
            try:
                return await inner(request, timeout=timeout_s, metadata=added, wait_for_ready=wait_for_ready)
            except grpc.RpcError as error:
                raise calling.error(error) from None

        return call

    def unary_stream(self, method: str, **form: Any) -> Callable[..., AsyncIterator[Any]]:  # noqa: ANN401 - gRPC's
        inner = self._shared.unary_stream(method, **form)
        calling = self._calling

        async def call(
            request: Message, *, timeout: float | None = None, metadata: Given = (), wait_for_ready: bool | None = None
        ) -> AsyncIterator[Any]:
            timeout_s, added = calling.timeout_s(timeout, STREAM_DEADLINE_S), calling.metadata(metadata)
            responses = inner(request, timeout=timeout_s, metadata=added, wait_for_ready=wait_for_ready)
            try:
                async for response in responses:
                    yield response
            except grpc.RpcError as error:
                raise calling.error(error) from None
            finally:
                responses.cancel()

        return call


class _BlockingChannel:
    """As `_Channel`, for code that is not asynchronous."""

    def __init__(self, own: grpc.Channel, calling: Calling) -> None:
        self._own = own
        self._calling = calling

    def unary_unary(self, method: str, **form: Any) -> Callable[..., Any]:  # noqa: ANN401 - gRPC's
        inner = self._own.unary_unary(method, **form)
        calling = self._calling

        def call(
            request: Message, *, timeout: float | None = None, metadata: Given = (), wait_for_ready: bool | None = None
        ) -> Any:  # noqa: ANN401 - the stub knows the type
            timeout_s, added = calling.timeout_s(timeout, DEADLINE_S), calling.metadata(metadata)
            try:
                return inner(request, timeout=timeout_s, metadata=added, wait_for_ready=wait_for_ready)
            except grpc.RpcError as error:
                raise calling.error(error) from None

        return call

    def unary_stream(self, method: str, **form: Any) -> Callable[..., Iterator[Any]]:  # noqa: ANN401 - gRPC's
        inner: Any = self._own.unary_stream(method, **form)
        calling = self._calling

        def call(
            request: Message, *, timeout: float | None = None, metadata: Given = (), wait_for_ready: bool | None = None
        ) -> Iterator[Any]:
            timeout_s, added = calling.timeout_s(timeout, STREAM_DEADLINE_S), calling.metadata(metadata)
            responses = inner(request, timeout=timeout_s, metadata=added, wait_for_ready=wait_for_ready)
            try:
                yield from responses
            except grpc.RpcError as error:
                raise calling.error(error) from None
            finally:
                responses.cancel()

        return call


def _read_token(content: bytes) -> str:
    token = content.decode("ascii").strip()
    if not token or len(token) > MAX_TOKEN_BYTES or not token.isprintable():
        raise ValueError("it holds no token")
    return token
