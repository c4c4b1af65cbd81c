from typing import Any

import pytest
from millrace.core.planning import MAX_PLANNED_TASKS
from millrace.core.state import CancelAttempt, CancelRequested, Failure, RunState, Tick
from simulation import World, started

WRONG = Failure("ValueError", "no", retryable=False)


def work(**more: Any) -> dict[str, Any]:
    return {"kind": "data.work", "retries": {"max_attempts": 1}, **more}


def planning(**more: Any) -> World:
    ask = work(plans=True, **more)
    then = work(needs=["ask"], input={"best": {"$from": "/tasks/ask/output/best", "default": None}})
    return started(first=work(), ask={**ask, "needs": ["first"]}, then=then)


def planned(world: World, **plan: Any) -> World:
    world.succeed("first", rows=7)
    world.succeed("ask", **{"$plan": plan})
    return world


TWO: dict[str, Any] = {
    "tasks": {
        "a": work(input={"rows": {"$from": "/tasks/first/output/rows"}}),
        "b": work(needs=["a"], input={"x": {"$from": "/tasks/a/output/x"}}),
    },
    "output": {"best": {"$from": "/tasks/b/output/y"}},
}


def test_a_plan_is_visible_before_it_runs_sees_what_its_task_did_and_hands_on_its_output() -> None:
    world = planned(planning(), **TWO)

    assert world.plan.block("ask.plan0").names == ("a", "b")
    assert world.order("ask.plan0.a").input == {"rows": 7}
    world.succeed("ask.plan0.a", x=1)
    world.succeed("ask.plan0.b", y=2)
    assert world.order("then").input == {"best": 2}
    world.succeed("then")
    assert world.run.state is RunState.SUCCEEDED


def test_a_task_that_plans_may_as_well_hand_on_a_result() -> None:
    world = planning()
    world.succeed("first")
    world.succeed("ask", best=1)

    assert world.order("then").input == {"best": 1}


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"tasks": {"a": {"kind": "nothing"}}}, "tasks.ask.planned.plan0.tasks.a.kind: String should match"),
        ({"tasks": {"first": work()}}, "a task around it has this name already"),
        (
            {"tasks": {"a": work(input={"x": {"$from": "/tasks/then/output"}})}},
            "'then' is not settled before 'a' starts",
        ),
        ({"tasks": {}}, "planned.plan0.tasks: Dictionary should have at least 1 item"),
        ({"tasks": {f"t{n}": work() for n in range(MAX_PLANNED_TASKS)}}, f"at most {MAX_PLANNED_TASKS} are allowed"),
        ({}, "planned.plan0.tasks: Field required"),
    ],
)
def test_a_plan_that_cannot_run_fails_its_task_and_says_why(plan: dict[str, Any], said: str) -> None:
    world = planned(planning(), **plan)

    assert world.run.cause.startswith("task ask failed: InvalidPlan: ")
    assert said in world.run.cause


def test_plans_are_made_within_plans() -> None:
    world = planned(planning(), tasks={"more": work(plans=True)}, output={"best": {"$from": "/tasks/more/output/n"}})

    world.succeed("ask.plan0.more", **{"$plan": {"tasks": {"c": work()}, "output": {"$from": "/tasks/c/output"}}})
    world.succeed("ask.plan0.more.plan0.c", n=3)

    assert world.order("then").input == {"best": 3}


def test_each_item_and_iteration_plans_for_itself() -> None:
    do = {"tasks": {"ask": work(plans=True)}, "output": {"$from": "/tasks/ask/output/n"}}
    world = started({"$from": "/tasks/each/output/items"}, each={"foreach": {"items": [0, 1], "do": do}})
    for number in (1, 0):
        plan = {"tasks": {f"p{number}": work()}, "output": {"$from": f"/tasks/p{number}/output"}}
        world.succeed(f"each[{number}].ask", **{"$plan": plan})
    world.work(lambda order: {"n": order.name})

    assert world.run.output == ["each[0].ask.plan1.p0", "each[1].ask.plan0.p1"]


def test_what_was_planned_is_stopped_and_fails_like_all_else() -> None:
    cancelled, failed = planned(planning(), **TWO), planned(planning(), **TWO)

    decision = cancelled.tell(CancelRequested("enough"))
    cancelled.tell(Tick(), after_s=31)
    failed.fail("ask.plan0.a", WRONG)

    assert [e.name for e in decision.effects if isinstance(e, CancelAttempt)] == ["ask.plan0.a"]
    assert cancelled.run.state is RunState.CANCELLED
    assert failed.run.cause == "task ask failed: ValueError: no (task ask.plan0.a)"


def test_the_time_of_a_task_that_plans_is_the_time_of_all_of_it() -> None:
    world = planned(planning(timeout_s=60), **TWO)

    world.tell(Tick(), after_s=60)
    world.tell(Tick(), after_s=31)

    assert world.run.cause == "task ask failed: Timeout: not done within 60 s in all"
