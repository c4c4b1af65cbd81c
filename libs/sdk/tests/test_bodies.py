import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.yaml import load_workflow
from millrace.runtime.errors import InvalidInput
from millrace.sdk.flows import (
    Catch,
    Flow,
    Node,
    Ref,
    attempt,
    end,
    flow,
    foreach,
    gate,
    loop,
    parallel,
    plan,
    subflow,
    switch,
    task,
    wait,
)
from millrace.sdk.testing import Environment

YAML = """
name: flights.year
timeout_s: 864000
tasks:
  months: {kind: data.months, input: {year: {$from: /trigger/data/year}}}
  some: {needs: [months], gate: {condition: outputs.months.count > 0, reason: no months}}
  each:
    needs: [months]
    foreach:
      items: {$from: /tasks/months/output/all}
      key: /name
      concurrency: 2
      tolerate: {count: 1}
      do:
        tasks:
          fit: {kind: training.fit, input: {month: {$from: /item/each}, year: {$from: /tasks/months/output/year}}}
        output: {score: {$from: /tasks/fit/output/score}}
  refine:
    needs: [each]
    while:
      condition: (index.refine == 0) || (last.refine.loss > 0.2)
      max_iterations: 9
      do:
        tasks:
          step: {kind: training.step, input: {before: {$from: /last/refine/loss, default: 1.0}}}
        output: {$from: /tasks/step/output}
  size:
    needs: [each]
    switch:
      cases:
      - {name: many, when: outputs.each.total > 2, do: {tasks: {big: {kind: data.big}}}}
      default: {tasks: {small: {kind: data.small}}}
  race:
    parallel:
      quorum: 1
      branches:
        a: {tasks: {go_a: {kind: data.go, input: {by: a}}}, output: {$from: /tasks/go_a/output}}
        b: {tasks: {go_b: {kind: data.go, input: {by: b}}}, output: {$from: /tasks/go_b/output}}
  guard:
    needs: [refine]
    try:
      do: {tasks: {deploy: {kind: inference.deploy, input: {loss: {$from: /tasks/refine/output/loss}}}}}
      catch:
      - errors: [InvalidInput]
        when: error.guard.message != "no"
        do:
          tasks: {rollback: {kind: inference.rollback, input: {why: {$from: /error/guard/message}}}}
          output: {rolled_back: true}
      finally: {tasks: {tidy: {kind: data.tidy}}}
  cluster:
    kind: data.start
    teardown: {tasks: {stop: {kind: data.stop, input: {cluster: {$from: /tasks/cluster/output/id}}}}}
  use:
    kind: data.use
    needs: [cluster]
    input: {cluster: {$from: /tasks/cluster/output/id}}
    compensate: {tasks: {undo: {kind: data.undo, input: {used: {$from: /tasks/use/output/used}}}}}
  pause: {needs: [guard], wait: {for_s: 86400}}
  later: {needs: [pause], wait: {until: "2026-01-05T00:00:00+00:00"}}
output: {scores: {$from: /tasks/each/output/items}, race: {$from: /tasks/race/output}}
"""


@task("data.months")
def months(year: int) -> dict[str, Any]:
    return {"all": [{"name": f"{year}-0{n}"} for n in (1, 2, 3)], "count": 3, "year": year}


@task("training.fit")
def fit(month: dict[str, Any], year: int) -> dict[str, Any]:
    if month["name"] == "2013-02":
        raise InvalidInput("no such month")
    return {"score": [month["name"], year]}


@task("training.step")
def step(before: float) -> dict[str, Any]:
    return {"loss": before / 2}


@task("inference.deploy")
def deploy(loss: float) -> dict[str, Any]:
    raise InvalidInput(f"a loss of {loss} is too much")


