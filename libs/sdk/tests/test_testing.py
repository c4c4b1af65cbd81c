"""Flows under test, as their authors write such tests."""

import asyncio
import math
import time
from typing import Any

import pytest
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound
from millrace.sdk.flows import Flow, Ref, approve, attempt, flow, foreach, subflow, task, wait
from millrace.sdk.testing import START, Environment, Lost, RunFailed, seconds_of
from millrace.sdk.work import progress

ingest, fit, tell = (task(f"data.{name}") for name in ("ingest", "fit", "tell"))
DAY_S = 86_400


def patient() -> Flow:
    flaky = task("data.flaky", retries={"max_attempts": 4, "backoff_s": 3_600, "max_backoff_s": 86_400, "jitter": 0})

    @flow("patient", timeout_s=60 * DAY_S)
    def traced(trigger: Ref) -> dict[str, Any]:
        paused = wait(30 * DAY_S, name="month", after=[ingest(uri=trigger.data.uri)])
        return {"tries": flaky.step(after=[paused])()["tries"]}

    return traced


def decided(need: int = 1, **limits: Any) -> Flow:
    @flow("decided", timeout_s=30 * DAY_S)
    def traced() -> None:
        labels = wait(signal="labels_ready", name="labels")
        form = {"budget": {"type": "number"}}
        ok = approve("go?", assignees=["ada"], role="MANAGE", need=need, form=form, name="ok", after=[labels], **limits)
        ingest.step(after=[ok])(uri=labels["uri"])

    return traced


def many(concurrency: int = 2, **options: Any) -> Flow:
    work = task("data.fit", **options)

    @flow("many")
    def traced(trigger: Ref) -> dict[str, Any]:
        @foreach(trigger.data.items, concurrency=concurrency)
        def each(item: Ref) -> Any:
            return work(item=item)["score"]

        return {"scores": each["items"]}

    return traced


def test_a_flow_that_waits_30_days_and_retries_runs_in_under_a_second() -> None:
    began = time.monotonic()
    flow_ = patient()
    env = Environment(flow_)
    env.stub("data.ingest", {"rows": 3})
    env.stub("data.flaky", *[ConnectionError("away")] * 3, {"tries": 4})

    run = env.start(flow_, {"uri": "file:///x"})
    waits = (run.state, env.now, [call.task for call in env.dispatched])
    env.sleep("29d 23h 59m")
    still = len(env.dispatched)
    run.finish()

    assert waits == ("running", START, ["ingest"])
    assert still == 1
    assert (run.state, run.output) == ("succeeded", {"tries": 4})
    assert run.elapsed_s == 30 * DAY_S + 3_600 + 7_200 + 14_400
    assert [call.attempt for call in run.calls_of("data.flaky")] == [1, 2, 3, 4]
    assert time.monotonic() - began < 1


def test_the_same_test_does_the_same_each_time() -> None:
    def played() -> list[Any]:
        flow_ = many(retries={"max_attempts": 2})
        env = Environment(flow_)
        env.stub("data.fit", {"score": 1}, ConnectionError("away"), {"score": 2}, takes="5m")
        run = env.start(flow_, {"items": [1, 2, 3, 4]}).finish()
        return [env.dispatched, run.run_id, run.output, run.elapsed_s]

    assert played() == played()


def test_work_that_takes_time_is_under_way_with_as_much_else_as_the_flow_allows() -> None:
    flow_ = many(concurrency=2)
    env = Environment(flow_)
    env.stub("data.fit", lambda item: {"score": item * 10}, takes="30m")

    run = env.start(flow_, {"items": [1, 2, 3, 4]})
    begun = len(env.dispatched)
    env.sleep("30m")

    assert (begun, len(env.dispatched)) == (2, 4)
    assert run.finish().output == {"scores": [10, 20, 30, 40]}
    assert run.elapsed_s == 2 * 1_800


def test_work_that_is_alive_is_not_taken_for_dead_however_long_it_takes() -> None:
    flow_ = many(run_timeout_s=8 * 3_600, heartbeat_timeout_s=30)
    env = Environment(flow_)
    env.stub("data.fit", {"score": 1}, takes="7h")

    assert env.start(flow_, {"items": [1]}).finish().elapsed_s == 7 * 3_600


def test_work_that_never_ends_runs_into_its_timeout() -> None:
    flow_ = many(run_timeout_s=600, retries={"max_attempts": 2, "backoff_s": 60, "jitter": 0})
    env = Environment(flow_)
    env.stub("data.fit", {"score": 1}, takes=math.inf)

    run = env.start(flow_, {"items": [1]}).finish()

    assert run.state == "failed"
    assert "RunTimeout: not finished within 600 s" in run.cause
    assert run.elapsed_s == 600 + 60 + 600


