import math
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool
from hypothesis import given
from hypothesis import strategies as st
from millrace.contracts import oip
from millrace.contracts.oip.tensors import join_bytes


def test_the_wire_is_that_of_the_protocol() -> None:
    # Field numbers as the protocol has them: what other clients send by number is read by name here.
    message = oip.ModelInferRequest(model_name="m", model_version="1", id="i", raw_input_contents=[b"r"])

    assert message.SerializeToString() == b"\x0a\x01m\x12\x011\x1a\x01i\x3a\x01r"
    assert oip.SERVICE.full_name == "inference.GRPCInferenceService"
    assert [f"{f.number} {f.name}" for f in oip.InferTensorContents.DESCRIPTOR.fields] == [
        "1 bool_contents",
        "2 int_contents",
        "3 int64_contents",
        "4 uint_contents",
        "5 uint64_contents",
        "6 fp32_contents",
        "7 fp64_contents",
        "8 bytes_contents",
    ]


def test_the_default_pool_stays_free_for_other_clients() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")


def test_it_needs_no_numpy() -> None:
    code = "import sys, millrace.contracts.oip; sys.exit('numpy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.lists(st.binary(max_size=20)))
def test_bytes_come_back_from_their_raw_form(values: list[bytes]) -> None:
    assert oip.split_bytes(join_bytes(values)) == values


@pytest.mark.parametrize("raw", [b"\x01", b"\x05\x00\x00\x00ab", b"\xff\xff\xff\xff"])
def test_a_cut_raw_form_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|beyond the end"):
        oip.split_bytes(raw)


def test_answers_are_read_in_both_forms() -> None:
    asked = oip.ModelInferRequest()
    oip.add_bytes(asked, "name", ["é", b"b"])
    oip.add_doubles(asked, "score", [0.5, math.nan])
    raw = oip.ModelInferResponse(raw_output_contents=asked.raw_input_contents)
    typed = oip.ModelInferResponse()
    for one in asked.inputs:
        raw.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        typed.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
    typed.outputs[0].contents.bytes_contents.extend(["é".encode(), b"b"])
    typed.outputs[1].contents.fp64_contents.extend([0.5, math.nan])

    for response in (raw, typed):
        assert oip.read_bytes(response, "name") == ["é".encode(), b"b"]
        assert str(oip.read_doubles(response, "score")) == "[0.5, nan]"
    with pytest.raises(KeyError):
        oip.read_doubles(raw, "other")