go = task("data.go")(lambda by: {"by": by})
big, small, tidy = (task(f"data.{name}")(dict) for name in ("big", "small", "tidy"))
start = task("data.start")(lambda: {"id": "c1"})
stop, undo = task("data.stop")(lambda cluster: {"stopped": cluster}), task("data.undo")(lambda used: {"undone": used})
use = task("data.use")(lambda cluster: {"used": cluster})
rollback = task("inference.rollback")(lambda why: {"why": why})


def year() -> Flow:
    @flow("flights.year", timeout_s=864_000)
    def traced(trigger: Ref) -> dict[str, Any]:
        found = months(year=trigger.data.year)
        gate(found["count"] > 0, reason="no months", name="some")

        @foreach(found["all"], key="/name", concurrency=2, tolerate={"count": 1})
        def each(month: Ref) -> dict[str, Any]:
            return {"score": fit(month=month, year=found["year"])["score"]}

        @loop(lambda index, last: (index == 0) | (last.loss > 0.2), max_iterations=9, after=[each])
        def refine(_: Ref, last: Ref) -> Node:
            return step(before=last.loss.or_default(1.0))

        switch(
            {"many": (each["total"] > 2, lambda: ignore(big.step("big")()))},
            lambda: ignore(small.step("small")()),
            name="size",
        )
        race = parallel({by: lambda by=by: go.step(f"go_{by}")(by=by) for by in ("a", "b")}, quorum=1, name="race")
        guard = attempt(
            lambda: ignore(deploy(loss=refine["loss"])),
            catch=[Catch(put_back, ["InvalidInput"], lambda error: error.message != "no")],
            last=lambda: ignore(tidy.step("tidy")()),
            name="guard",
        )
        cluster = start.step("cluster", teardown=lambda made: ignore(stop.step("stop")(cluster=made.id)))()
        use.step("use", compensate=lambda made: ignore(undo.step("undo")(used=made.used)))(cluster=cluster["id"])
        pause = wait(86_400, name="pause", after=[guard])
        wait(until=datetime(2026, 1, 5, tzinfo=UTC), name="later", after=[pause])
        return {"scores": each["items"], "race": race}

    return traced


def put_back(error: Ref) -> dict[str, Any]:
    rollback.step("rollback")(why=error.message)
    return {"rolled_back": True}


def ignore(_: Node) -> None:
    """Call a step and hand nothing on."""


def test_a_flow_with_every_construct_is_the_workflow_written_in_yaml() -> None:
    assert year().workflow.document() == load_workflow(YAML).document()


def test_a_flow_with_every_construct_runs_locally() -> None:
    flow = year()
    run = Environment(flow).start(flow, {"year": 2013}).finish()

    assert (run.state, run.cause) == ("succeeded", "")
    assert run.output["scores"] == [{"score": ["2013-01", 2013]}, None, {"score": ["2013-03", 2013]}]
    assert run.output["race"] in ({"a": {"by": "a"}}, {"b": {"by": "b"}})
    assert run.output_of("refine") == {"loss": 0.125}
    assert run.tasks["guard.catch0.rollback"].output == {"why": "a loss of 0.125 is too much"}
    assert run.output_of("guard") == {"rolled_back": True}
    assert "guard.finally.tidy" in run.tasks
    assert run.output_of("cluster.teardown.stop") == {"stopped": "c1"}
    assert "use.compensate.undo" not in run.tasks
    assert run.elapsed_s == 4 * 86_400


def test_a_flow_starts_another_and_hands_on_what_that_does() -> None:
    @flow("inner")
    def inner(trigger: Ref) -> dict[str, Any]:
        return {"score": fit(month=trigger.data.month, year=2013)["score"]}

    @flow("outer")
    def outer(trigger: Ref) -> dict[str, Any]:
        sub = subflow("inner", {"month": {"name": trigger.data.month}}, name="sub")
        return {"score": sub["score"]}

    environment = Environment(outer, inner)
    run = environment.start(outer, {"month": "2013-03"})

    assert (run.state, run.output) == ("succeeded", {"score": ["2013-03", 2013]})
    assert [one.workflow for one in environment.runs] == ["outer", "inner"]
    assert [call.input for call in environment.runs[1].calls] == [{"month": {"name": "2013-03"}, "year": 2013}]
    with pytest.raises(LookupError, match="no workflow inner"):
        Environment(outer).start(outer, {"month": "2013-03"})


