"""Runs that do an earlier one again: what they take over. Rows of complaints are in the names."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.core.items import MAX_STRETCHES, taken_up
from millrace.core.parse import parse_workflow
from millrace.core.paths import parent
from millrace.core.plan import Plan, compile_plan
from millrace.core.rerun import CannotRerun, part_done, taken_over
from millrace.core.state import (
    CANCEL_GRACE_S,
    SET_BY,
    TAKEN_FROM,
    CancelRequested,
    PauseRequested,
    ResultSet,
    ResumeRequested,
    Run,
    RunState,
    Start,
    TaskRun,
    TaskState,
    Tick,
    Voted,
)
from simulation import RUN_ID, World, started

WORK = {"kind": "data.ingest", "retries": {"max_attempts": 1}}
CHAIN: dict[str, Any] = {
    "a": WORK,
    "b": {**WORK, "needs": ["a"], "input": {"x": {"$from": "/tasks/a/output/x"}}},
    "c": {**WORK, "needs": ["b"], "input": {"x": {"$from": "/tasks/b/output/x"}}},
}


def version(**tasks: Any) -> Plan:
    return compile_plan(parse_workflow({"name": "w", "tasks": tasks}))


def again(made: World, start: str = "", plan: Plan | None = None) -> World:
    """Begin the run that does another one again, and return its world."""
    plan = plan or made.plan
    done = {name: items_done(made, name) for name in part_done(made.run, made.plan)}
    tasks = taken_over(made.run, made.plan, plan, start, {name: [*items] for name, items in done.items()})
    world = World(plan, run=Run(UUID(int=8), RunState.PENDING, made.run.trigger, tasks=tasks), now=made.now, ids=1_000)
    world.past = {task.name: task for name in done if name in tasks for task in done[name].values()}
    world.tell(Start())
    return world


def items_done(made: World, name: str) -> dict[int, TaskRun]:
    """The items of a list that succeeded, by their places."""
    every = (made.past | made.run.tasks).values()
    found = [task for task in every if parent(task.name) == name and task.state is TaskState.SUCCEEDED]
    return {(task.inner or {})["index"]: task for task in sorted(found, key=lambda task: (task.inner or {})["index"])}


def orders(made: World) -> list[str]:
    return [order.name for order in made.orders]


def failed_chain() -> World:
    made = started(**CHAIN)
    made.succeed("a", x=1)
    made.succeed("b", x=2)
    made.fail("c")
    assert made.run.state is RunState.FAILED
    return made


def test_only_what_failed_is_done_again_on_what_was_handed_on_m4() -> None:
    new = again(failed_chain())

    assert [(order.name, order.input) for order in new.orders] == [("c", {"x": 2})]
    new.succeed("c")
    assert new.run.state is RunState.SUCCEEDED
    assert new.run.tasks["a"].inner == {TAKEN_FROM: str(RUN_ID)}


def test_only_the_last_task_is_done_again_by_its_fixed_version_m4() -> None:
    fixed = version(**CHAIN | {"c": {**CHAIN["c"], "input": {"x": {"$from": "/tasks/a/output/x"}}}})

    new = again(failed_chain(), plan=fixed)

    assert [(order.name, order.input) for order in new.orders] == [("c", {"x": 1})]


def test_a_task_and_all_that_needs_it_is_done_again() -> None:
    made = started(**CHAIN)
    for name in CHAIN:
        made.succeed(name, x=0)

    new = again(made, "b")
    new.succeed("b", x=5)

    assert [(order.name, order.input) for order in new.orders] == [("b", {"x": 0}), ("c", {"x": 5})]


def test_what_failed_elsewhere_is_done_again_too() -> None:
    made = started(**CHAIN, other=WORK)
    made.succeed("a", x=1)
    made.fail("other")
    made.tell(CancelRequested("", force=True))

    assert sorted(orders(again(made, "c"))) == ["b", "other"]


def test_a_run_that_left_nothing_undone_is_done_again_only_from_a_task() -> None:
    made = started(a=WORK)
    made.succeed("a")

    with pytest.raises(CannotRerun, match="has left nothing undone: name the task"):
        again(made)
    assert orders(again(made, "a")) == ["a"]


@pytest.mark.parametrize("start", ["nothing", "each[0].fit"])
def test_a_start_that_is_no_task_of_the_workflow_itself_is_refused(start: str) -> None:
    made = started(a=WORK, each={"foreach": {"items": [1], "do": {"tasks": {"fit": WORK}}}})
    with pytest.raises(CannotRerun, match=r"has no task .*; from one of: a, each"):
        again(made, start)


def test_a_version_that_does_otherwise_what_would_be_taken_over_is_refused_by_name() -> None:
    other = version(**CHAIN | {"a": {**WORK, "input": {"uri": "file:///y"}}, "new": WORK})

    with pytest.raises(CannotRerun, match=r"does otherwise now what would be taken over: a \(input\); rerun from"):
        again(failed_chain(), plan=other)
    assert orders(again(failed_chain(), "a", plan=other)) == ["a", "new"]


def test_what_does_not_make_a_result_may_differ_in_the_next_version() -> None:
    other = version(**CHAIN | {"a": {**WORK, "queue": "feature", "retries": {"max_attempts": 9}, "timeout_s": 5}})
    assert orders(again(failed_chain(), plan=other)) == ["c"]


def test_a_body_that_differs_is_found_with_its_place_m3() -> None:
    def flow(given: dict[str, Any]) -> dict[str, Any]:
        fit = {**WORK, "input": given}
        return {"each": {"foreach": {"items": [1], "do": {"tasks": {"fit": fit}}}}, "b": {**WORK, "needs": ["each"]}}

    made = started(**flow({}))
    made.succeed("each[0].fit")
    made.fail("b")

    assert orders(again(made)) == ["b"]
    with pytest.raises(CannotRerun, match=r"each \(\[\].fit input\)"):
        again(made, plan=version(**flow({"x": 1})))


def test_a_gate_that_said_no_is_asked_again_by_the_rule_of_the_next_version() -> None:
    def flow(limit: int) -> dict[str, Any]:
        gate = {"needs": ["a"], "gate": {"condition": f"outputs.a.score > {limit}"}}
        return {"a": WORK, "gate": gate, "b": {**WORK, "needs": ["gate"]}}

    made = started(**flow(5))
    made.succeed("a", score=3)
    assert made.run.state is RunState.REFUSED

    assert again(made).run.state is RunState.REFUSED, "the same rule says the same"
    assert orders(again(made, plan=version(**flow(2)))) == ["b"]


def test_an_end_that_was_reached_is_reached_again() -> None:
    made = started(a=WORK, stop={"needs": ["a"], "when": "!outputs.a.ok", "end": {"state": "refused", "reason": "no"}})
    made.succeed("a", ok=False)

    assert orders(again(made, "a")) == ["a"]
    with pytest.raises(CannotRerun, match="left nothing undone"):
        again(made)


def test_what_was_undone_is_done_again() -> None:
    made = started(a={**WORK, "compensate": {"tasks": {"undo": WORK}}}, b={**WORK, "needs": ["a"]})
    made.succeed("a")
    made.fail("b")
    made.succeed("a.compensate.undo")

    assert orders(again(made)) == ["a"]


def test_a_run_does_not_undo_what_it_took_over() -> None:
    made = started(a={**WORK, "compensate": {"tasks": {"undo": WORK}}}, b={**WORK, "needs": ["a"]})
    made.succeed("a")
    made.succeed("b")

    new = again(made, "b")
    new.fail("b")

    assert (orders(new), new.run.state) == (["b"], RunState.FAILED)


def test_what_was_torn_down_is_set_up_again_with_all_that_needs_it() -> None:
    flow = {
        "cluster": {**WORK, "teardown": {"tasks": {"stop": WORK}}},
        "load": {**WORK, "needs": ["cluster"]},
        "fit": {**WORK, "needs": ["load"]},
        "other": WORK,
    }
    made = started(**flow)
    for name in ("cluster", "other", "load"):
        made.succeed(name)
    made.fail("fit")
    made.succeed("cluster.teardown.stop")

    assert orders(again(made)) == ["cluster"]


def test_what_was_torn_down_stays_so_where_nothing_needs_it_again() -> None:
    made = started(cluster={**WORK, "teardown": {"tasks": {"stop": WORK}}}, fit={**WORK, "needs": ["cluster"]}, b=WORK)
    made.succeed("cluster")
    made.succeed("fit")
    made.succeed("cluster.teardown.stop")
    made.fail("b")

    new = again(made)
    new.succeed("b")

    assert (orders(new), new.run.state) == (["b"], RunState.SUCCEEDED)


def test_a_task_with_bodies_that_failed_is_done_again_as_a_whole() -> None:
    made = started(both={"parallel": {"branches": {"a": {"tasks": {"x": WORK}}, "b": {"tasks": {"y": WORK}}}}})
    made.succeed("both.a.x")
    made.fail("both.b.y")

    assert orders(again(made)) == ["both.a.x", "both.b.y"]


def listed(items: Any, **fields: Any) -> dict[str, Any]:
    """A workflow that goes over a list, one after the other, and hands on what each came to."""
    fit = {**WORK, "input": {"n": {"$from": "/item/each"}}}
    body = {"tasks": {"fit": fit}, "output": {"$from": "/tasks/fit/output/y"}}
    each = {"needs": ["a"], "foreach": {"items": items, "concurrency": 1, "do": body}}
    return {"a": WORK, "each": {**each, **fields}, "b": {**WORK, "needs": ["each"]}}


def part_done_list(items: Any = (1, 2, 3, 4), **fields: Any) -> World:
    """A run that has gone over half of a list and failed."""
    made = started(**listed(list(items), **fields))
    made.succeed("a", all=[1, 2, 3, 4])
    made.succeed("each[0].fit", y=10)
    made.succeed("each[1].fit", y=20)
    made.fail("each[2].fit")
    return made


def test_of_a_list_only_the_items_that_did_not_succeed_are_done_again_m3() -> None:
    new = again(part_done_list())
    new.work(lambda order: {"y": 10 * order.input.get("n", 0)})

    assert orders(new) == ["each[2].fit", "each[3].fit", "b"]
    assert new.run.tasks["each"].output == {"total": 4, "succeeded": 4, "failed": 0, "items": [10, 20, 30, 40]}


def test_items_that_failed_where_some_may_are_done_again() -> None:
    made = started(**listed([1, 2, 3], foreach=listed([1, 2, 3])["each"]["foreach"] | {"tolerate": {"count": 1}}))
    made.succeed("a")
    made.fail("each[0].fit")
    made.succeed("each[1].fit", y=20)
    made.fail("each[2].fit")

    new = again(made)
    new.work(lambda order: {"y": 10 * order.input.get("n", 0)})
    assert orders(new) == ["each[0].fit", "each[2].fit", "b"]
    assert new.run.tasks["each"].output["items"] == [10, 20, 30]


def test_a_list_of_which_nothing_is_left_is_done() -> None:
    made = part_done_list()
    tasks = taken_over(made.run, made.plan, made.plan, items={"each": [0, 1, 2, 3]})
    new = World(made.plan, run=Run(UUID(int=8), RunState.PENDING, made.run.trigger, tasks=tasks), ids=1_000)

    new.tell(Start())

    assert orders(new) == ["b"]


def test_a_list_is_gone_over_whole_where_its_items_may_be_others() -> None:
    from_a = {"$from": "/tasks/a/output/all"}
    made = started(**listed(from_a))
    made.succeed("a", all=[1, 2])
    made.succeed("each[0].fit", y=10)
    made.fail("each[1].fit")

    assert orders(again(made)) == ["each[1].fit"], "it is the same list"
    renewed = again(made, "a")
    renewed.succeed("a", all=[5, 6])
    assert orders(renewed) == ["a", "each[0].fit"], "it is made anew"
    assert orders(again(made, "each")) == ["each[0].fit"], "it is asked for"
    other = listed(from_a)
    other["each"]["foreach"]["do"]["tasks"]["fit"] = WORK
    assert orders(again(made, plan=version(**other))) == ["each[0].fit"], "what is done with an item is otherwise now"


def test_a_list_that_is_compensated_as_a_whole_is_done_as_a_whole() -> None:
    made = part_done_list(compensate={"tasks": {"undo": WORK}})

    assert orders(again(made)) == ["each[0].fit"]


def test_a_list_begins_when_the_gate_before_it_lets_it() -> None:
    gate = {"needs": ["a"], "gate": {"condition": "outputs.a.ok"}}
    flow = listed([1, 2]) | {"gate": gate}
    flow["each"]["needs"] = ["gate"]
    made = started(**flow)
    made.succeed("a", ok=True)
    made.succeed("each[0].fit", y=1)
    made.fail("each[1].fit")
    assert orders(again(made)) == ["each[1].fit"]

    closed = version(**flow | {"gate": {**gate, "gate": {"condition": "false"}}})
    refused = again(made, plan=closed)
    assert (refused.run.state, refused.orders) == (RunState.REFUSED, [])


def test_the_limit_of_a_list_counts_anew() -> None:
    made = part_done_list(timeout_s=50)
    new = again(made)
    new.tell(Tick(), after_s=49)
    assert new.run.state is RunState.RUNNING
    new.tell(Tick(), after_s=1)
    new.tell(Tick(), after_s=CANCEL_GRACE_S)
    assert "task each failed: Timeout" in new.run.cause


def test_a_rerun_that_is_paused_goes_on_with_its_list() -> None:
    new = again(part_done_list())
    new.tell(PauseRequested("ada"))
    new.succeed("each[2].fit", y=30)
    new.tell(ResumeRequested("ada"))
    assert orders(new) == ["each[2].fit", "each[3].fit"]


@given(st.integers(0, 60), st.data())
def test_what_is_left_of_a_list_is_all_that_is_not_done(total: int, data: st.DataObject) -> None:
    done = sorted(data.draw(st.sets(st.integers(0, total - 1)))) if total else []

    up = taken_up(total, done)

    assert up is not None
    left = [index for start, end in up["left"] for index in range(start, end)]
    assert sorted([*left, *done]) == list(range(total))
    assert (up["succeeded"], up["total"]) == (len(done), total)


def test_a_list_whose_rest_is_too_scattered_is_done_as_a_whole() -> None:
    total = 2 * MAX_STRETCHES + 4
    assert taken_up(total, range(1, total, 2)) is None


def test_an_approval_is_not_asked_for_again_l1() -> None:
    made = started(ok={"approve": {}}, b={**WORK, "needs": ["ok"]})
    made.tell(Voted("ok", "bob", approves=True))
    made.fail("b")

    new = again(made)
    assert (orders(new), new.run.tasks["ok"].output["votes"][0]["by"]) == (["b"], "bob")


def test_what_was_skipped_is_skipped_and_what_was_skipped_for_a_failure_is_looked_at_again() -> None:
    flow = {
        "a": WORK,
        "never": {**WORK, "needs": ["a"], "when": "outputs.a.big"},
        "b": WORK,
        "after": {**WORK, "needs": ["b"]},
        "tidy": {**WORK, "needs": ["after"], "run_if": "settled"},
    }
    made = started(**flow)
    made.succeed("a", big=False)
    made.fail("b")
    made.succeed("tidy")

    new = again(made)
    assert new.states() == {"a": "succeeded", "never": "skipped", "b": "dispatched"}


def test_a_result_set_by_hand_is_taken_over_with_who_set_it() -> None:
    made = started(**CHAIN)
    made.tell(ResultSet("a", TaskState.SUCCEEDED, "ada: fixed", {"x": 1}))
    made.fail("b")

    new = again(made)

    assert new.run.tasks["a"].inner == {SET_BY: "ada: fixed", TAKEN_FROM: str(RUN_ID)}


def test_a_rerun_of_a_rerun_says_where_the_work_was_done() -> None:
    first = again(failed_chain())
    first.fail("c")
    second = again(first)

    assert second.run.tasks["a"].inner == {TAKEN_FROM: str(RUN_ID)}
    assert second.run.tasks["a"].task_id == first.run.tasks["a"].task_id


def test_what_has_not_ended_when_the_run_did_is_done_again() -> None:
    made = started(a=WORK, b={**WORK, "needs": ["a"]})
    made.succeed("a")
    made.tell(CancelRequested("ada"))
    made.tell(Tick(), after_s=30)

    assert orders(again(made)) == ["b"]
