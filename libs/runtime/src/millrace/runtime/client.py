"""Calls to other services: one channel per target for life, a deadline on every call, our errors back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import grpc
from google.protobuf.message import Message
from millrace.runtime.caller import AUTHORIZATION, CALLER, MAX_TOKEN_BYTES, ON_BEHALF, PRIORITY
from millrace.runtime.endpoints import options_of, target_of
from millrace.runtime.errors import InvalidInput, MillraceError, Overloaded, Unavailable
from millrace.runtime.reloaded import ReloadedFile
from millrace.runtime.status import error_of
from millrace.runtime.traceparent import current_traceparent

DEADLINE_S = 30.0
STREAM_DEADLINE_S = 3600.0
#: What an answer needs to come back in, taken off a deadline that is passed on.
MARGIN_S = 0.05

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
        endpoints: Where the services answer: name -> `host:port`, or those of several replicas, comma-separated.
        token: What the process calls with.
    """

    def __init__(self, endpoints: Mapping[str, str], token: Token | FixedToken) -> None:
        self._endpoints = endpoints
        self._token = token
        self._open: dict[str, tuple[grpc.aio.Channel, Budget]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close them all; calls in flight end."""
        opened, self._open = self._open, {}
        for channel, _ in opened.values():
            await channel.close(None)

    def to(self, service: str, *, on_behalf_of: str = "") -> grpc.aio.Channel:
        """Return what a stub of another service is made with: `DataServiceStub(channels.to("data"))`.

        It adds the token, the trace and a deadline to every call, and raises our errors.

        Args:
            service: The other service's name.
            on_behalf_of: The principal for whom it is asked.

        Raises:
            InvalidInput: What is set cannot be used.
            Unavailable: It is not set where the service answers.
        """
        if service not in self._open:
            target = target_of(service, self._endpoints)
            opened = grpc.aio.insecure_channel(target, options=options_of(service, target))
            self._open[service] = (opened, Budget())
        shared, budget = self._open[service]
        calling = Calling(service, self._token, budget, on_behalf_of=on_behalf_of)
        return cast("grpc.aio.Channel", _Channel(shared, calling))


@contextmanager
def blocking_channel(service: str, target: str, token: Token | FixedToken) -> Iterator[grpc.Channel]:
    """Lend a channel for code that is not asynchronous, such as a command line."""
    with grpc.insecure_channel(target, options=options_of(service, target)) as channel:
        yield cast("grpc.Channel", _BlockingChannel(channel, Calling(service, token, Budget())))


class Budget:
    """How many refused calls may be sent again: one for every ten made, with a few saved up."""

    SHARE = 0.1
    SAVED = 10.0

    def __init__(self) -> None:
        self._left = self.SAVED

    def earn(self) -> None:
        """Count a call."""
        self._left = min(self.SAVED, self._left + self.SHARE)

    def spend(self) -> bool:
        """Return whether one may be sent again, and count that."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Calling:
    """What is added to every call on a channel, and what a failed one becomes."""

    def __init__(self, service: str, token: Token | FixedToken, budget: Budget, *, on_behalf_of: str = "") -> None:
        self._service = service
        self._token = token
        self._budget = budget
        self._on_behalf_of = on_behalf_of

    def metadata(self, given: Given) -> tuple[tuple[str, Any], ...]:
        """Return who calls and as part of what, with what the caller adds."""
        asking = CALLER.get(None)
        # What a task asks may wait behind what people ask.
        priority = asking.priority if asking else "batch" if self._on_behalf_of else "interactive"
        added = {
            AUTHORIZATION: f"Bearer {self._token.value()}",
            ON_BEHALF: self._on_behalf_of,
            PRIORITY: priority if priority in {"background", "batch"} else "",
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

    def ends(self, given: float | None, usual_s: float) -> float:
        """Return when the call is over, however often it is sent, by `time.monotonic()`."""
        self._budget.earn()
        return time.monotonic() + self.timeout_s(given, usual_s)

    def again_in_s(self, error: MillraceError, ends: float) -> float:
        """Return when to send a refused call again, as its server said.

        Raises:
            MillraceError: The error itself, where it is no matter of waiting, or there is no time or budget for that.
        """
        # Inside a call its own caller is told: who waits for two servers keeps a place in both.
        if not isinstance(error, Overloaded) or CALLER.get(None) is not None:
            raise error
        if time.monotonic() + error.retry_after_s >= ends or not self._budget.spend():
            raise error
        return error.retry_after_s

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
            ends = calling.ends(timeout, DEADLINE_S)
            while True:
                left_s, added = ends - time.monotonic(), calling.metadata(metadata)
                try:
                    return await inner(request, timeout=left_s, metadata=added, wait_for_ready=wait_for_ready)
                except grpc.RpcError as error:
                    failed = calling.error(error)
                await asyncio.sleep(calling.again_in_s(failed, ends))

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
            ends = calling.ends(timeout, DEADLINE_S)
            while True:
                left_s, added = ends - time.monotonic(), calling.metadata(metadata)
                try:
                    return inner(request, timeout=left_s, metadata=added, wait_for_ready=wait_for_ready)
                except grpc.RpcError as error:
                    failed = calling.error(error)
                time.sleep(calling.again_in_s(failed, ends))

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
