import asyncio
import json
import math
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from millrace.contracts import oip
from millrace.contracts.inference import read_prediction_id
from millrace.contracts.rpc.inference.v1 import inference_pb2 as pb
from millrace.contracts.training import tree_hash
from millrace.runtime.testing import until

from services.inference.tests.inference_process import (
    DEMO,
    KNOWN_RATE,
    RIGHT,
    Inference,
    request,
)


async def test_a_model_is_deployed_once_however_often_it_is_ordered_and_answers_as_trained(
    inference: Inference, expect: Callable[..., Any]
) -> None:
    deployed_as = await inference.done("deploy", times=3, model="first", version=1)
    shifted = await inference.done("shift", times=3, deployment_id=deployed_as["deployment_id"], weight=100)

    answer = await inference.ask("first", ["k1", "k2"], hours=[4.0, math.nan])

    assert deployed_as["first"] is True
    assert shifted["generation"] == 1
    right = expect(RIGHT, [[KNOWN_RATE, 1, 4], [KNOWN_RATE, 1, np.nan]])
    assert oip.read_doubles(answer, "score") == pytest.approx(right, abs=1e-6)
    assert (answer.model_version, answer.id) == ("1", "r")
    ids = [one.decode() for one in oip.read_bytes(answer, "prediction_id")]
    assert {str(read_prediction_id(one).deployment_id) for one in ids} == {deployed_as["deployment_id"]}
    logged = (await inference.told.logged(set(ids)))[ids[1]]
    assert logged["features"] == {"carrier_rates.late": 2.0, "weather.wind": 1.0, "load.hour": None}
    assert (logged["request_key"], logged["inputs"]) == ("k2", {"carrier": "UA"})
    assert len(inference.told.of("DeploymentReady", model="first")) == 1
    listed = await inference.stub().ListDeployments(pb.ListDeploymentsRequest(namespace="demo", model="first"))
    assert [(one.version, one.state) for one in listed.deployments] == [(1, "ready")]


async def test_only_what_the_model_takes_is_logged_however_much_a_caller_sends(inference: Inference) -> None:
    await inference.in_use("modest", 1)
    asked = request("modest", ["k1"])
    for number in range(4000):
        oip.add_bytes(asked, f"note-{number}", ["x" * 400])

    answer = await inference.protocol().ModelInfer(asked, metadata=DEMO)

    (who,) = (one.decode() for one in oip.read_bytes(answer, "prediction_id"))
    assert (await inference.told.logged({who}))[who]["inputs"] == {"carrier": "UA"}


async def test_a_deployment_says_what_it_was_made_from(inference: Inference) -> None:
    who = await inference.in_use("made", 1)

    async def reported() -> Any:
        return [e for e in inference.told.of("LineageReported") if f"inference.deployment:{who}" in json.dumps(e)]

    (event,) = await until(reported)
    assert f"training.model:{tree_hash(inference.neighbours.shelf.versions[1])}" in json.dumps(event["event"])


async def test_a_model_says_what_it_takes_and_that_it_is_ready(inference: Inference) -> None:
    await inference.in_use("described", 1)
    stub = inference.protocol()
    await inference.ask("described", ["k"])

    described = await stub.ModelMetadata(oip.ModelMetadataRequest(name="described"), metadata=DEMO)
    ready = [
        (await stub.ModelReady(oip.ModelReadyRequest(name=name, version=version), metadata=DEMO)).ready
        for name, version in (("described", ""), ("described", "1"), ("described", "2"), ("unknown", ""))
    ]

    takes = [(one.name, one.datatype) for one in described.inputs]
    assert takes == [
        ("carrier", "BYTES"),
        ("routing_key", "BYTES"),
        ("weather.wind", "FP64"),
        ("load.hour", "FP64"),
    ]
    assert ready == [True, True, False, False]
    assert (await stub.ServerLive(oip.ServerLiveRequest())).live
    assert (await stub.ServerReady(oip.ServerReadyRequest())).ready
    assert (await stub.ServerMetadata(oip.ServerMetadataRequest())).name == "millrace-inference"


async def test_the_online_table_is_asked_once_for_each_entity_and_moment(inference: Inference) -> None:
    await inference.in_use("looked-up", 1)
    await inference.ask("looked-up", ["k"])
    before = len(inference.neighbours.asked)

    for _ in range(3):
        asked = request("looked-up", [""] * 4)
        asked.raw_input_contents[0] = oip.tensors.join_bytes([b"AA", b"DL", b"AA", b"DL"])
        await inference.protocol().ModelInfer(asked, metadata=DEMO)

    assert inference.neighbours.asked[before:] == [2]


