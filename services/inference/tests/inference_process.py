"""The inference service as a process, its neighbours as small servers, and all that it tells."""

import gzip
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import grpc
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from millrace.contracts import oip
from millrace.contracts.inference import read_prediction_id
from millrace.contracts.rpc.feature.v1 import feature_pb2
from millrace.contracts.rpc.inference.v1 import inference_pb2 as pb
from millrace.contracts.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from millrace.contracts.rpc.training.v1 import training_pb2
from millrace.contracts.training import tree_hash
from millrace.runtime.testing import publish, until
from millrace.runtime.testing.process import Deployment
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TOPICS = ("inference.tasks", "inference.deployments", "inference.predictions", "inference.lineage")
LABELS = "flights.labels"
RIGHT, NEARLY, WRONG = (1.0, 0.5, -0.25), (1.0, 0.45, -0.2), (-4.0, -0.5, 3.0)
KNOWN_RATE = 2.0


class Neighbours:
    """Training and feature, as far as inference asks them."""

    def __init__(self, shelf: Any) -> None:
        self.shelf = shelf
        self.asked: list[int] = []
        self.away = False
        self.answering = Event()
        self.answering.set()

    def version(self, request: training_pb2.GetModelVersionRequest, context: grpc.ServicerContext) -> Any:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        if not metadata["authorization"].startswith("Bearer ") or metadata["x-millrace-principal"] != "developer":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who asks?")
        files = self.shelf.versions.get(request.version)
        if not files:
            context.abort(grpc.StatusCode.NOT_FOUND, f"version {request.version} does not exist")
        version = training_pb2.ModelVersion(
            model=request.model, version=request.version, version_id=tree_hash(files), files=files
        )
        return training_pb2.GetModelVersionResponse(version=version)

    def online(self, request: feature_pb2.GetOnlineRequest, context: grpc.ServicerContext) -> Any:
        if self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if "not_online" in request.views:
            context.abort(grpc.StatusCode.NOT_FOUND, "view not_online is not online")
        self.asked.append(len(request.entities_json))
        self.answering.wait(10)
        carriers = [json.loads(entity)["carrier"] for entity in request.entities_json]
        values = [KNOWN_RATE if carrier == "UA" else math.nan for carrier in carriers]
        return feature_pb2.GetOnlineResponse(
            features=["carrier_rates.late"], rows=[feature_pb2.FeatureRow(values=[value]) for value in values]
        )


