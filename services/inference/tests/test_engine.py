from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import onnx
import pytest
from millrace.contracts import oip
from millrace.contracts.training import MODEL_FILE, tree_hash
from millrace.inference.domain.canary import TRIP_BAD
from millrace.inference.domain.routing import Route
from millrace.inference.engine.golden import check_golden
from millrace.inference.engine.graph import check_graph
from millrace.inference.engine.log import Buffer
from millrace.inference.engine.model import load
from millrace.inference.engine.request import Asked, read_request
from millrace.inference.engine.routes import LoadedArm, Served
from millrace.inference.engine.scoring import Scored, plan, score
from millrace.runtime.errors import Conflict, InvalidInput, NotFound, Unavailable
from onnx import TensorProto, helper

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


def answered(asked: Asked, served: Served) -> Scored:
    planned = plan(asked, served, "demo", [str(uuid4()) for _ in range(asked.rows)])
    online = {name: np.full(asked.rows, 2.0) for name in planned.looked_up()}
    return score("late", planned, asked.numbers | online)


def served_by(shelf: Any, *, weight: int = 0, canary: int | None = None) -> Served:
    arms = {OLD: LoadedArm(shelf.deployment(1, OLD), load_version(shelf, 1))}
    if canary:
        arms[NEW] = LoadedArm(shelf.deployment(canary, NEW), load_version(shelf, canary))
    return Served(Route(OLD, NEW if canary else None, weight, generation=3), arms)


def load_version(shelf: Any, version: int) -> Any:
    files = shelf.versions[version]
    return load(shelf.artifacts, tree_hash(files), files)


def test_a_model_gives_its_golden_scores_and_takes_what_is_not_known(shelf: Any, expect: Callable[..., Any]) -> None:
    shelf.put(1)
    model = load_version(shelf, 1)

    check_golden(model)

    columns = {"carrier_rates.late": np.array([np.nan, 2.0]), "weather.wind": np.ones(2), "load.hour": np.ones(2)}
    assert model.score(columns) == pytest.approx(expect((1.0, 0.5, -0.25), [[0, 1, 1], [2, 1, 1]]), abs=1e-6)


def test_a_mild_swap_of_two_features_is_found_by_the_golden_rows(shelf: Any, expect: Callable[..., Any]) -> None:
    weights, swapped = (1.0, 0.5, -0.25), (1.0, -0.25, 0.5)
    shelf.put(1, weights)
    right = load_version(shelf, 1).manifest.golden.scores
    shelf.put(2, swapped, scores=right)

    with pytest.raises(InvalidInput, match=r"golden row \d+ gets .* must get .*not served as it was trained"):
        check_golden(load_version(shelf, 2))


def test_files_of_another_version_are_refused(shelf: Any) -> None:
    files = shelf.put(1)

    with pytest.raises(InvalidInput, match="has other files"):
        load(shelf.artifacts, "b" * 64, files)


def test_a_damaged_artifact_is_refused(shelf: Any, tmp_path: Any) -> None:
    files = shelf.put(1)
    place = tmp_path / "sha256" / files[MODEL_FILE]
    place.chmod(0o644)
    place.write_bytes(b"other")

    with pytest.raises(Conflict, match="damaged"):
        load(shelf.artifacts, tree_hash(files), files)
    place.unlink()
    with pytest.raises(NotFound):
        load(shelf.artifacts, tree_hash(files), files)


def test_a_graph_that_reads_another_file_is_refused(make_graph: Callable[..., bytes]) -> None:
    model = onnx.load_model_from_string(make_graph([1.0]))
    outside = model.graph.initializer[0]
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="/etc/passwd")

    with pytest.raises(InvalidInput, match="in another file"):
        check_graph(model.SerializeToString())


def test_a_graph_inside_a_branch_is_looked_at_too(make_graph: Callable[..., bytes]) -> None:
    model = onnx.load_model_from_string(make_graph([1.0]))
    hidden = helper.make_tensor("hidden", TensorProto.FLOAT, [1], [0.0])
    hidden.data_location = TensorProto.EXTERNAL
    inner = helper.make_graph([], "inner", [], [], [hidden])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))

    with pytest.raises(InvalidInput, match="tensor hidden in another file"):
        check_graph(model.SerializeToString())


@pytest.mark.parametrize("domain", ["com.microsoft", "my.custom.ops"])
def test_operators_outside_the_standard_are_refused(make_graph: Callable[..., bytes], domain: str) -> None:
    model = onnx.load_model_from_string(make_graph([1.0]))
    model.opset_import.add(domain=domain, version=1)

    with pytest.raises(InvalidInput, match=domain):
        check_graph(model.SerializeToString())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe not a graph"])
def test_bytes_that_are_no_graph_are_refused(shelf: Any, content: bytes) -> None:
    files = shelf.put(1, content=content or b"\n\x00")

    with pytest.raises(InvalidInput):
        load(shelf.artifacts, tree_hash(files), files)


def test_a_graph_of_another_signature_is_refused(shelf: Any, make_graph: Callable[..., bytes]) -> None:
    files = shelf.put(1, content=make_graph([1.0, 2.0]))

    with pytest.raises(InvalidInput, match="the graph takes"):
        load(shelf.artifacts, tree_hash(files), files)


