"""One function serves all: principal, permission, deadline, limits, transaction, stored answer, log line."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError
from millrace.runtime.access import Access
from millrace.runtime.caller import CALLER, Caller
from millrace.runtime.errors import InvalidInput, Overloaded, Unavailable
from millrace.runtime.failpoints import failpoint
from millrace.runtime.rpc import answers
from millrace.runtime.rpc.admission import Admission, Buckets
from millrace.runtime.rpc.methods import Rpc
from millrace.runtime.rpc.told import Told, reported
from millrace.runtime.status import DeadlineExceeded
from millrace.runtime.telemetry import RPC_IN_FLIGHT

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
RETRY_AFTER_S = 1.0

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)

Context = grpc.aio.ServicerContext[Any, Any]


class Calls:
    """Serves every call of one service.

    Args:
        service: Its name.
        access: Who may do what.
        most_calls: How many are served at once; more stand in line, and are told to come back when it is long.
        most_streams: How many streams are open at once.
        calls_per_s: How many calls each principal may make in each namespace.
    """

    def __init__(self, service: str, access: Access, *, most_calls: int, most_streams: int, calls_per_s: float) -> None:
        self.stopping = False
        self._service = service
        self._access = access
        self._admission = Admission(service, most_calls)
        self._buckets = Buckets(service, calls_per_s)
        self._free_streams = most_streams
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._doing: WeakValueDictionary[answers.Key, asyncio.Lock] = WeakValueDictionary()

    async def answer(self, rpc: Rpc, body: bytes, context: Context) -> bytes:
        """Serve a call with one answer."""
        told, metadata, response = Told(), _metadata(context), b""
        with reported(self._service, rpc, metadata, told):
            async with self._admitted(rpc, body, metadata, context, told) as request:
                response = await self._once(rpc, request, told)
        if told.status:
            await context.abort(told.status.code, told.status.message, told.status.trailing_metadata())
        return response

    async def stream(self, rpc: Rpc, body: bytes, context: Context) -> None:
        """Serve a call with a stream of answers."""
        told, metadata = Told(), _metadata(context)
        with reported(self._service, rpc, metadata, told):
            async with (
                self._admitted(rpc, body, metadata, context, told) as request,
                self._endable(),
                aclosing(rpc.function(request, rpc.begin)) as responses,
            ):
                async for response in responses:
                    await context.write(_bytes(rpc, response))
        if told.status:
            await context.abort(told.status.code, told.status.message, told.status.trailing_metadata())

    async def drain(self, grace_s: float) -> bool:
        """Take no more calls, end the streams, wait for the calls in flight; return whether all ended in time."""
        self.stopping = True
        for task in self._streams:
            task.cancel()
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def _admitted(
        self, rpc: Rpc, body: bytes, metadata: Mapping[str, str], context: Context, told: Told
    ) -> AsyncIterator[Any]:
        """Yield the request of a call that may be made, within its deadline."""
        who = Caller("") if rpc.action is None else self._access.identify(metadata)
        told.who = who
        request = _parse(rpc, body)
        namespace = self._namespace(rpc, request, metadata, who)
        priority = "control" if rpc.operates else who.priority
        role = 0 if rpc.action is None else self._access.role(who, namespace)
        told.who = who = replace(who, namespace=namespace, priority=priority, role=role)
        self._buckets.take(who)
        left_s = context.time_remaining()
        timeout_s = min(rpc.deadline_s if left_s is None else left_s, rpc.longest_s)
        with self._counted():
            token = CALLER.set(replace(who, deadline=time.monotonic() + timeout_s))
            timer = asyncio.timeout(timeout_s)
            place = self._stream_place() if rpc.streams else self._admission.place(who.priority)
            try:
                async with timer, place:
                    yield request
            except TimeoutError:
                if timer.expired():
                    raise DeadlineExceeded(f"the call took longer than its {timeout_s:.3g} s") from None
                raise
            finally:
                CALLER.reset(token)

    def _namespace(self, rpc: Rpc, request: Any, metadata: Mapping[str, str], who: Caller) -> str:  # noqa: ANN401 - any message
        """Return where a call acts, once it may."""
        if rpc.action is None:
            return ""
        namespace = rpc.namespace_of(request, metadata)
        if rpc.foreign and not namespace:
            namespace = self._access.only_namespace(who)
        self._access.require(who, namespace, rpc.action)
        if not _LABEL.fullmatch(namespace) and not (rpc.any_namespace and namespace == ""):
            raise InvalidInput("a namespace is needed: lower-case letters, digits and dashes, at most 63")
        return namespace

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self.stopping:
            raise Unavailable(f"{self._service} is stopping: try again")
        self._in_flight += 1
        self._idle.clear()
        RPC_IN_FLIGHT.labels(self._service).inc()
        try:
            yield
        finally:
            RPC_IN_FLIGHT.labels(self._service).dec()
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    @asynccontextmanager
    async def _stream_place(self) -> AsyncIterator[None]:
        if not self._free_streams:
            raise Overloaded(f"{self._service} has too many streams open: try again", retry_after_s=RETRY_AFTER_S)
        self._free_streams -= 1
        try:
            yield
        finally:
            self._free_streams += 1

    @asynccontextmanager
    async def _endable(self) -> AsyncIterator[None]:
        """Let a drain end what happens inside."""
        task = asyncio.current_task()
        if task is None:  # never: a coroutine runs in a task
            raise RuntimeError("no task")
        self._streams.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self.stopping:
                task.uncancel()
                raise Unavailable(f"{self._service} is stopping: try again") from None
            raise
        finally:
            self._streams.discard(task)

    async def _once(self, rpc: Rpc, request: Any, told: Told) -> bytes:  # noqa: ANN401 - any message
        """Return the answer; of a mutating call, the one that it got the first time."""
        if not rpc.mutates:
            if not rpc.transactional:
                return _bytes(rpc, await rpc.function(request, rpc.begin))
            async with rpc.begin() as tx:
                return _bytes(rpc, await rpc.function(request, tx))
        told.request_id = request.request_id
        key = answers.key_of(told.who, rpc.name, request.request_id)
        body_sha256 = answers.digest_of(request)
        if rpc.transactional:
            return await self._in_one(rpc, request, key, body_sha256, told)
        return await self._in_several(rpc, request, key, body_sha256, told)

    async def _in_one(self, rpc: Rpc, request: Any, key: answers.Key, body_sha256: str, told: Told) -> bytes:  # noqa: ANN401
        """State, events, answer and audit in one commit; a second call with the same id waits for the first."""
        async with rpc.begin() as tx:
            stored = await answers.claim(tx, key, body_sha256)
            if stored is not None:
                told.repeated = True
                return stored
            await failpoint("rpc.claimed")
            response = _bytes(rpc, await rpc.function(request, tx))
            answers.keep(tx, key, response)
            await failpoint("rpc.kept")
        await failpoint("rpc.committed")
        return response

    async def _in_several(self, rpc: Rpc, request: Any, key: answers.Key, body_sha256: str, told: Told) -> bytes:  # noqa: ANN401
        """The RPC opens its own transactions, and the answer is stored after them.

        Repeats wait for one another inside this process only, and a crash before the answer is stored lets a repeat run
        again: such an RPC must itself do no harm when done twice.
        """
        lock = self._doing.setdefault(key, asyncio.Lock())
        async with lock:
            async with rpc.begin() as tx:
                stored = await answers.find(tx, key, body_sha256)
            if stored is None:
                response = _bytes(rpc, await rpc.function(request, rpc.begin))
                await failpoint("rpc.done")
                async with rpc.begin() as tx:
                    stored = await answers.claim(tx, key, body_sha256, response)
                if stored is None:
                    return response
        told.repeated = True
        return stored


def _metadata(context: Context) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def _parse(rpc: Rpc, body: bytes) -> Any:  # noqa: ANN401 - any message
    try:
        return rpc.parse(body)
    except (DecodeError, ValueError):
        raise InvalidInput(f"the request is not what {rpc.name} takes: its bytes cannot be read") from None


def _bytes(rpc: Rpc, response: Any) -> bytes:  # noqa: ANN401 - any message
    made = rpc.serialise(response)
    if len(made) > MAX_MESSAGE_BYTES:
        raise InvalidInput(f"the answer has {len(made)} bytes, more than {MAX_MESSAGE_BYTES}: ask for less at a time")
    return made
