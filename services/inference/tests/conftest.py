"""A small model as training would register it, and real transactions to keep it in."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import onnx
import pytest
from millrace.contracts.tasks import TaskDispatched
from millrace.contracts.training import (
    MANIFEST_FILE,
    MODEL_FILE,
    Golden,
    ModelFeature,
    ModelManifest,
    OnlineView,
    tree_hash,
)
from millrace.inference.domain.routing import Deployment, State
from millrace.inference.store import Store
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.testing import Server, store
from millrace.runtime.testing.process import deployed
from onnx import TensorProto, helper

from services.inference.tests.inference_process import (
    NEARLY,
    RIGHT,
    WRONG,
    Inference,
    Neighbours,
    Told,
    collecting,
    listening,
)

TASK = UUID(int=7)
FEATURES = (
    ModelFeature(view="carrier_rates", feature="late", source="online"),
    ModelFeature(view="weather", feature="wind", source="request"),
    ModelFeature(view="load", feature="hour", source="request"),
)
ONLINE = (OnlineView(view="carrier_rates", entity=("carrier",)),)


def graph(weights: Sequence[float], *, nan: bool = False, breaks_above: float = 1e6) -> bytes:
    """A logistic regression that takes what is not known as 0.

    It gives NaN where its inputs add up to more than `breaks_above`, or always.
    """
    bias = float("nan") if nan else -0.5
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, [len(weights), 1], list(weights)),
        helper.make_tensor("bias", TensorProto.FLOAT, [1], [bias]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("most", TensorProto.FLOAT, [1], [breaks_above]),
        helper.make_tensor("column", TensorProto.INT64, [1], [1]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["features"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "features"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["chance"]),
        helper.make_node("ReduceSum", ["known", "column"], ["sum"], keepdims=1),
        helper.make_node("Sub", ["most", "sum"], ["room"]),
        helper.make_node("Sqrt", ["room"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["chance", "nothing"], ["sound"]),
        helper.make_node("Squeeze", ["sound", "column"], ["score"]),
    ]
    takes = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(weights)])
    gives = helper.make_tensor_value_info("score", TensorProto.FLOAT, [None])
    made = helper.make_graph(nodes, "millrace", [takes], [gives], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def expected(weights: Sequence[float], rows: Any) -> Any:
    """What `graph(weights)` gives."""
    known = np.nan_to_num(np.asarray(rows, np.float64), nan=0.0)
    return 1 / (1 + np.exp(-(known @ np.asarray(weights) - 0.5)))


@dataclass
class Shelf:
    """Model versions as training registers them: artifacts, and what their files are."""

    artifacts: Artifacts
    versions: dict[int, dict[str, str]] = field(default_factory=dict)

    def put(
        self,
        version: int,
        weights: Sequence[float] = (1.0, 0.5, -0.25),
        content: bytes | None = None,
        scores: Sequence[float] | None = None,
        features: tuple[ModelFeature, ...] = FEATURES,
        online: tuple[OnlineView, ...] = ONLINE,
    ) -> dict[str, str]:
        """Store a version and return its files."""
        rows = [[float(one), two / 8, None if one % 3 else 2.0] for one in range(8) for two in range(8)]
        cut = [row[: len(features)] for row in rows]
        right = expected(weights, [[np.nan if value is None else value for value in row] for row in cut])
        manifest = ModelManifest(
            model="late",
            estimator="sklearn.logistic_regression",
            params={},
            seed=0,
            training_set_id="a" * 64,
            features=features,
            online_views=online,
            base_rate=0.24,
            fitted_until=datetime(2013, 1, 25, tzinfo=UTC),
            golden=Golden(rows=cut, scores=list(right if scores is None else scores), tolerance=1e-5),
        )
        self.versions[version] = {
            MODEL_FILE: self.artifacts.put_bytes(content or graph(weights)),
            MANIFEST_FILE: self.artifacts.put_bytes(manifest.to_bytes()),
        }
        return self.versions[version]

    def deployment(self, version: int, deployment_id: UUID, namespace: str = "demo") -> Deployment:
        """A deployment of a version, as the store would give it."""
        files = self.versions[version]
        return Deployment(
            namespace, deployment_id, "late", version, tree_hash(files), files, State.READY, "", datetime.now(UTC)
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(Artifacts(f"file://{tmp_path}"))


@pytest.fixture(scope="session")
def shelf_at() -> Callable[[Artifacts], Shelf]:
    return Shelf


@pytest.fixture(scope="session")
def make_graph() -> Callable[..., bytes]:
    return graph


@pytest.fixture(scope="session")
def expect() -> Callable[..., Any]:
    return expected


@pytest.fixture(scope="session")
def dispatched() -> Callable[..., TaskDispatched]:
    """Make an order as control gives it."""

    def make(kind: str, asked: dict[str, Any], task_id: UUID = TASK) -> TaskDispatched:
        return TaskDispatched(
            namespace="demo",
            queue="inference",
            task_id=task_id,
            attempt=1,
            token=UUID(int=task_id.int + 1),
            kind=kind,
            input=asked,
            run_id=UUID(int=9),
            workflow="flights.month",
            name="deploy",
            principal="developer",
            deadline=datetime.now(UTC) + timedelta(minutes=5),
        )

    return make


@pytest.fixture
async def tx(postgres: Server, dispatched: Callable[..., TaskDispatched]) -> AsyncIterator[Store]:
    """A real transaction on a real PostgreSQL, rolled back, with the task whose result is kept."""
    async with store(postgres, "inference", Store, dispatched("inference.deploy", {})) as opened:
        yield opened


@pytest.fixture(scope="module")
async def inference(
    postgres: Any,
    broker: Any,
    tmp_path_factory: pytest.TempPathFactory,
    shelf_at: Callable[[Artifacts], Any],
    dispatched: Callable[..., Any],
    make_graph: Callable[..., bytes],
) -> AsyncIterator[Inference]:
    folder = tmp_path_factory.mktemp("inference")
    shelf = shelf_at(Artifacts((folder / "artifacts").as_uri()))
    for version, weights in enumerate((RIGHT, NEARLY, WRONG), start=1):
        shelf.put(version, weights)
    shelf.put(4, RIGHT, content=make_graph(RIGHT, breaks_above=100.0))
    shelf.put(5, RIGHT, scores=[0.5] * 64)
    unread = ModelFeature(view="not_online", feature="wind", source="online")
    views = (*ONLINE, OnlineView(view="not_online", entity=("carrier",)))
    shelf.put(6, RIGHT, features=(FEATURES[0], unread, FEATURES[2]), online=views)
    grants = {"developer": {"demo": "MANAGE"}, "bob": {"other": "MANAGE"}}
    neighbours = Neighbours(shelf)
    spans: list[Any] = []
    with listening(neighbours) as target, collecting(spans) as collector:
        endpoints = json.dumps({"training": target, "feature": target})
        extra = {"inference": {"ENDPOINTS": endpoints, "OTLP_ENDPOINT": collector}}
        async with deployed(("inference",), postgres, broker.servers, folder, extra, grants) as deployment:
            told = Told()
            async with asyncio.TaskGroup() as group:
                following = group.create_task(told.follow(broker.servers))
                yield Inference(deployment, broker.servers, told, neighbours, dispatched, spans)
                following.cancel()