def test_missing_inputs_are_named_and_those_of_no_model_left_aside(shelf: Any) -> None:
    shelf.put(1)
    served = served_by(shelf)
    lacking, extra = infer_request(), infer_request()
    del lacking.inputs[2], lacking.raw_input_contents[2]
    oip.add_doubles(extra, "weather.rain", [0.0, 0.0])

    with pytest.raises(InvalidInput, match=r"missing: load.hour \(FP64\)"):
        answered(read_request(lacking, 10), served)
    assert len(answered(read_request(extra, 10), served).scores) == 2


def test_while_a_canary_is_on_trial_both_arms_score_keyed_rows_and_the_weight_decides_the_answer(shelf: Any) -> None:
    shelf.put(1)
    shelf.put(2, (0.5, 0.5, 0.5))
    keys = [f"flight-{number}" for number in range(400)]
    served = served_by(shelf, canary=2, weight=25)

    scored = answered(read_request(infer_request(400, keys), 1000), served)

    by_canary = np.array([arm is served.canary for arm in scored.arms])
    assert all(np.isfinite(said).all() for said in scored.by_arm.values())
    assert 60 < by_canary.sum() < 140
    assert (scored.scores == np.where(by_canary, scored.by_arm[NEW], scored.by_arm[OLD])).all()


def test_a_row_without_a_key_is_scored_by_its_own_arm_only(shelf: Any) -> None:
    shelf.put(1)
    shelf.put(2)

    scored = answered(read_request(infer_request(), 10), served_by(shelf, canary=2, weight=100))

    assert [arm.deployment.deployment_id for arm in scored.arms] == [NEW, NEW]
    assert np.isnan(scored.by_arm[OLD]).all()


def test_a_version_named_by_the_caller_answers_alone(shelf: Any) -> None:
    shelf.put(1)
    shelf.put(2)
    request = infer_request(keys=["k1", "k2"])
    request.model_version = "2"
    served = served_by(shelf, canary=2, weight=1)

    scored = answered(read_request(request, 10), served)

    assert {arm.deployment.version for arm in scored.arms} == {2}
    assert set(scored.by_arm) == {NEW}
    request.model_version = "3"
    with pytest.raises(Conflict, match=r"version 3 of model late is not served: \[1, 2\] are"):
        answered(read_request(request, 10), served)


def test_where_a_canary_gives_nan_the_one_in_use_answers_and_the_canary_trips(
    shelf: Any, make_graph: Callable[..., bytes]
) -> None:
    shelf.put(1)
    shelf.put(2, content=make_graph((1.0, 0.5, -0.25), nan=True))
    served = served_by(shelf, canary=2, weight=100)

    for _ in range(TRIP_BAD):
        scored = answered(read_request(infer_request(1), 10), served)
        assert scored.arms == (served.in_use,)
        assert np.isfinite(scored.scores).all()

    assert served.arms[NEW].health.trip_reason()
    assert not served.arms[OLD].health.trip_reason()


def test_a_request_that_neither_arm_can_score_says_nothing_of_the_canary(
    shelf: Any, make_graph: Callable[..., bytes]
) -> None:
    for version in (1, 2):
        shelf.put(version, content=make_graph((1.0, 0.5, -0.25), nan=True))
    served = served_by(shelf, canary=2, weight=50)

    for _ in range(TRIP_BAD):
        with pytest.raises(Unavailable, match="no finite score"):
            answered(read_request(infer_request(2, keys=["a", "b"]), 10), served)

    assert not served.arms[NEW].health.trip_reason()
    assert served.arms[OLD].outcomes[False] == 2 * TRIP_BAD


def test_what_a_canary_cannot_read_counts_against_it_and_not_against_the_caller(shelf: Any) -> None:
    features = load_features(shelf)
    shelf.put(2, features=(*features[:2], features[2].model_copy(update={"feature": "minute"})))
    served = served_by(shelf, canary=2, weight=100)

    scored = answered(read_request(infer_request(), 10), served)

    assert scored.arms == (served.in_use, served.in_use)
    assert served.arms[NEW].outcomes[False] == 2


def load_features(shelf: Any) -> tuple[Any, ...]:
    shelf.put(1)
    return tuple(load_version(shelf, 1).manifest.features)


def test_a_model_in_use_that_gives_nan_says_so_to_its_caller(shelf: Any, make_graph: Callable[..., bytes]) -> None:
    shelf.put(1, content=make_graph((1.0, 0.5, -0.25), nan=True))

    with pytest.raises(Unavailable, match="no finite score for row 0"):
        answered(read_request(infer_request(), 10), served_by(shelf))


def test_a_full_buffer_counts_what_it_drops_and_takes_back_what_was_not_told() -> None:
    buffer: Buffer[int] = Buffer(3)
    for entry in range(5):
        buffer.add(entry)

    taken = buffer.take(2)
    buffer.add(9)
    buffer.give_back(taken)

    assert buffer.dropped == 3
    assert buffer.take(9) == [1, 2, 9]