def test_a_lost_worker_costs_none_of_the_attempts_that_work_has() -> None:
    flow_ = many(retries={"max_attempts": 1, "lost": 2})
    env = Environment(flow_)
    env.stub("data.fit", Lost(), Lost(), {"score": 1})

    run = env.start(flow_, {"items": [1]}).finish()

    assert (run.state, len(run.calls)) == ("succeeded", 3)


def test_an_invalid_input_is_not_tried_again_and_is_what_the_failure_comes_from() -> None:
    flow_ = many()
    env = Environment(flow_)
    env.stub("data.fit", InvalidInput("no such item"))

    run = env.start(flow_, {"items": [1]}).finish()

    assert len(run.calls) == 1
    with pytest.raises(RunFailed, match="many failed: task each failed") as caught:
        run.checked()
    assert str(caught.value.__cause__) == "no such item"


def test_a_stand_in_for_one_task_leaves_the_others_of_its_kind() -> None:
    flow_ = many()
    env = Environment(flow_)
    env.stub("data.fit", {"score": 0})
    env.stub("each[1].fit", {"score": 1})

    assert env.start(flow_, {"items": ["a", "b", "c"]}).output == {"scores": [0, 1, 0]}


def test_functions_are_called_with_copies_and_may_be_coroutines() -> None:
    @task("data.fit")
    async def fits(item: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        item["seen"] = True
        progress(0.5, "half")
        return {"score": (1, 2)}

    @flow("copies")
    def copies(trigger: Ref) -> dict[str, Any]:
        first = fits.step("first")(item=trigger.data.item)
        return {"score": fits.step("second", after=[first])(item=trigger.data.item)["score"]}

    run = Environment(copies).start(copies, {"item": {}})

    assert run.output == {"score": [1, 2]}
    assert [call.input for call in run.calls] == [{"item": {}}, {"item": {}}]


async def test_coroutines_are_done_in_a_test_that_is_one_too() -> None:
    @task("data.fit")
    async def fits(item: int) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"score": item}

    @flow("awaited")
    def awaited(trigger: Ref) -> dict[str, Any]:
        return {"score": fits(item=trigger.data.item)["score"]}

    assert Environment(awaited).start(awaited, {"item": 3}).output == {"score": 3}


@pytest.mark.parametrize(
    ("returned", "words"),
    [([1], r"returned list; a task hands on a dict"), ({"x": {1}}, "what is no JSON"), ({"x": math.nan}, "no JSON")],
)
def test_what_cannot_be_handed_on_fails_the_task_at_once(returned: Any, words: str) -> None:
    flow_ = many()
    env = Environment(flow_)
    env.stub("data.fit", lambda **_: returned)

    run = env.start(flow_, {"items": [1]}).finish()

    assert (run.state, len(run.calls)) == ("failed", 1)
    with pytest.raises(RunFailed, match=words):
        run.checked()


def test_a_function_that_does_not_take_its_input_fails_at_once_and_says_which_line() -> None:
    @task("data.fit")
    def fits(month: str) -> None:
        pass

    @flow("misfit")
    def misfit() -> None:
        fits(item=1)

    run = Environment(misfit).start(misfit)

    assert len(run.calls) == 1
    assert "fits(): missing a required argument: 'month'; its input has item [" in run.cause
    assert f"{__file__}:" in run.cause


def test_people_signal_and_approve_as_they_may() -> None:
    flow_ = decided(need=2)
    env = Environment(flow_)
    env.stub("data.ingest", {})
    run = env.start(flow_, by="bob")

    with pytest.raises(NotFound, match="no task 'ok' waits to be decided; waiting are labels"):
        run.approve("ok")
    run.signal("labels_ready", {"uri": "file:///labels"})
    assert run.waiting == ["ok"]
    with pytest.raises(Denied, match="bob started the run"):
        run.approve("ok", by="bob", form={"budget": 1})
    with pytest.raises(Denied, match="that is for ada or who may MANAGE"):
        run.approve("ok", by="eve", role="EDIT", form={"budget": 1})
    with pytest.raises(InvalidInput, match=r"form\.budget: is missing; it is a number"):
        run.approve("ok", by="ada")
    run.approve("ok", by="ada", role="", form={"budget": 1})
    with pytest.raises(Conflict, match="ada has decided on task ok already"):
        run.approve("ok", by="ada", form={"budget": 1})
    env.sleep("20d")
    assert run.state == "running"
    run.approve("ok", by="carl", form={"budget": 2})

    assert run.state == "succeeded"
    assert [call.input for call in run.calls] == [{"uri": "file:///labels"}]
    assert [vote["by"] for vote in run.output_of("ok")["votes"]] == ["ada", "carl"]


