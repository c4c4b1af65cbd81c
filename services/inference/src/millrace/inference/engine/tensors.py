"""Tensors of the Open Inference Protocol as columns, and columns as tensors."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from millrace.contracts import oip
from millrace.contracts.oip.tensors import join_bytes
from millrace.inference.engine.model import Floats
from millrace.runtime.errors import InvalidInput

BYTES = "BYTES"
DOUBLE = "FP64"
MAX_TEXT_BYTES = 500
"""The longest text that a request may bring in one row."""

LARGEST = np.finfo(np.float32).max
"""The greatest number that a model can take."""

# Datatype -> (NumPy's name of it, the repeated field that holds it).
_NUMBERS = {
    "BOOL": ("?", "bool_contents"),
    "INT8": ("<i1", "int_contents"),
    "INT16": ("<i2", "int_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "UINT8": ("<u1", "uint_contents"),
    "UINT16": ("<u2", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
    "FP16": ("<f2", ""),
    "FP32": ("<f4", "fp32_contents"),
    DOUBLE: ("<f8", "fp64_contents"),
}

Column = Floats | list[str]
"""One input: numbers of shape (rows,), or as many texts."""


def read_columns(request: oip.ModelInferRequest) -> dict[str, Column]:
    """Return the inputs by name: each a column of as many rows.

    Raises:
        InvalidInput: One is malformed, named twice, not a column, or of another number of rows than the rest.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput(f"{len(raw)} raw contents came with {len(request.inputs)} inputs: one for each is needed")
    columns: dict[str, Column] = {}
    for place, one in enumerate(request.inputs):
        if one.name in columns:
            raise InvalidInput(f"input {one.name} came twice")
        if raw and one.HasField("contents"):
            raise InvalidInput(f"input {one.name} came both raw and as contents")
        columns[one.name] = _column(one, raw[place] if raw else None)
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"inputs have different numbers of rows: {sizes}")
    return columns


def add_output(response: oip.ModelInferResponse, name: str, values: Floats | Sequence[str], *, raw: bool) -> None:
    """Add a column to an answer: doubles as FP64, texts as BYTES, in the form in which the request came."""
    numbers = isinstance(values, np.ndarray)
    output = response.outputs.add(name=name, datatype=DOUBLE if numbers else BYTES, shape=[len(values)])
    if isinstance(values, np.ndarray):
        if raw:
            response.raw_output_contents.append(values.astype("<f8").tobytes())
        else:
            output.contents.fp64_contents.extend(values.tolist())
        return
    encoded = [value.encode() for value in values]
    if raw:
        response.raw_output_contents.append(join_bytes(encoded))
    else:
        output.contents.bytes_contents.extend(encoded)


def _column(one: oip.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Column:
    shape = list(one.shape)
    if len(shape) not in {1, 2} or shape[0] < 1 or math.prod(shape) != shape[0]:
        raise InvalidInput(f"input {one.name} has shape {shape}: a column of shape [rows] or [rows, 1] is needed")
    found = _texts(one, raw) if one.datatype == BYTES else _numbers(one, raw)
    if len(found) != shape[0]:
        raise InvalidInput(f"input {one.name} has {len(found)} values, and its shape says {shape[0]}")
    return found


def _texts(one: oip.ModelInferRequest.InferInputTensor, raw: bytes | None) -> list[str]:
    try:
        values = list(one.contents.bytes_contents) if raw is None else oip.split_bytes(raw)
        texts = [value.decode() for value in values]
    except ValueError:
        raise InvalidInput(f"input {one.name} is no BYTES tensor of UTF-8 text") from None
    if any(len(value) > MAX_TEXT_BYTES or b"\0" in value for value in values):
        raise InvalidInput(f"input {one.name} has a text longer than {MAX_TEXT_BYTES} bytes, or with a null in it")
    return texts


def _numbers(one: oip.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Floats:
    if one.datatype not in _NUMBERS:
        known = ", ".join([*_NUMBERS, BYTES])
        raise InvalidInput(f"input {one.name} has datatype {one.datatype[:20]!r}; these are known: {known}")
    code, field = _NUMBERS[one.datatype]
    dtype = np.dtype(code)
    if raw is not None:
        if len(raw) % dtype.itemsize:
            raise InvalidInput(f"input {one.name} has {len(raw)} bytes: no whole number of {one.datatype} values")
        values: npt.NDArray[np.generic] = np.frombuffer(raw, dtype)
    elif field:
        values = np.array(getattr(one.contents, field))
    else:
        raise InvalidInput(f"input {one.name} is {one.datatype}, which must come raw")
    numbers = values.astype(np.float64)
    if (np.abs(numbers) > LARGEST).any():
        raise InvalidInput(
            f"input {one.name} has an infinite value, or one beyond 32-bit floats: NaN stands for what is not known"
        )
    return numbers
