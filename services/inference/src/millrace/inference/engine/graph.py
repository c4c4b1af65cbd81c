"""Which ONNX graphs may be loaded: those that are all in their own bytes and use standard operators only."""

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError
from millrace.runtime.errors import InvalidInput

OPERATOR_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}


def check_graph(content: bytes) -> None:
    """Do nothing when a model's bytes are safe to hand to the runtime.

    Raises:
        InvalidInput: They are no ONNX model, refer to other files, or use operators outside the standard.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise InvalidInput("the file is no ONNX model: its bytes cannot be read") from None
    foreign = {opset.domain for opset in model.opset_import} - OPERATOR_DOMAINS
    if foreign or model.functions:
        named = ", ".join(sorted(foreign) or sorted(function.name for function in model.functions))
        raise InvalidInput(f"the model uses operators outside the ONNX standard: {named[:200]}")
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InvalidInput(f"the model keeps tensor {tensor.name[:80]} in another file: store it whole")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    pending = [graph]
    while pending:
        part = pending.pop()
        yield from part.initializer
        for sparse in part.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for attribute in (attribute for node in part.node for attribute in node.attribute):
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            pending += [attribute.g] if attribute.HasField("g") else []
            pending += attribute.graphs
