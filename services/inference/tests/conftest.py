"""A small model as training would register it, and real transactions to keep it in."""

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
from onnx import TensorProto, helper

TASK = UUID(int=7)
FEATURES = (
    ModelFeature(view="carrier_rates", feature="late", source="online"),
    ModelFeature(view="weather", feature="wind", source="request"),
    ModelFeature(view="load", feature="hour", source="request"),
)
ONLINE = (OnlineView(view="carrier_rates", entity=("carrier",)),)


def graph(weights: Sequence[float], *, nan: bool = False) -> bytes:
    """A logistic regression that takes what is not known as 0; or a model that only ever gives NaN."""
    bias = float("nan") if nan else -0.5
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, [len(weights), 1], list(weights)),
        helper.make_tensor("bias", TensorProto.FLOAT, [1], [bias]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("column", TensorProto.INT64, [1], [1]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["features"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "features"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["chance"]),
        helper.make_node("Squeeze", ["chance", "column"], ["score"]),
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


@pytest.fixture
def make_graph() -> Callable[..., bytes]:
    return graph


@pytest.fixture
def expect() -> Callable[..., Any]:
    return expected


@pytest.fixture
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
