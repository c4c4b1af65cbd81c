"""Caches, deadlines and resources of flows: as they are written, and as they go in one process."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from millrace.core.yaml import load_workflow
from millrace.sdk.flows import Flow, Ref, deadline, flow, foreach, task, wait
from millrace.sdk.local.message import as_message
from millrace.sdk.testing import START, Environment
from millrace.sdk.watching import run_table, task_line
from millrace.sdk.work import attempt

fetch = task("data.fetch", cache={"version": "2", "expires_s": 3600}, start_timeout_s=60)


def cached() -> Flow:
    @flow("cached")
    def traced(trigger: Ref) -> dict[str, Any]:
        return {"rows": fetch(month=trigger.data.month)["rows"]}

    return traced


WRITTEN = """
name: late
deadline: {after_s: 7200, action: cancel}
tasks:
  fetch:
    kind: data.fetch
    cache: {version: "2", expires_s: 3600}
    start_timeout_s: 60
    resources: {cpu: 2, memory: 4Gi}
    deadline: {after_s: 600, action: fail}
  day: {wait: {for_s: 43200}, deadline: {at: {$from: /tasks/fetch/output/by}, action: notify}, needs: [fetch]}
  each:
    needs: [fetch]
    deadline: {at: "2026-01-01T00:00:00+00:00"}
    foreach: {items: [1], do: {tasks: {fit: {kind: data.fit, deadline: {after_s: 5, action: cancel}}}}}
