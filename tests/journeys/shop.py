"""A shop that uses Millrace for its orders, through its public doors only."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from millrace.contracts import oip
from millrace.contracts.catalogue import FOREIGN, catalogue
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.contracts.rpc.feature.v1 import feature_pb2
from millrace.contracts.rpc.feature.v1.feature_pb2_grpc import FeatureServiceStub
from millrace.contracts.rpc.lineage.v1 import lineage_pb2
from millrace.contracts.rpc.lineage.v1.lineage_pb2_grpc import LineageServiceStub
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import until
from millrace.sdk.publish import CloudEvent, Mode, Publisher

from tests.journeys.orders import Landed, Order, basket

DECLARATIONS = Path(__file__).parent / "declarations"
MODEL = "orders.returned"
WORKFLOW = "orders.month"
SOURCE = "/shop/books"
ENDED = frozenset({"succeeded", "refused", "failed", "cancelled"})
RUN_S = 150.0
ASKED_AT_ONCE = 20
PAUSE_S = 0.2


@dataclass(frozen=True)
class Told:
    """One record of a service's topic."""

    topic: str
    key: str
    type: str
    event_id: str
    sequence: int
    value: Mapping[str, Any]


class Shop:
    """The shop's side of it all.

    Args:
        channel: Gives a channel to a service, as the shop's principal.
        servers: Kafka, where the shop tells what happened.
        namespace: The shop's tenant.
        labels_topic: Where it tells what came of its orders.
    """

    def __init__(
        self, channel: Callable[[str], grpc.aio.Channel], servers: str, namespace: str, labels_topic: str
    ) -> None:
        self.channel = channel
        self.servers = servers
        self.namespace = namespace
        self._labels_topic = labels_topic
        self._started: dict[str, str] = {}

    async def declare(self) -> None:
        """Apply the contract, the views, the workflow and the trigger."""
        own = {"namespace": self.namespace, "request_id": str(uuid4())}
        text = {
            name: (DECLARATIONS / f"{name}.yaml").read_text() for name in ("contract", "views", "workflow", "trigger")
        }
        await DataServiceStub(self.channel("data")).ApplyContract(
            data_pb2.ApplyContractRequest(**own, odcs_yaml=text["contract"])
        )
        await FeatureServiceStub(self.channel("feature")).ApplyViews(
            feature_pb2.ApplyViewsRequest(**own, views_yaml=text["views"])
        )
        control = ControlServiceStub(self.channel("control"))
        await control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**own, workflow=text["workflow"]))
        own["request_id"] = str(uuid4())
        await control.ApplyTrigger(control_pb2.ApplyTriggerRequest(**own, trigger=text["trigger"]))

    async def tell_closed(self, landed: Landed, *, traceparent: str = "") -> None:
        """Publish that a month's orders are closed, three times: the same CloudEvent, in both of its modes."""
        event = CloudEvent(
            type="shop.orders.closed",
            source=SOURCE,
            id=landed.month,
            subject=landed.month,
            time=landed.closed_at,
            data=landed.trigger(),
            traceparent=traceparent,
        )
        modes: tuple[Mode, ...] = ("binary", "structured", "binary")
        async with Publisher(self.servers) as publisher:
            for mode in modes:
                await publisher.send("triggers", event, mode=mode)

    async def explained(self, month: str) -> control_pb2.ExplainEventResponse:
        """Return what came of a month's event."""
        asked = control_pb2.ExplainEventRequest(namespace=self.namespace, source=SOURCE, event_id=month)
        explained: control_pb2.ExplainEventResponse = await self._control().ExplainEvent(asked)
        return explained

    async def started(self, month: str) -> str:
        """Return the run that a month's event started, once it has, whatever is away meanwhile."""
        seen: list[object] = []

        async def run_id() -> str:
            try:
                seen.append(explained := await self.explained(month))
            except MillraceError as error:
                seen.append(error)
            else:
                if explained.matches and explained.matches[0].run_id:
                    return str(explained.matches[0].run_id)
            await asyncio.sleep(PAUSE_S)
            return ""

        if month not in self._started:
            try:
                self._started[month] = await until(run_id, seconds=RUN_S)
            except AssertionError as error:
                raise AssertionError(f"{error}; at last: {seen[-1]}") from None
        return self._started[month]

    async def run(self, run_id: str) -> control_pb2.Run:
        """Return a run as it is."""
        asked = control_pb2.GetRunRequest(namespace=self.namespace, run_id=run_id)
        run: control_pb2.Run = (await self._control().GetRun(asked)).run
        return run

    async def ended(self, month: str, *, seconds: float = RUN_S) -> control_pb2.Run:
        """Return the run of a month once it has ended, whatever is away meanwhile."""
        asked = control_pb2.WatchRunRequest(namespace=self.namespace, run_id=await self.started(month))
        last = control_pb2.Run()
        try:
            async with asyncio.timeout(seconds):
                while last.state not in ENDED:
                    try:
                        async for seen in self._control().WatchRun(asked):
                            last = seen.run
                    except MillraceError:
                        await asyncio.sleep(PAUSE_S)
        except TimeoutError:
            raise AssertionError(f"the run of {month} has not ended within {seconds} s:\n{shown(last)}") from None
        return last

    async def runs(self) -> list[control_pb2.Run]:
        """Return all runs, oldest first, without their tasks."""
        found = await self._control().ListRuns(control_pb2.ListRunsRequest(namespace=self.namespace))
        return list(reversed(found.runs))

    async def ask(self, orders: Sequence[Order], keys: Sequence[str] = ()) -> oip.ModelInferResponse:
        """Ask how likely some orders come back."""
        request = oip.ModelInferRequest(model_name=MODEL, id=str(uuid4()))
        oip.add_bytes(request, "customer", [order.customer for order in orders])
        for name in basket(orders[0]):
            oip.add_doubles(request, name, [basket(order)[name] for order in orders])
        if keys:
            oip.add_bytes(request, "routing_key", keys)
        metadata = (("x-millrace-namespace", self.namespace),)
        stub = oip.OpenInferenceStub(self.channel("inference"))
        answer: oip.ModelInferResponse = await stub.ModelInfer(request, metadata=metadata)
        return answer

    @asynccontextmanager
    async def trading(self, orders: Sequence[Order]) -> AsyncIterator[None]:
        """Go on asking about orders, and telling what came of them, until the block ends."""
        trade = asyncio.create_task(self._trade(orders))
        try:
            yield
        finally:
            trade.cancel()
            await asyncio.wait([trade])
        if not trade.cancelled():
            trade.result()

    async def explain(self, prediction_id: str) -> lineage_pb2.ExplainResponse:
        """Return the way back from a prediction, once all of it is known and its detail is there."""
        asked = lineage_pb2.ExplainRequest(namespace=self.namespace, prediction_id=prediction_id)

        async def complete() -> lineage_pb2.ExplainResponse | None:
            found: lineage_pb2.ExplainResponse = await LineageServiceStub(self.channel("lineage")).Explain(asked)
            return found if found.complete and found.prediction_json else None

        try:
            found: lineage_pb2.ExplainResponse = await until(complete)
        except AssertionError:
            raise AssertionError(str(await LineageServiceStub(self.channel("lineage")).Explain(asked))) from None
        return found

    async def told(self) -> list[Told]:
        """Return all that the services have told about the shop so far, per topic in order."""
        topics = [topic for topic in catalogue() if topic not in FOREIGN]
        places = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        found: list[Told] = []
        async with AIOKafkaConsumer(bootstrap_servers=self.servers, auto_offset_reset="earliest") as consumer:
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [_read(record) for record in records if _whose(record) == self.namespace]
        return found

    async def _trade(self, orders: Sequence[Order]) -> None:
        chance = random.Random(3)
        async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer:
            while True:
                some = chance.sample(orders, ASKED_AT_ONCE)
                keys = [str(uuid4()) for _ in some]
                try:
                    await self.ask(some, keys)
                except MillraceError:
                    keys = []  # no model yet, or nobody there: the shop asks about others a little later
                for key, order in zip(keys, some, strict=False):
                    await producer.send(self._labels_topic, *self._label(key, order))
                await asyncio.sleep(PAUSE_S)

    def _label(self, key: str, order: Order) -> tuple[bytes, bytes, None, None, list[tuple[str, bytes]]]:
        value = {"model": MODEL, "request_key": key, "label": int(order.returned)}
        headers = {"ce_specversion": "1.0", "ce_id": key, "ce_type": "shop.order.settled", "ce_source": SOURCE}
        headers |= {"ce_namespace": self.namespace, "content-type": "application/json"}
        encoded = [(name, text.encode()) for name, text in headers.items()]
        return json.dumps(value).encode(), key.encode(), None, None, encoded

    def _control(self) -> Any:
        return ControlServiceStub(self.channel("control"))


def shown(run: control_pb2.Run) -> str:
    """Return a run as text, for a failed test."""
    lines = [f"{run.workflow} {run.run_id} {run.state} {run.cause}"]
    lines += [
        f"  {task.name} {task.state} attempts={task.attempts} {task.duration_s:.1f} s {task.error}{task.output_json}"
        for task in run.tasks
    ]
    return "\n".join(lines)


def _whose(record: Any) -> str:
    return str(dict(record.headers).get("ce_namespace", b"").decode())


def _read(record: Any) -> Told:
    headers = {name: value.decode() for name, value in record.headers}
    return Told(
        topic=record.topic,
        key=(record.key or b"").decode(),
        type=headers["ce_type"].rpartition(".")[2],
        event_id=headers["ce_id"],
        sequence=int(headers.get("ce_sequence", "0")),
        value=json.loads(record.value),
    )
