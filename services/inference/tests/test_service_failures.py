import math
import time
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from millrace.contracts import oip
from millrace.contracts.rpc.inference.v1 import inference_pb2 as pb
from millrace.inference.api.telling import TELL_S
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable

from services.inference.tests.inference_process import (
    DEMO,
    Inference,
    request,
)


async def test_a_model_that_does_not_give_its_golden_scores_is_never_deployed(inference: Inference) -> None:
    ended, event = await inference.order("deploy", {"model": "never", "version": 5})

    assert (ended, event["error"], event["retryable"]) == ("TaskFailed", "InvalidInput", False)
    assert "not served as it was trained" in event["message"]
    listed = await inference.stub().ListDeployments(pb.ListDeploymentsRequest(namespace="demo", model="never"))
    (failed,) = listed.deployments
    assert failed.state == "failed"
    ended, event = await inference.order("shift", {"deployment_id": failed.deployment_id, "weight": 100})
    assert (ended, event["error"]) == ("TaskFailed", "InvalidInput")


#: What it may take from a telling until a reader of the topic has it, on a machine that is busy.
MARGIN_S = 3.0


@pytest.mark.parametrize(
    ("kind", "asked", "error"),
    [
        ("deploy", {"model": "late", "version": 99}, "NotFound"),
        ("deploy", {"model": "late"}, "InvalidInput"),
        ("shift", {"deployment_id": str(UUID(int=4)), "weight": 5}, "NotFound"),
        ("shift", {"deployment_id": str(UUID(int=4)), "weight": 101}, "InvalidInput"),
        ("judge", {"deployment_id": str(UUID(int=4)), "min_samples": 5, "timeout_s": 5}, "NotFound"),
    ],
)
async def test_what_cannot_be_done_fails_with_its_reason(
    inference: Inference, kind: str, asked: dict[str, Any], error: str
) -> None:
    ended, event = await inference.order(kind, asked)

    assert (ended, event["error"]) == ("TaskFailed", error)


async def test_each_refusal_says_what_would_be_right(inference: Inference) -> None:
    await inference.in_use("asked", 1)
    lacking = oip.ModelInferRequest(model_name="asked")
    oip.add_bytes(lacking, "carrier", ["UA"])
    versioned = request("asked", ["k"])
    versioned.model_version = "7"
    infer = inference.protocol().ModelInfer

    with pytest.raises(InvalidInput, match=r"inputs are missing: weather.wind \(FP64\), load.hour \(FP64\)"):
        await infer(lacking, metadata=DEMO)
    with pytest.raises(NotFound, match="model nobody has no deployment with traffic"):
        await infer(request("nobody", ["k"]), metadata=DEMO)
    with pytest.raises(Conflict, match="version 7 of model asked is not served"):
        await infer(versioned, metadata=DEMO)
    with pytest.raises(Denied, match="may not READ in namespace demo"):
        await inference.protocol("bob").ModelInfer(request("asked", ["k"]), metadata=DEMO)
    with pytest.raises(NotFound):
        # Without the metadata it is the caller's only namespace.
        await inference.protocol("bob").ModelInfer(request("asked", ["k"]))
    assert (await inference.protocol().ModelInfer(request("asked", ["k"]))).model_version == "1"


async def test_after_kill_9_the_same_route_answers_at_once(inference: Inference) -> None:
    await inference.in_use("lasting", 1)
    new = await inference.on_trial("lasting", 2, 25)
    keys = [f"k{n}" for n in range(50)]
    before = await inference.ask("lasting", keys)

    inference.process.kill()
    await inference.process.start()
    after = await inference.ask("lasting", keys)

    assert oip.read_doubles(before, "score") == oip.read_doubles(after, "score")
    assert (new, 25) in await inference.route("lasting")


