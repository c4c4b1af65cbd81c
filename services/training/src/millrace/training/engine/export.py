"""ONNX: one form of graph for every estimator, the same bytes for the same model, and how well it agrees."""

import warnings
from typing import Any

import numpy as np
import onnx
import onnxmltools
import onnxruntime
import skl2onnx
from millrace.training.engine.frame import Features, Floats
from onnx import TensorProto, helper
from onnxmltools.convert.common.data_types import FloatTensorType as LightGbmFloats
from skl2onnx.common.data_types import FloatTensorType as SklearnFloats

INPUT = "features"
OUTPUT = "score"
GRAPH = "millrace"
OPSET = 15
ML_OPSET = 3
LOG_ERRORS = 3


def lightgbm_graph(booster: Any, feature_count: int) -> onnx.ModelProto:  # noqa: ANN401 - lightgbm has no types
    """Return a booster's graph with one output `score`."""
    inputs = [(INPUT, LightGbmFloats([None, feature_count]))]
    with _quietly():
        model = onnxmltools.convert_lightgbm(booster, GRAPH, inputs, target_opset=OPSET, zipmap=False)
    return _with_score(model)


def sklearn_graph(pipeline: Any, feature_count: int) -> onnx.ModelProto:  # noqa: ANN401 - sklearn has no types
    """Return a pipeline's graph with one output `score`."""
    inputs = [(INPUT, SklearnFloats([None, feature_count]))]
    with _quietly():
        model = skl2onnx.convert_sklearn(
            pipeline,
            GRAPH,
            inputs,
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
            options={id(pipeline): {"zipmap": False}},
        )
    return _with_score(model)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Return the file's content."""
    return model.SerializeToString(deterministic=True)


class Scorer:
    """A model file, ready to score."""

    def __init__(self, content: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = LOG_ERRORS
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, features: Features) -> Floats:
        """Return the score of each row, shape (rows,)."""
        return np.asarray(self._session.run([OUTPUT], {INPUT: features})[0], np.float64)


def parity_max_abs(native: Floats, exported: Floats) -> float:
    """Return the largest difference between two libraries' scores of the same rows; 1 where one of them has none."""
    return float(np.nan_to_num(np.abs(native - exported), nan=1.0).max(initial=0.0))


def parity_rows(features: Features, seed: int, rows: int = 4096) -> Features:
    """Return rows to compare on: a sample, and a copy of it with values missing here and there and one row of none."""
    generator = np.random.default_rng(seed)
    sample = features[generator.choice(len(features), min(rows, len(features)), replace=False)]
    holed = sample.copy()
    holed[generator.random(holed.shape) < 1 / 4] = np.nan
    holed[0] = np.nan
    return np.concatenate([sample, holed])


def _with_score(model: onnx.ModelProto) -> onnx.ModelProto:
    probabilities = model.graph.output[1].name
    nodes = [
        *model.graph.node,
        helper.make_node("Gather", [probabilities, "label_one"], [OUTPUT], name=OUTPUT, axis=1),
    ]
    constants = [*model.graph.initializer, helper.make_tensor("label_one", TensorProto.INT64, [], [1])]
    graph = helper.make_graph(
        _needed(nodes),
        GRAPH,
        list(model.graph.input),
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None])],
        constants,
    )
    finished = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    onnx.checker.check_model(finished)
    return finished


def _needed(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes that `score` depends on, in order."""
    wanted = {OUTPUT}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _quietly() -> "warnings.catch_warnings[None]":
    # The exporters use NumPy and ONNX in ways deprecated there; parity, not silence, tells whether they are right.
    return warnings.catch_warnings(action="ignore")