def test_a_step_plans_what_is_done_under_it() -> None:
    @task("training.search", plans=True)
    def search(points: int) -> dict[str, Any]:
        def tries() -> dict[str, Any]:
            scores = [fit.step(f"try{n}")(month={"name": str(n)}, year=n)["score"] for n in range(points)]
            return {"scores": scores}

        return plan(tries)

    @flow("searched")
    def searched(trigger: Ref) -> dict[str, Any]:
        return {"found": search(points=trigger.data.points)["scores"]}

    run = Environment(searched, kinds=[fit]).start(searched, {"points": 2})

    assert run.output == {"found": [["0", 0], ["1", 1]]}
    assert [call.task for call in run.calls] == ["search", "search.plan0.try0", "search.plan0.try1"]


def test_the_python_of_the_page_on_workflows_is_its_yaml() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/workflows.md").read_text()
    written = [load_workflow(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    by_name = {workflow.name: workflow.document() for workflow in written}
    traced: list[Flow] = []
    for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        names: dict[str, Any] = {}
        exec(text, names)  # noqa: S102 - our own page
        traced += [value for value in names.values() if isinstance(value, Flow)]

    assert [flow.workflow.name for flow in traced] == [
        *("flights.month", "fit.on.gpus", "fit.months", "labels.by.batch", "labels.then.people"),
        *("months.once", "report.by.six", "fit.on.a.gpu", "large.values"),
    ]
    assert all(flow.workflow.document() == by_name[flow.workflow.name] for flow in traced)


def test_a_flow_in_this_process_has_as_many_slots_as_it_asks_for() -> None:
    held = task("training.fit", pool="gpu", weight=2)(lambda: {"held": True})

    @flow("w")
    def traced(trigger: Ref) -> dict[str, Any]:
        return {"held": held.step(priority=3, fairness_key=trigger.data.team)()["held"]}

    run = traced.run_local({"team": "research"}, quiet=True)

    assert (run.state, run.output) == ("succeeded", {"held": True})
    assert traced.workflow.document()["tasks"]["fit"] == {
        "kind": "training.fit",
        "pool": "gpu",
        "weight": 2,
        "priority": 3,
        "fairness_key": {"$from": "/trigger/data/team"},
    }


def test_a_body_that_is_refused_names_the_line_that_called_it() -> None:
    with pytest.raises(InvalidDocument) as caught:

        @flow("w")
        def _(trigger: Ref) -> None:
            @foreach(trigger.data.months)
            def each(month: Ref) -> None:
                fit.step("fit", when="outputs.nothing.ok")(month=month, year=1)

    problem = caught.value.problems[0]
    assert problem.field == "tasks.each.foreach.do.tasks.fit.when"
    lines = Path(__file__).read_text().splitlines()
    line = lines.index('                fit.step("fit", when="outputs.nothing.ok")(month=month, year=1)') + 1
    assert problem.message.endswith(f"[{__file__}:{line}]")


def test_a_step_in_a_body_may_end_the_run() -> None:
    @flow("w")
    def traced(trigger: Ref) -> None:
        @foreach(trigger.data.months)
        def each(month: Ref) -> None:
            end("refused", name="stop", when=month.bad == True, reason=month.why)  # noqa: E712 - it builds a condition

    run = Environment(traced).start(traced, {"months": [{"bad": False}, {"bad": True, "why": "drift"}]})

    assert (run.state, run.cause) == ("refused", "drift")


def test_a_moment_without_an_offset_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="has no offset from UTC"):

        @flow("w")
        def _() -> None:
            wait(until=datetime(2026, 1, 5))  # noqa: DTZ001 - what is refused
