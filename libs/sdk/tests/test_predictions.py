import math
from uuid import UUID

import pytest
from millrace.contracts import oip
from millrace.contracts.inference import prediction_id
from millrace.runtime.errors import InvalidInput
from millrace.runtime.ids import new_id
from millrace.sdk.predictions import Model, Row, infer_request, predictions


def test_text_becomes_an_entity_key_and_a_number_a_feature_whose_absence_is_not_known() -> None:
    rows: list[Row] = [{"dest": "IAH", "weather.visib": 10}, {"dest": "北京", "weather.visib": None}]

    request = infer_request("late", rows, ["a", "b"], "r1")

    assert [(one.name, one.datatype, list(one.shape)) for one in request.inputs] == [
        ("dest", "BYTES", [2]),
        ("weather.visib", "FP64", [2]),
        ("routing_key", "BYTES", [2]),
    ]
    assert oip.split_bytes(request.raw_input_contents[0]) == [b"IAH", "北京".encode()]
    answer = oip.ModelInferResponse(raw_output_contents=[request.raw_input_contents[1]])
    answer.outputs.add(name="score", datatype="FP64", shape=[2])
    first, second = oip.read_doubles(answer, "score")
    assert first == 10
    assert math.isnan(second)


@pytest.mark.parametrize(
    ("rows", "keys", "said"),
    [
        ([], [], "no row"),
        ([{"a": 1}], ["k", "l"], "2 routing keys for 1 rows"),
        ([{"a": 1}, {}], [], "a is not in every row"),
        ([{"a": 1}, {"a": 1, "b": 2}], [], "b is not in every row"),
        ([{"a": 1}, {"a": "1"}], [], "a is text in one row"),
    ],
)
def test_rows_that_make_no_table_are_refused_with_the_column(rows: list[Row], keys: list[str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        infer_request("late", rows, keys, "r1")


def test_an_answer_says_which_deployment_gave_it() -> None:
    deployment = UUID(int=7)
    answer = oip.ModelInferResponse(model_name="late", model_version="3")
    answer.outputs.add(name="score", datatype="FP64", shape=[1]).contents.fp64_contents.append(0.25)
    told = prediction_id(deployment, new_id()).encode()
    answer.outputs.add(name="prediction_id", datatype="BYTES", shape=[1]).contents.bytes_contents.append(told)

    (found,) = predictions(answer)

    assert (found.score, found.model, found.version, found.deployment_id) == (0.25, "late", 3, deployment)


def test_a_row_of_text_is_read_by_what_the_model_takes() -> None:
    model = Model("late", (1,), {"flight": "BYTES", "weather.visib": "FP64", "load.hour": "FP64"})

    row = model.read_row({"flight": 1545, "weather.visib": "9.5", "load.hour": "", "other": "x"})

    assert row == {"flight": "1545", "weather.visib": 9.5, "load.hour": None}
    with pytest.raises(InvalidInput, match=r"weather\.visib: 'bad' is no number"):
        model.read_row({"weather.visib": "bad"})