async def test_a_good_canary_goes_to_all_of_the_traffic_and_the_other_retires(inference: Inference) -> None:
    old = await inference.in_use("good", 1)
    new = await inference.on_trial("good", 2, 50)
    answers = [await inference.ask("good", [f"k{n}" for n in range(40)]) for _ in range(2)]
    judging = asyncio.create_task(
        inference.done("judge", deployment_id=new, min_samples=30, timeout_s=60, strict=False)
    )
    canary = pb.GetCanaryRequest(namespace="demo", deployment_id=new)

    async def waiting() -> Any:
        seen = await inference.stub().GetCanary(canary)
        return seen.wanted == 30 and seen.answers == 40

    await until(waiting)
    await inference.label("good", {f"k{n}": float(n % 4 != 0) for n in range(40)}, times=2)
    judged = await judging
    await inference.done("shift", deployment_id=new, weight=100)
    await inference.ask("good", [f"m{n}" for n in range(30)])
    await inference.label("good", {f"m{n}": float(n % 4 != 0) for n in range(30)})
    last = await inference.done("judge", deployment_id=new, min_samples=30, timeout_s=60, strict=True)

    assert judged["verdict"] == last["verdict"] == "pass"
    assert judged["answers"] in range(30, 41)
    assert await inference.route("good") == [(new, 100)]
    sticky = [
        [read_prediction_id(i.decode()).deployment_id for i in oip.read_bytes(a, "prediction_id")] for a in answers
    ]
    assert sticky[0] == sticky[1]
    assert set(sticky[0]) == {UUID(old), UUID(new)}
    seen = await inference.stub().GetCanary(canary)
    assert [(one.verdict, one.weight) for one in seen.verdicts] == [("pass", 50), ("pass", 100)]
    assert seen.wanted == 0
    listed = await inference.stub().ListDeployments(pb.ListDeploymentsRequest(namespace="demo", model="good"))
    assert {one.deployment_id: one.state for one in listed.deployments} == {old: "retired", new: "ready"}


async def test_a_bad_canary_fails_and_rolled_back_it_has_no_traffic(inference: Inference) -> None:
    old = await inference.in_use("bad", 1)
    new = await inference.on_trial("bad", 3, 5)
    keys = [f"k{n}" for n in range(60)]
    answer = await inference.ask("bad", keys, hours=[float(n % 9) for n in range(60)])
    truth = [float(score > 0.5) for score in oip.read_doubles(answer, "score")]
    await inference.label("bad", dict(zip(keys, truth, strict=True)))

    judged = await inference.done("judge", deployment_id=new, min_samples=50, timeout_s=60)
    await inference.done("shift", deployment_id=new, weight=0, reason="judged fail")

    assert judged["verdict"] == "fail"
    assert judged["mean_difference"] > 0.05
    assert await inference.route("bad") == [(old, 100)]
    history = (await inference.stub().GetRoute(pb.GetRouteRequest(namespace="demo", model="bad"))).history
    assert [(past.weight, past.reason) for past in history][:2] == [(100, "judged fail"), (0, "judged fail")]


async def test_without_labels_the_verdict_is_unknown_when_time_is_up(inference: Inference) -> None:
    await inference.in_use("silent", 1)
    new = await inference.on_trial("silent", 2, 5)

    judged = await inference.done("judge", deployment_id=new, min_samples=5, timeout_s=0.5)

    assert (judged["verdict"], judged["answers"]) == ("unknown", 0)


@pytest.fixture(scope="session")
def other_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with `tritonclient` and nothing of ours."""
    folder = tmp_path_factory.mktemp("acceptance") / "venv"
    venv.create(folder)
    python, lock = folder / "bin" / "python", Path(__file__).parent / "acceptance" / "requirements.lock"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", lock], check=True)
    return python


async def test_the_unmodified_tritonclient_works(
    inference: Inference, other_environment: Path, expect: Callable[..., Any]
) -> None:
    who = await inference.in_use("triton", 1)
    token = inference.deployment.authority.token("developer")
    script = Path(__file__).parent / "acceptance" / "client.py"

    process = await asyncio.create_subprocess_exec(
        other_environment, script, inference.process.target, token, "triton", stdout=subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    said = json.loads(printed)

    right = expect(RIGHT, [[KNOWN_RATE, 1, 1], [KNOWN_RATE, 2, 2], [KNOWN_RATE, 3, np.nan]])
    assert said.pop("scores") == pytest.approx(right, abs=1e-6)
    assert {str(read_prediction_id(one).deployment_id) for one in said.pop("prediction_ids")} == {who}
    assert said == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "server": "millrace-inference",
        "takes": ["carrier", "routing_key", "weather.wind", "load.hour"],
        "version": "1",
        "id": "r1",
        "only_scores": True,
        "refused": "StatusCode.INVALID_ARGUMENT model triton: inputs are missing:"
        " weather.wind (FP64), load.hour (FP64)",
    }


async def test_a_prediction_links_to_the_trace_that_deployed_its_model(inference: Inference) -> None:
    who = await inference.in_use("traced", 1)
    answer = await inference.ask("traced", ["k"])
    (text,) = oip.read_bytes(answer, "prediction_id")
    logged = (await inference.told.logged({text.decode()}))[text.decode()]

    async def exported() -> Any:
        spans = {span.name: span for span in inference.spans if span.trace_id.hex() == logged["trace_id"]}
        return spans.get("inference.GRPCInferenceService/ModelInfer")

    span = await until(exported)
    deploying = {one.trace_id for one in inference.spans if one.name == "inference.deploy"}
    assert len(span.links) == 1
    assert span.links[0].trace_id in deploying
    assert span.links[0].trace_id != span.trace_id
    assert who
