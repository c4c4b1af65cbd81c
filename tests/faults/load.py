"""The load around a fault: the shape of the main job, small, through public doors, all of it written down."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self
from uuid import uuid4

from millrace.contracts import oip
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.errors import MillraceError
from millrace.sdk.publish import CloudEvent, Publisher

from tests.faults.declared import FULL, LIGHT, MODEL, NAMESPACE, Prepared, land_readings, prepared
from tests.faults.history import OPEN, History
from tests.faults.stack import Stack
from tests.faults.topics import caught_up
from tests.journeys.shop import ENDED

LIGHT_PER_S = 3.0
FULL_PER_S = 0.2
PREDICTIONS_PER_S = 5.0
STARTS_PER_S = 1.0
READS_PER_S = 2.0
IN_FLIGHT = 200
AGAIN_S = 0.5
ANSWER_S = 10.0
LAST_ANSWERS_S = 15.0

_numbers = itertools.count(1)


class Load:
    """Clients that go on asking until the block ends.

    Args:
        history: What they write to.
        rate: Times the usual rates.

    Attributes:
        name: Part of every id of this load.
        source: The CloudEvents source of its events.
        began: When it began, Unix time.
    """

    def __init__(self, stack: Stack, history: History, rate: float = 1.0) -> None:
        self.stack = stack
        self.history = history
        self.name = f"l{next(_numbers)}-{uuid4().hex[:6]}"
        self.source = f"/faults/{self.name}"
        self.began = 0.0
        self._rate = rate
        self._count = itertools.count()
        self._runs: list[str] = []
        self._open: set[asyncio.Task[None]] = set()
        self._clients: list[asyncio.Task[None]] = []
        self._stopping = False
        self._kept = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._prepared: Prepared = await prepared(self.stack)
        self._publisher = await self._kept.enter_async_context(Publisher(self.stack.servers))
        self.began = time.time()
        self._clients = self._asking(self._rate)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._kept.aclose()

    @asynccontextmanager
    async def more(self, rate: float) -> AsyncIterator[None]:
        """Ask so many times the usual load besides, until the block ends."""
        more = self._asking(rate)
        self._clients += more
        try:
            yield
        finally:
            for client in more:
                client.cancel()

    async def stop(self) -> None:
        """Ask nothing new; let what is under way end."""
        self._stopping = True
        for client in self._clients:
            client.cancel()
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=LAST_ANSWERS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def light(self) -> str:
        """Publish an event that starts a run of three steps outside; return its id."""
        return await self._publish(LIGHT, {"event": (event := self._id())}, event)

    async def full(self) -> str:
        """Publish an event that starts a run over three services; return its id."""
        event = self._id()
        return await self._publish(FULL, await asyncio.to_thread(land_readings, self.stack.landing, event), event)

    async def predict(self) -> None:
        """Ask for one prediction."""
        key = self._id()
        with self.history.op("predict", key) as op:
            answer = await self.ask(key)
            op.ok(oip.read_bytes(answer, "prediction_id")[0].decode())

    async def ask(self, key: str) -> oip.ModelInferResponse:
        """Return an answer of the model."""
        customers = self._prepared.customers
        request = oip.ModelInferRequest(model_name=MODEL, id=key)
        oip.add_bytes(request, "customer", [customers[hash(key) % len(customers)]])
        oip.add_doubles(request, "basket.price", [3.5])
        oip.add_doubles(request, "basket.pieces", [2.0])
        stub = oip.OpenInferenceStub(self.stack.channel("inference"))
        metadata = (("x-millrace-namespace", NAMESPACE),)
        answer: oip.ModelInferResponse = await stub.ModelInfer(request, metadata=metadata, timeout=ANSWER_S)
        return answer

    async def start(self) -> None:
        """Start a run by a call with a request id, and make the same call once more."""
        key = self._id()
        asked = control_pb2.StartRunRequest(
            namespace=NAMESPACE, request_id=key, workflow=LIGHT, data_json=json.dumps({"event": key})
        )
        for _ in range(2):
            await self._until_answered("start", key, lambda: self._start(asked))

    async def read(self) -> None:
        """Look at a run of a moment ago, or of the beginning."""
        if not self._runs:
            return
        run_id = self._runs[-1 if next(self._count) % 2 else 0]
        with self.history.op("read", run_id) as op:
            asked = control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id)
            op.ok((await self._control().GetRun(asked, timeout=ANSWER_S)).run.state)

    async def explained(self, event: str) -> control_pb2.ExplainEventResponse:
        """Return what control says came of an event."""
        asked = control_pb2.ExplainEventRequest(namespace=NAMESPACE, source=self.source, event_id=event)
        found: control_pb2.ExplainEventResponse = await self._control().ExplainEvent(asked, timeout=ANSWER_S)
        return found

    async def run_of(self, event: str) -> control_pb2.Run | None:
        """Return the run that an event started, if it has."""
        matches = (await self.explained(event)).matches
        if not matches or not matches[0].run_id:
            return None
        asked = control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=matches[0].run_id)
        run: control_pb2.Run = (await self._control().GetRun(asked, timeout=ANSWER_S)).run
        return run

    async def probe(self) -> None:
        """Return when all is as before.

        Parts are ready, each group has read what was there at the call, a fresh event's run has ended, and a prediction
        is answered.
        """
        await asyncio.gather(caught_up(self.stack.servers), self._serves())

    async def _serves(self) -> None:
        await self.stack.ready(seconds=600)
        event = await self.light()
        while True:
            try:
                run = await self.run_of(event)
                if run is not None and run.state in ENDED:
                    await self.ask(event)
                    return
            except MillraceError:
                pass
            await asyncio.sleep(0.1)

    async def _publish(self, kind: str, data: dict[str, str], event: str) -> str:
        made = CloudEvent(type=kind, source=self.source, id=event, subject=event, data=data)
        await self._until_answered("trigger", event, lambda: self._publisher.send("triggers", made, key=event))
        return event

    async def _start(self, asked: control_pb2.StartRunRequest) -> str:
        run_id = str((await self._control().StartRun(asked, timeout=ANSWER_S)).run.run_id)
        self._runs.append(run_id)
        return run_id

    async def _until_answered(self, op: str, key: str, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask, and ask again under the same key while it stays open whether it was done."""
        while True:
            with self.history.op(op, key) as seen:
                seen.ok(await ask())
            if seen.outcome != "unknown" or self._stopping:
                return
            await asyncio.sleep(AGAIN_S)

    def _asking(self, rate: float) -> list[asyncio.Task[None]]:
        per_s = {
            self.light: LIGHT_PER_S,
            self.full: FULL_PER_S,
            self.predict: PREDICTIONS_PER_S,
            self.start: STARTS_PER_S,
            self.read: READS_PER_S,
        }
        return [asyncio.create_task(self._every(1 / (s * rate), ask)) for ask, s in per_s.items()]

    async def _every(self, seconds: float, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask at a steady rate, whether or not answers come; up to a bound of open ones."""
        due = time.monotonic()
        while True:
            due = max(due + seconds, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._open) < IN_FLIGHT:
                task = asyncio.create_task(self._one(ask))
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    async def _one(self, ask: Callable[[], Awaitable[object]]) -> None:
        try:
            await ask()
        except OPEN as error:
            self.history.add("load", "broken", self.name, "unknown", repr(error))

    def _id(self) -> str:
        return f"{self.name}-{next(self._count)}"

    def _control(self) -> Any:
        return ControlServiceStub(self.stack.channel("control"))