"""


def test_a_flow_says_what_yaml_says_of_caches_deadlines_and_resources() -> None:
    wants = task("data.fetch", cache=fetch._options["cache"], start_timeout_s=60, resources={"cpu": 2, "memory": "4Gi"})

    @flow("late", deadline={"after_s": 7200, "action": "cancel"})
    def traced() -> None:
        got = wants()
        deadline(got, after_s=600, action="fail")
        deadline(wait(43_200, name="day"), at=got["by"])

        @foreach([1], after=[got])
        def each() -> None:
            deadline(task("data.fit")(), after_s=5, action="cancel")

        deadline(each, at=datetime(2026, 1, 1, tzinfo=UTC))

    assert traced.workflow.sha256 == load_workflow(WRITTEN).sha256


def test_a_deadline_of_no_step_here_or_of_no_moment_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="has no step 'elsewhere'"):

        @flow("wrong")
        def traced() -> None:
            outside = wait(1, name="elsewhere")

            @foreach([1], after=[outside])
            def each() -> None:
                wait(1)
                deadline(outside, after_s=1)

    with pytest.raises(ValueError, match="has no offset from UTC"):

        @flow("wrong")
        def other() -> None:
            deadline(wait(1), at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


def test_a_result_is_taken_within_one_environment_and_computed_anew_where_it_is_asked_for() -> None:
    env = Environment(cached())
    env.stub("data.fetch", {"rows": 1}, {"rows": 2}, {"rows": 3})

    rows = [env.start("cached", {"month": 1}).output["rows"] for _ in range(2)]
    anew = env.start("cached", {"month": 1}, refresh=True).output["rows"]
    env.sleep("1h")
    expired = env.start("cached", {"month": 1}).output["rows"]

    assert (rows, anew, expired) == ([1, 1], 2, 3)
    assert len(env.dispatched) == 3


def test_a_result_that_was_taken_is_shown_with_where_it_is_from() -> None:
    env = Environment(cached())
    env.stub("data.fetch", {"rows": 1})
    first, second = env.start("cached", {"month": 1}), env.start("cached", {"month": 1})

    line = task_line(as_message(second).tasks[0])
    assert "from cache: key " in line
    assert f"computed by run {first.run_id} task fetch at " in line


def test_a_run_waits_for_the_one_that_computes_in_the_same_environment() -> None:
    env = Environment(cached())
    env.stub("data.fetch", {"rows": 1}, takes="10m")
    first, second = env.start("cached", {"month": 1}), env.start("cached", {"month": 1})

    assert (second.state, str(second.tasks["fetch"].state)) == ("running", "waiting")
    assert "waits for who computes key " in task_line(as_message(second).tasks[0])
    first.finish()
    assert (second.state, second.output, len(env.dispatched)) == ("succeeded", {"rows": 1}, 1)


def test_a_deadline_fails_what_is_late_on_the_clock_of_a_test() -> None:
    @flow("late")
    def traced() -> None:
        deadline(fetch(month=1), after_s=600, action="fail")

    env = Environment(traced)
    env.stub("data.fetch", {"rows": 1}, takes="1h")
    run = env.start("late").finish()

    assert run.cause == f"task fetch failed: DeadlineMissed: not done by its deadline, {START:%Y-%m-%d} 00:10:00 UTC"
    assert env.now == START + timedelta(minutes=10)


def test_a_deadline_that_is_only_told_lets_a_local_run_go_on() -> None:
    quick = task("data.quick")(lambda: {"cpu": attempt().resources.get("cpu")})  # type: ignore[union-attr]

    @flow("told", deadline={"at": datetime(2020, 1, 1, tzinfo=UTC)})
    def traced() -> dict[str, Any]:
        return {"cpu": quick()["cpu"]}

    run = traced.run_local(quiet=True)

    assert (run.state, run.output) == ("succeeded", {"cpu": None})
    assert run.run.missed_at is not None


def on_the_page(name: str) -> Flow:
    """A flow of docs/workflows.md."""
    page = (Path(__file__).resolve().parents[3] / "docs/workflows.md").read_text()
    for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        names: dict[str, Any] = {}
        exec(text, names)  # noqa: S102 - our own page
        found = [one for one in names.values() if isinstance(one, Flow) and one.workflow.name == name]
        if found:
            return found[0]
    raise AssertionError(f"no flow {name} on the page")


def test_the_cache_of_the_page_takes_a_result_for_another_caller_and_none_of_another_region() -> None:
    env = Environment(on_the_page("months.once"))
    env.stub("data.fetch", {"rows": 1}, {"rows": 2})

    found = [env.start("months.once", {"month": 1, "region": region}).output for region in ("eu", "eu", "us")]

    assert found == [{"rows": 1}, {"rows": 1}, {"rows": 2}]


@pytest.mark.parametrize(
    ("late", "states"),
    [
        ("nothing", {"fetch": "succeeded", "polish": "succeeded", "publish": "succeeded"}),
        ("data.polish", {"fetch": "succeeded", "polish": "cancelled", "publish": "succeeded"}),
        ("data.fetch", {"fetch": "failed", "polish": "skipped", "publish": "skipped"}),
    ],
)
def test_the_deadlines_of_the_page_publish_without_polish_and_not_without_rows(
    late: str, states: dict[str, str]
) -> None:
    env = Environment(on_the_page("report.by.six"))
    for kind in ("data.fetch", "data.polish", "data.publish"):
        env.stub(kind, {}, takes="2h" if kind == late else 0)
    run = env.start("report.by.six", {"by": (START + timedelta(hours=1)).isoformat()}).finish()

    assert {name: str(task.state) for name, task in run.tasks.items()} == states
    assert run.state == ("failed" if late == "data.fetch" else "succeeded")


def test_the_large_values_of_the_page_go_from_function_to_function() -> None:
    run = on_the_page("large.values").run_local({"n": 2_000}, quiet=True)

    assert run.output == {"n": 2_000}
    assert run.tasks["rows"].output["table"].keys() == {"$artifact", "$bytes", "$items"}


def test_work_is_told_what_the_page_says_that_it_needs() -> None:
    env = Environment(on_the_page("fit.on.a.gpu"))
    env.stub("training.fit", lambda: {"needs": dict(attempt().resources)})  # type: ignore[union-attr]
    run = env.start("fit.on.a.gpu")

    assert run.output_of("fit")["needs"] == {"cpu": 4, "memory_bytes": 16 * 1024**3, "gpu": 1, "gpu_type": "a100"}
    assert "needs cpu 4" in "\n".join(
        str(cell) for column in run_table(as_message(run), wide=True).columns for cell in column.cells
    )
