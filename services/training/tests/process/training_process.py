"""The training service as a process of its own, a neighbour that answers it, and all that it publishes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
from aiokafka import AIOKafkaConsumer
from millrace.contracts.rpc.feature.v1 import feature_pb2
from millrace.contracts.rpc.training.v1.training_pb2_grpc import TrainingServiceStub
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.testing import publish, until
from millrace.runtime.testing.process import Deployment

TOPICS = ("training.tasks", "training.models", "training.evaluations", "training.lineage")
FEATURES = ("shop.load", "shop.queue", "clock.stamp")
NARROW = "d" * 64
"""A training set without the last of the features."""


@contextmanager
def neighbour(digests: dict[str, str]) -> Iterator[str]:
    """Answer as feature does, as far as training asks it: which Parquet a training set is."""

    def training_set(request: feature_pb2.GetTrainingSetRequest, context: grpc.ServicerContext) -> Any:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        if not metadata["authorization"].startswith("Bearer ") or metadata["x-millrace-principal"] != "ada":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who asks?")
        if request.training_set_id not in digests:
            context.abort(grpc.StatusCode.NOT_FOUND, f"training set {request.training_set_id} does not exist")
        return feature_pb2.GetTrainingSetResponse(
            training_set_id=request.training_set_id,
            sha256=digests[request.training_set_id],
            features=FEATURES[:-1] if request.training_set_id == NARROW else FEATURES,
            request_features=["clock.stamp"],
            online_views=[feature_pb2.View(view="shop", entity=["shop"])],
        )

    handler = grpc.unary_unary_rpc_method_handler(
        training_set,
        request_deserializer=feature_pb2.GetTrainingSetRequest.FromString,
        response_serializer=feature_pb2.GetTrainingSetResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("millrace.feature.v1.FeatureService", {"GetTrainingSet": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


class Told:
    """All that training publishes, as it comes."""

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

    async def report(self, task_id: UUID, attempt: int = 1) -> tuple[str, dict[str, Any]]:
        """Return how an attempt ended."""

        async def ended() -> Any:
            for kind in ("TaskSucceeded", "TaskFailed"):
                for event in self.of(kind, task_id=str(task_id), attempt=attempt):
                    return kind, event
            return None

        found: tuple[str, dict[str, Any]] = await until(ended, seconds=60)
        return found


class Training:
    """The service under test and how a test talks to it."""

    def __init__(self, deployment: Deployment, servers: str, told: Told, artifacts: Artifacts) -> None:
        self.deployment = deployment
        self.told = told
        self.artifacts = artifacts
        self._servers = servers

    def stub(self, principal: str = "ada") -> Any:
        return TrainingServiceStub(self.deployment.channel("training", principal))

    async def send(self, kind: str, asked: dict[str, Any], task_id: UUID, attempt: int = 1, times: int = 1) -> None:
        order = TaskDispatched(
            namespace="demo",
            queue="training",
            task_id=task_id,
            attempt=attempt,
            token=uuid4(),
            kind=kind,
            input=asked,
            run_id=UUID(int=7),
            workflow="shops",
            name=kind.partition(".")[2],
            principal="ada",
            deadline=datetime.now(UTC) + timedelta(minutes=5),
        )
        await publish(self._servers, [order], times=times)

    async def do(self, kind: str, asked: dict[str, Any], times: int = 1) -> tuple[str, dict[str, Any]]:
        task_id = uuid4()
        await self.send(kind, asked, task_id, times=times)
        return await self.told.report(task_id)

    async def done(self, kind: str, asked: dict[str, Any], times: int = 1) -> dict[str, Any]:
        ended, event = await self.do(kind, asked, times)
        assert ended == "TaskSucceeded", event
        output: dict[str, Any] = event["output"]
        return output
