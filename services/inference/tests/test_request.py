from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from millrace.contracts import oip
from millrace.inference.engine.request import read_request, write_response
from millrace.runtime.errors import InvalidInput

OLD, NEW = UUID(int=1), UUID(int=2)


def infer_request(rows: int = 2, keys: list[str] | None = None, **parameters: str) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="late", id="r1")
    oip.add_bytes(request, "carrier", ["UA"] * rows)
    oip.add_doubles(request, "weather.wind", [float(row) for row in range(rows)])
    oip.add_doubles(request, "load.hour", [1.0] * rows)
    if keys:
        oip.add_bytes(request, "routing_key", keys)
    for name, value in parameters.items():
        request.parameters[name].string_param = value
    return request


@pytest.mark.parametrize("raw", [True, False])
def test_an_answer_has_the_form_of_its_request(*, raw: bool) -> None:
    request = infer_request(keys=["k1", "k2"])
    if not raw:
        texts, numbers = [0, 3], [1, 2]
        for place in texts:
            request.inputs[place].contents.bytes_contents.extend(oip.split_bytes(request.raw_input_contents[place]))
        for place in numbers:
            values = np.frombuffer(request.raw_input_contents[place])
            request.inputs[place].contents.fp64_contents.extend(values)
        del request.raw_input_contents[:]

    asked = read_request(request, 10)
    response = write_response(asked, 3, {"generation": 4}, np.array([0.1, 0.9]), ["p1", "p2"])

    assert asked.routing_keys == ("k1", "k2")
    assert asked.texts == {"carrier": ["UA", "UA"]}
    assert asked.numbers["weather.wind"].tolist() == [0.0, 1.0]
    assert bool(response.raw_output_contents) is raw
    assert oip.read_doubles(response, "score") == [0.1, 0.9]
    assert oip.read_bytes(response, "prediction_id") == [b"p1", b"p2"]
    assert (response.model_version, response.id, response.parameters["generation"].int64_param) == ("3", "r1", 4)


def test_numbers_come_in_any_datatype_and_in_columns_of_two_dimensions() -> None:
    request = oip.ModelInferRequest(model_name="late")
    datatypes = {"a": ("FP32", "<f4"), "b": ("INT64", "<i8"), "c": ("FP16", "<f2"), "d": ("BOOL", "?")}
    for name, (datatype, dtype) in datatypes.items():
        request.inputs.add(name=name, datatype=datatype, shape=[3, 1])
        request.raw_input_contents.append(np.array([0, 1, 1]).astype(dtype).tobytes())

    asked = read_request(request, 10)

    assert {name: column.tolist() for name, column in asked.numbers.items()} == {name: [0, 1, 1] for name in datatypes}


def damaged(change: Callable[[oip.ModelInferRequest], object]) -> oip.ModelInferRequest:
    request = infer_request()
    change(request)
    return request


def _set(message: Any, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(message, name, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.raw_input_contents.pop(), "one for each"),
        (lambda r: _set(r.inputs[1], name="carrier"), "twice"),
        (lambda r: _set(r.inputs[1], datatype="BF16"), "datatype"),
        (lambda r: r.inputs[1].shape.append(2), "a column"),
        (lambda r: r.inputs[1].shape.pop(), "a column"),
        (lambda r: r.inputs[1].shape.__setitem__(0, 3), "2 values"),
        (lambda r: r.inputs[1].shape.__setitem__(0, -2), "a column"),
        (lambda r: r.raw_input_contents.__setitem__(0, b"\xff\xff\xff\xffA"), "no BYTES tensor"),
        (lambda r: r.raw_input_contents.__setitem__(0, b"\x01\0\0\0\xff\x00\0\0\0"), "no BYTES tensor"),
        (lambda r: r.raw_input_contents.__setitem__(1, np.array([1.0, np.inf]).tobytes()), "infinite"),
        (lambda r: r.raw_input_contents.__setitem__(1, np.array([1.0, -1e39]).tobytes()), "beyond 32-bit floats"),
        (lambda r: r.raw_input_contents.__setitem__(1, b"12345"), "whole number"),
        (lambda r: _set(r, id="a\0b"), "the request's id has .* a null"),
        (lambda r: _set(r, id="ä" * 300), "the request's id has more than 500 bytes"),
        (lambda r: _set(r, model_version="two"), "no version"),
        (lambda r: _set(r, model_version="0"), "no version"),
        (lambda r: r.outputs.add(name="logits"), "cannot be had"),
        (lambda r: oip.add_bytes(r, "routing_key", ["k"]), "different numbers of rows"),
        (lambda r: oip.add_doubles(r, "routing_key", [1.0, 2.0]), "must be BYTES"),
        (lambda r: r.inputs[0].contents.bytes_contents.append(b"UA"), "both raw and as contents"),
        (lambda r: r.Clear(), "needs inputs"),
    ],
)
def test_a_malformed_request_is_refused_with_the_reason(
    change: Callable[[oip.ModelInferRequest], object], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_request(damaged(change), 10)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(InvalidInput, match="10 is the most"):
        read_request(infer_request(11), 10)