@contextmanager
def listening(neighbours: Neighbours) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    for service, name, function, module in (
        ("millrace.training.v1.TrainingService", "GetModelVersion", neighbours.version, training_pb2),
        ("millrace.feature.v1.FeatureService", "GetOnline", neighbours.online, feature_pb2),
    ):
        handler = grpc.unary_unary_rpc_method_handler(
            function,
            request_deserializer=getattr(module, f"{name}Request").FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {name: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@contextmanager
def collecting(spans: list[Any]) -> Iterator[str]:
    """Receive traces as a collector does."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Told:
    """All that inference publishes, as it comes."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def follow(self, servers: str) -> None:
        async with AIOKafkaConsumer(*TOPICS, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                headers = dict(record.headers)
                self.events.append((headers["ce_type"].decode().rpartition(".")[2], json.loads(record.value)))

    def of(self, kind: str, **fields: object) -> list[dict[str, Any]]:
        return [
            event
            for name, event in self.events
            if name == kind and all(event.get(field) == value for field, value in fields.items())
        ]

    async def logged(self, prediction_ids: set[str]) -> dict[str, dict[str, Any]]:
        """Return the predictions of these ids, once all are told."""

        async def found() -> Any:
            told = {one["prediction_id"]: one for event in self.of("PredictionsLogged") for one in event["predictions"]}
            return told if prediction_ids <= told.keys() else None

        predictions: dict[str, dict[str, Any]] = await until(found)
        return predictions


class Inference:
    """The service under test and how a test talks to it."""

    def __init__(
        self,
        deployment: Deployment,
        servers: str,
        told: Told,
        neighbours: Neighbours,
        order: Callable[..., Any],
        spans: list[Any],
    ) -> None:
        self.spans = spans
        self.deployment = deployment
        self.process = deployment.services["inference"]
        self.told = told
        self.neighbours = neighbours
        self.servers = servers
        self._order = order

    def stub(self, principal: str = "developer") -> Any:
        return InferenceServiceStub(self.deployment.channel("inference", principal))

    def protocol(self, principal: str = "developer") -> oip.OpenInferenceStub:
        return oip.OpenInferenceStub(self.deployment.channel("inference", principal))

    async def order(self, kind: str, asked: dict[str, Any], times: int = 1) -> tuple[str, dict[str, Any]]:
        """Order a task, perhaps more than once; return how it ended."""
        task_id = uuid4()
        await publish(self.servers, [self._order(f"inference.{kind}", asked, task_id)], times=times)

        async def ended() -> Any:
            for name in ("TaskSucceeded", "TaskFailed"):
                for event in self.told.of(name, task_id=str(task_id)):
                    return name, event
            return None

        found: tuple[str, dict[str, Any]] = await until(ended, seconds=60)
        return found

    async def done(self, kind: str, times: int = 1, **asked: Any) -> dict[str, Any]:
        ended, event = await self.order(kind, asked, times)
        assert ended == "TaskSucceeded", event
        output: dict[str, Any] = event["output"]
        return output

    async def in_use(self, model: str, version: int) -> str:
        """Deploy a version as the first of a model."""
        who: str = (await self.done("deploy", model=model, version=version))["deployment_id"]
        await self.done("shift", deployment_id=who, weight=100)
        return who

    async def on_trial(self, model: str, version: int, weight: int) -> str:
        """Deploy a version beside the one in use, and wait until this process serves it."""
        who: str = (await self.done("deploy", model=model, version=version))["deployment_id"]
        await self.done("shift", deployment_id=who, weight=weight)

        async def loaded() -> bool:
            asked = oip.ModelReadyRequest(name=model, version=str(version))
            return bool((await self.protocol().ModelReady(asked, metadata=DEMO)).ready)

        await until(loaded)
        return who

    async def ask(self, model: str, keys: list[str], *, hours: list[float] | None = None) -> Any:
        return await self.protocol().ModelInfer(request(model, keys, hours), metadata=DEMO)

    async def label(self, model: str, labels: dict[str, float], times: int = 1) -> None:
        headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_type", b"label"), ("ce_source", b"/tests")]
        async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer:
            for _ in range(times):
                for key, label in labels.items():
                    data = json.dumps({"model": model, "request_key": key, "label": label}).encode()
                    await producer.send(LABELS, data, headers=[*headers, ("ce_namespace", b"demo")])

    async def route(self, model: str) -> list[tuple[str, int]]:
        answer = await self.stub().GetRoute(pb.GetRouteRequest(namespace="demo", model=model))
        return [(arm.deployment_id, arm.weight) for arm in answer.arms]


DEMO = (("x-millrace-namespace", "demo"),)


def request(
    model: str, keys: list[str], hours: list[float] | None = None, *, carrier: str = "UA"
) -> oip.ModelInferRequest:
    asked = oip.ModelInferRequest(model_name=model, id="r")
    oip.add_bytes(asked, "carrier", [carrier] * len(keys))
    oip.add_doubles(asked, "weather.wind", [1.0] * len(keys))
    oip.add_doubles(asked, "load.hour", hours or [4.0] * len(keys))
    if any(keys):
        oip.add_bytes(asked, "routing_key", keys)
    return asked


def answered_by(answer: oip.ModelInferResponse) -> list[UUID]:
    return [read_prediction_id(one.decode()).deployment_id for one in oip.read_bytes(answer, "prediction_id")]
