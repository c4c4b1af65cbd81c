"""A model version, verified and loaded."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import onnxruntime
from millrace.contracts.training import MANIFEST_FILE, MODEL_FILE, ModelManifest, tree_hash
from millrace.inference.engine.graph import check_graph
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.command import faults
from millrace.runtime.errors import InvalidInput
from pydantic import ValidationError

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, Floats]
"""Values by name, each of shape (rows,); NaN where nothing is known."""

INPUT = "features"
OUTPUT = "score"
LOG_ERRORS = 3
WARM_UP_RUNS = 3
_ORT = onnxruntime.capi.onnxruntime_pybind11_state
RUN_FAILURES: tuple[type[Exception], ...] = (
    _ORT.EPFail,
    _ORT.EngineError,
    _ORT.Fail,
    _ORT.InvalidArgument,
    _ORT.InvalidGraph,
    _ORT.InvalidProtobuf,
    _ORT.NotImplemented,
    _ORT.RuntimeException,
)
"""What ONNX Runtime raises; they share no class."""


class Model:
    """A loaded graph with its manifest.

    Args:
        graph: The content of `model.onnx`, checked.
        manifest: What it takes and what it must give.

    Raises:
        InvalidInput: The graph cannot be loaded, or does not take and give what the manifest says.
    """

    def __init__(self, graph: bytes, manifest: ModelManifest) -> None:
        self.manifest = manifest
        self.names = tuple(feature.name for feature in manifest.features)
        self.sent = tuple(feature.name for feature in manifest.features if feature.source == "request")
        self.looked_up = tuple(feature.name for feature in manifest.features if feature.source == "online")
        self.views = tuple(view.view for view in manifest.online_views)
        self.entity = tuple(dict.fromkeys(column for view in manifest.online_views for column in view.entity))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = LOG_ERRORS
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except RUN_FAILURES as error:
            raise InvalidInput(f"the graph cannot be loaded: {type(error).__name__}") from error
        self._check_signature()

    def score(self, columns: Columns) -> Floats:
        """Return the score of each row, shape (rows,).

        Args:
            columns: At least the model's own features.

        Raises:
            InvalidInput: The graph cannot be run on them.
        """
        rows = np.column_stack([columns[name] for name in self.names]).astype(np.float32)
        try:
            (scores,) = self._session.run([OUTPUT], {INPUT: rows})
        except RUN_FAILURES as error:
            raise InvalidInput(f"the graph cannot be run: {type(error).__name__}") from error
        found: Floats = np.asarray(scores, np.float64)
        if found.shape != (len(rows),):
            raise InvalidInput(f"the graph gives scores of shape {found.shape} for {len(rows)} rows")
        return found

    def warm_up(self) -> None:
        """Run on rows of which nothing is known, so that the first request finds all in place."""
        nothing = dict.fromkeys(self.names, np.full(1, np.nan))
        for _ in range(WARM_UP_RUNS):
            self.score(nothing)

    def _check_signature(self) -> None:
        for what, has, wanted, shape in (
            ("takes", self._session.get_inputs(), INPUT, (None, len(self.names))),
            ("gives", self._session.get_outputs(), OUTPUT, (None,)),
        ):
            found = {(one.name, one.type, _free(one.shape)) for one in has}
            if found != {(wanted, "tensor(float)", shape)}:
                raise InvalidInput(
                    f"the graph {what} {sorted(map(str, found))}, not {wanted} of shape {shape} in floats"
                )


def _free(shape: Sequence[int | str | None]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def load(artifacts: Artifacts, version_id: str, files: Mapping[str, str]) -> Model:
    """Return a model version, warm, from artifacts whose bytes are what their digests say; blocks.

    Args:
        artifacts: Where they are.
        version_id: The version's id in the registry: the hash of its files.
        files: path -> SHA-256 of its artifact.

    Raises:
        InvalidInput: The files are not those of the version, or cannot be served.
        NotFound: An artifact is missing.
        Conflict: An artifact is damaged.
    """
    if tree_hash(files) != version_id:
        raise InvalidInput(f"model version {version_id} has other files: their hash is {tree_hash(files)}")
    missing = {MODEL_FILE, MANIFEST_FILE} - files.keys()
    if missing or any(PurePosixPath(path).name != path for path in files):
        raise InvalidInput(f"model version {version_id} needs {MODEL_FILE} and {MANIFEST_FILE}; it has {sorted(files)}")
    graph = artifacts.get_bytes(files[MODEL_FILE])
    check_graph(graph)
    try:
        manifest = ModelManifest.model_validate_json(artifacts.get_bytes(files[MANIFEST_FILE]))
    except ValidationError as error:
        raise InvalidInput(f"{MANIFEST_FILE} of model version {version_id}: {faults(error)}") from None
    model = Model(graph, manifest)
    model.warm_up()
    return model