async def test_a_stop_tells_all_that_was_answered(inference: Inference) -> None:
    await inference.in_use("stopped", 1)
    answer = await inference.ask("stopped", [f"k{n}" for n in range(20)])
    ids = {one.decode() for one in oip.read_bytes(answer, "prediction_id")}

    code = inference.process.terminate()
    await inference.process.start()

    assert code == 0
    assert ids <= (await inference.told.logged(ids)).keys()


async def test_kill_9_loses_the_details_of_what_was_answered_since_the_last_telling_and_no_others(
    inference: Inference,
) -> None:
    await inference.in_use("killed", 1)
    began = time.monotonic()
    told = await ids_of(inference, "killed", "told")
    await inference.told.logged(told)
    took_s = time.monotonic() - began

    # The next telling is a second after that one, so that this is answered and not told.
    lost = await ids_of(inference, "killed", "lost")
    inference.process.kill()
    await inference.process.start()
    after = await ids_of(inference, "killed", "after")
    logged = await inference.told.logged(told | after)

    assert took_s < TELL_S + MARGIN_S
    assert not lost & logged.keys()


async def ids_of(inference: Inference, model: str, key: str) -> set[str]:
    """Return the ids of predictions about somebody, once they are answered."""
    return {one.decode() for one in oip.read_bytes(await inference.ask(model, [key]), "prediction_id")}


async def test_while_the_database_is_away_predictions_go_on_and_are_told_later(
    inference: Inference, postgres: Any
) -> None:
    await inference.in_use("steady", 1)
    await inference.ask("steady", ["k"])

    postgres.stop(immediate=True)
    answers = [await inference.ask("steady", [f"k{n}"]) for n in range(3)]
    postgres.start()

    ids = {one.decode() for answer in answers for one in oip.read_bytes(answer, "prediction_id")}
    assert ids <= (await inference.told.logged(ids)).keys()
    await inference.in_use("steady-again", 1)


async def test_a_canary_that_gives_no_numbers_is_tripped_at_once_and_its_callers_notice_nothing(
    inference: Inference,
) -> None:
    old = await inference.in_use("fragile", 1)
    new = await inference.on_trial("fragile", 4, 100)
    asked = request("fragile", [f"k{n}" for n in range(6)], hours=[4.0] * 6)
    asked.raw_input_contents[1] = np.full(6, 1000.0).tobytes()

    answers = [await inference.protocol().ModelInfer(asked, metadata=DEMO) for _ in range(2)]
    judged = await inference.done("judge", deployment_id=new, min_samples=100, timeout_s=60)

    assert {answer.model_version for answer in answers} == {"1"}
    assert all(math.isfinite(score) for answer in answers for score in oip.read_doubles(answer, "score"))
    assert judged["verdict"] == "fail"
    assert "failed or were no finite number" in judged["reason"]
    answer = await inference.stub().GetRoute(pb.GetRouteRequest(namespace="demo", model="fragile"))
    assert [(arm.deployment_id, arm.weight, arm.tripped) for arm in answer.arms] == [(old, 100, False), (new, 0, True)]


async def test_where_the_online_table_is_away_the_caller_is_told(inference: Inference) -> None:
    await inference.in_use("dependent", 1)
    asked = request("dependent", ["k"])
    asked.raw_input_contents[0] = oip.tensors.join_bytes([b"never asked before"])
    inference.neighbours.away = True

    with pytest.raises(Unavailable):
        await inference.protocol().ModelInfer(asked, metadata=DEMO, timeout=1)

    inference.neighbours.away = False


async def test_a_canary_whose_view_cannot_be_read_is_to_blame_and_the_one_in_use_answers(inference: Inference) -> None:
    await inference.in_use("unread", 1)
    new = await inference.on_trial("unread", 6, 100)

    answer = await inference.ask("unread", [f"k{n}" for n in range(6)])
    judged = await inference.done("judge", deployment_id=new, min_samples=100, timeout_s=60)

    assert answer.model_version == "1"
    assert judged["verdict"] == "fail"
