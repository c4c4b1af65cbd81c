from typing import Any

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.yaml import load_workflow
from millrace.sdk.flows import Flow, Ref, end, flow, task
from millrace.sdk.testing import Environment

YAML = """
name: flights.monthly
timeout_s: 7200
tasks:
  ingest:
    kind: data.ingest
    input: {uri: {$from: /trigger/data/flights/uri}, parts: [1, {$from: /trigger/data/parts, default: 2}]}
  tune:
    kind: training.tune
    needs: [ingest]
    retries: {max_attempts: 5}
    run_timeout_s: 900
    input: {version: {$from: /tasks/ingest/output/version_id}}
  evaluate: {kind: training.evaluate, needs: [tune], input: {model: {$from: /tasks/tune/output}}}
  promote:
    kind: training.promote
    needs: [tune, evaluate]
    when: (outputs.evaluate.verdict == "pass") && (outputs.evaluate.numbers["the auc"] > 0.5)
    input: {model: {$from: /tasks/tune/output/model}}
  tidy: {kind: data.tidy, needs: [promote], run_if: settled, when: status.promote != "succeeded"}
  refuse:
    needs: [evaluate]
    when: outputs.evaluate.verdict != "pass"
    end: {state: refused, reason: {$from: /tasks/evaluate/output/reason, default: ""}}
"""


@task("data.ingest")
def ingest(uri: str, parts: list[int]) -> dict[str, Any]:
    return {"version_id": f"v-{uri}-{parts[1]}"}


@task("training.tune", retries={"max_attempts": 5}, run_timeout_s=900)
def tune(version: str) -> dict[str, Any]:
    return {"model": f"m-{version}"}


@task("training.evaluate")
def evaluate(model: dict[str, Any]) -> dict[str, Any]:
    good = model["model"] == "m-v-good-2"
    return {"verdict": "pass" if good else "fail", "numbers": {"the auc": 0.7}, "reason": "not better"}


promote = task("training.promote")(lambda model: {"promoted": model})
tidy = task("data.tidy")(dict)


def monthly() -> Flow:
    @flow("flights.monthly", timeout_s=7200)
    def traced(trigger: Ref) -> None:
        version = ingest(uri=trigger.data.flights.uri, parts=[1, trigger.data.parts.or_default(2)])
        model = tune(version=version["version_id"])
        gate = evaluate(model=model)
        better = (gate["verdict"] == "pass") & (gate["numbers"]["the auc"] > 0.5)
        promoted = promote.step("promote", when=better)(model=model["model"])
        tidy.step("tidy", after=[promoted], run_if="settled", when=promoted.status != "succeeded")()
        end("refused", name="refuse", when=gate["verdict"] != "pass", reason=gate["reason"].or_default(""))

    return traced


def test_a_traced_flow_is_the_workflow_written_in_yaml() -> None:
    assert monthly().workflow.sha256 == load_workflow(YAML).sha256


def test_a_flow_runs_in_this_process_to_its_end() -> None:
    flow = monthly()
    run = Environment(flow).start(flow, {"flights": {"uri": "good"}})

    assert (run.state, run.cause) == ("succeeded", "")
    assert run.output_of("promote") == {"promoted": "m-v-good-2"}
    assert run.tasks["refuse"].state == "skipped"


def test_a_run_in_this_process_takes_the_other_branch_too() -> None:
    flow = monthly()
    run = Environment(flow).start(flow, {"flights": {"uri": "bad"}})

    assert (run.state, run.cause) == ("refused", "not better")
    assert run.calls_of("promote") == []


def test_retries_wait_on_a_virtual_clock() -> None:
    tries: list[int] = []

    @task("data.flaky", retries={"max_attempts": 3, "backoff_s": 600, "max_backoff_s": 86_400, "jitter": 0})
    def flaky() -> dict[str, Any]:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return {"tries": len(tries)}

    @flow("w")
    def flow_(_: Ref) -> None:
        flaky()

    run = Environment(flow_).start(flow_).finish()

    assert run.state == "succeeded"
    assert run.output_of("flaky") == {"tries": 3}
    assert run.elapsed_s == 600 + 1200


def test_a_python_condition_on_a_value_of_the_future_is_refused() -> None:
    def branches(trigger: Ref) -> None:
        if trigger.data.month == 1:
            tidy()

    with pytest.raises(TypeError, match="known only when the workflow runs"):
        flow("w")(branches)


def test_a_flow_that_cannot_run_is_refused_where_it_is_defined() -> None:
    def badly(_: Ref) -> None:
        tidy.step(when="1 +")()

    with pytest.raises(InvalidDocument, match="does not parse"):
        flow("w")(badly)


def test_two_steps_need_two_names() -> None:
    def twice(_: Ref) -> None:
        tidy.step("a")()
        tidy.step("a")()

    with pytest.raises(ValueError, match="has a step 'a' already"):
        flow("w")(twice)


def test_a_run_under_test_names_the_kinds_that_have_no_body() -> None:
    @flow("w")
    def made(_: Ref) -> None:
        task("data.unknown")()

    with pytest.raises(LookupError, match=r"data\.unknown"):
        Environment(made).start(made)
