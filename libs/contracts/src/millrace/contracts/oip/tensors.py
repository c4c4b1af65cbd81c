"""Tensors of text and of doubles, written to requests and read from answers without NumPy."""

from array import array
from collections.abc import Iterable, Sequence
from struct import Struct, error

from millrace.contracts.oip.messages import ModelInferRequest, ModelInferResponse

_LENGTH = Struct("<I")


def add_bytes(request: ModelInferRequest, name: str, values: Sequence[str | bytes]) -> None:
    """Add an input of datatype BYTES and shape (rows,), in raw form."""
    encoded = (value.encode() if isinstance(value, str) else value for value in values)
    _add(request, name, "BYTES", len(values), join_bytes(encoded))


def add_doubles(request: ModelInferRequest, name: str, values: Sequence[float]) -> None:
    """Add an input of datatype FP64 and shape (rows,), in raw form; NaN stands for what is not known."""
    _add(request, name, "FP64", len(values), array("d", values).tobytes())


def read_bytes(response: ModelInferResponse, name: str) -> list[bytes]:
    """Return the values of an output of datatype BYTES.

    Raises:
        KeyError: The answer has no such output.
    """
    place = _place(response, name)
    if response.raw_output_contents:
        return split_bytes(response.raw_output_contents[place])
    return list(response.outputs[place].contents.bytes_contents)


def read_doubles(response: ModelInferResponse, name: str) -> list[float]:
    """Return the values of an output of datatype FP64.

    Raises:
        KeyError: The answer has no such output.
    """
    place = _place(response, name)
    if response.raw_output_contents:
        return array("d", response.raw_output_contents[place]).tolist()
    return list(response.outputs[place].contents.fp64_contents)


def join_bytes(values: Iterable[bytes]) -> bytes:
    """Return the raw form of BYTES: each value after its length, 4 bytes, little-endian."""
    return b"".join(_LENGTH.pack(len(value)) + value for value in values)


def split_bytes(raw: bytes) -> list[bytes]:
    """Return the values in the raw form of BYTES.

    Raises:
        ValueError: A length is cut off or goes beyond the end.
    """
    values, place = [], 0
    while place < len(raw):
        try:
            (size,) = _LENGTH.unpack_from(raw, place)
        except error:
            raise ValueError("a length is cut off") from None
        place += _LENGTH.size
        if place + size > len(raw):
            raise ValueError("a value goes beyond the end")
        values.append(raw[place : place + size])
        place += size
    return values


def _add(request: ModelInferRequest, name: str, datatype: str, rows: int, raw: bytes) -> None:
    request.inputs.add(name=name, datatype=datatype, shape=[rows])
    request.raw_input_contents.append(raw)


def _place(response: ModelInferResponse, name: str) -> int:
    for place, output in enumerate(response.outputs):
        if output.name == name:
            return place
    raise KeyError(name)