def test_an_event_goes_to_the_task_that_waits_under_its_key() -> None:
    @flow("waits")
    def waits(trigger: Ref) -> dict[str, Any]:
        return {"uri": wait(event="jobs", key=trigger.data.job, name="job", timeout_s=60)["data"]["uri"]}

    env = Environment(waits)
    run, late = env.start(waits, {"job": 7}), env.start(waits, {"job": 8})

    with pytest.raises(NotFound, match="no task waits for an event of jobs under key '8'; those that wait are"):
        run.event("jobs", {"uri": "x"}, key="8")
    run.event("jobs", {"uri": "file:///7"}, key="7")
    env.sleep("60s")

    assert (run.state, run.output) == ("succeeded", {"uri": "file:///7"})
    assert late.cause == "task job failed: Timeout: not done within 60 s in all"


def test_what_is_rejected_or_decided_by_nobody_ends_the_run() -> None:
    flow_ = decided(timeout_s=7 * DAY_S)
    env = Environment(flow_)
    env.stub("data.ingest", {})
    rejected, expired = (env.start(flow_) for _ in range(2))
    for run in (rejected, expired):
        run.signal("labels_ready")

    rejected.reject("ok", by="ada", comment="too dear")
    env.sleep("8d")

    assert (rejected.state, rejected.cause) == ("refused", "task ok: ada rejected it: too dear")
    assert (expired.state, expired.elapsed_s) == ("failed", 7 * DAY_S)
    assert env.dispatched == []
    with pytest.raises(Conflict):
        rejected.cancel()


def test_a_cancelled_run_stops_its_work_and_puts_things_in_order() -> None:
    def slow() -> None:
        fit.step("slow")()

    def told() -> None:
        tell.step("told")()

    @flow("undone")
    def undone() -> None:
        attempt(slow, last=told, name="guard")

    env = Environment(undone)
    env.stub("data.fit", takes="1h")
    env.stub("data.tell")
    run = env.start(undone)

    run.cancel("not today")

    assert (run.state, run.cause, run.elapsed_s) == ("cancelled", "not today", 0.0)
    assert [call.task for call in env.dispatched] == ["guard.do.slow", "guard.finally.told"]
    assert not env.skip(), "nothing is left to happen"


def test_work_that_is_no_longer_wanted_before_it_began_is_not_done() -> None:
    flow_ = many(concurrency=10)
    env = Environment(flow_)
    env.stub("data.fit", InvalidInput("no"))

    run = env.start(flow_, {"items": list(range(10))})

    assert run.state == "failed"
    assert len(env.dispatched) == 1


@pytest.mark.parametrize(("on_stop", "left"), [("cancel", "cancelled"), ("abandon", "succeeded")])
def test_a_run_that_a_step_has_started_ends_with_it_or_goes_on_by_itself(on_stop: Any, left: str) -> None:
    @flow("inner", timeout_s=2 * DAY_S)
    def inner() -> None:
        wait(DAY_S)

    @flow("outer")
    def outer() -> None:
        subflow("inner", on_stop=on_stop, name="sub")

    env = Environment(outer, inner)
    run = env.start(outer)
    run.cancel()
    env.sleep("2d")

    assert [one.state for one in env.runs] == ["cancelled", left]


def test_runs_that_start_one_another_do_so_as_deep_as_in_control_and_no_deeper() -> None:
    @flow("again")
    def again(trigger: Ref) -> None:
        subflow("again", {"from": trigger.source}, name="sub")

    env = Environment(again)
    run = env.start(again)

    assert run.state == "failed"
    assert len(env.runs) == 9
    assert "runs start one another more than 8 deep" in env.runs[-1].cause
    assert env.runs[1].run.trigger["type"] == "subflow"


def test_thousands_of_items_are_done_and_told_in_order() -> None:
    flow_ = many(concurrency=20)
    env = Environment(flow_)
    env.stub("data.fit", lambda item: {"score": item})

    run = env.start(flow_, {"items": list(range(2_000))}).finish()

    assert run.output == {"scores": list(range(2_000))}


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * DAY_S), ("1h 30m", 5_400), ("500ms", 0.5), ("1.5s", 1.5)])
def test_a_duration_is_written_with_its_units(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "soon", "3 months", "-1d"])
def test_what_is_no_duration_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="write such as '30d'"):
        seconds_of(text)
