import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from millrace.core.decide import decide
from millrace.core.parse import parse_workflow
from millrace.core.paths import parent, scopes_around
from millrace.core.plan import Plan, compile_plan
from millrace.core.rerun import CannotRerun, part_done, taken_over
from millrace.core.state import (
    TASK_OPEN,
    AskSlots,
    Collect,
    Dispatch,
    PauseRequested,
    ResumeRequested,
    Run,
    RunEnded,
    RunState,
    Start,
    Succeeded,
    TaskRun,
    TaskState,
    Tick,
)
from simulation import World, check, schedules, workflows

MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def play(document: dict[str, Any], data: st.DataObject, rounds: int = 12) -> World:
    """Start a run and let anything happen to it, checking every decision."""
    world = World(compile_plan(parse_workflow(document)))
    world.tell(Start())
    for _ in range(data.draw(st.integers(0, rounds))):
        inputs = data.draw(schedules(world.orders))
        before, kept = world.run, copy.deepcopy(world.run)
        decision = world.tell(*inputs, after_s=data.draw(st.sampled_from([0, 0.5, 3, 60])))
        assert before == kept, "a decision leaves its arguments alone"
        check(world, before, decision)
    return world


def twin_of(world: World) -> World:
    """Return the same once more, with a cache of its own."""
    twin = copy.copy(world)
    twin.past, twin.decisions, twin.orders = dict(world.past), [], []
    twin.results, twin.worlds = copy.deepcopy(world.results), {world.run.run_id: twin}
    return twin


@MANY
@given(workflows(), st.data())
def test_r6_and_r8_every_run_ends_by_time_alone_whatever_has_happened_to_it(
    document: dict[str, Any], data: st.DataObject
) -> None:
    world = ended(play(document, data))

    assert world.run.state == world.run.outcome
    ends = [effect for decision in world.decisions for effect in decision.effects if isinstance(effect, RunEnded)]
    assert len(ends) == 1


@MANY
@given(workflows(), st.data())
def test_an_attempt_is_ordered_once_and_accepts_one_result(document: dict[str, Any], data: st.DataObject) -> None:
    world = play(document, data)

    ordered = Counter((order.name, order.attempt) for order in world.orders)
    assert set(ordered.values()) <= {1}
    assert len({order.token for order in world.orders}) == len(world.orders)


@MANY
@given(workflows(), st.data())
def test_repeating_what_was_told_changes_nothing(document: dict[str, Any], data: st.DataObject) -> None:
    world = play(document, data)
    inputs = [told for told in data.draw(schedules(world.orders)) if not isinstance(told, Tick | ResumeRequested)]

    once = world.tell(*inputs)
    # repeated at the same time, facts that settle are stale; heartbeats say the same thing again
    again = decide(once.run, world.plan, inputs, world.now, world.new_id)

    assert again.run == once.run
    assert not [effect for effect in again.effects if isinstance(effect, Dispatch | RunEnded)]


@MANY
@given(workflows(), st.data())
def test_one_batch_or_one_at_a_time_comes_to_the_same(document: dict[str, Any], data: st.DataObject) -> None:
    world = play(document, data, rounds=4)
    inputs = data.draw(schedules(world.orders))
    twin = twin_of(world)

    world.tell(*inputs)
    for told in inputs:
        twin.tell(told)

    # Outputs that are collected, and slots that are had, are told between inputs, or after all of a batch.
    assume(not any(isinstance(e, Collect | AskSlots) for decision in twin.decisions for e in decision.effects))
    assert twin.run == world.run


@MANY
@given(workflows(), st.data())
def test_results_that_come_while_a_run_is_paused_lead_to_the_same(
    document: dict[str, Any], data: st.DataObject
) -> None:
    # With a quorum, what comes first decides whether the others still count.
    assume(not any(step.task.parallel and step.task.parallel.quorum for step in compiled(document).steps.values()))
    world = play(document, data, rounds=4)
    assume(world.run.state is RunState.RUNNING)
    twin = twin_of(world)
    told = [Succeeded(o.name, o.task_id, o.attempt, o.token, {"ok": True, "x": 1}) for o in world.open_orders()]

    for one in told:
        world.tell(one)
    assume(world.run.state in {RunState.RUNNING, RunState.SUCCEEDED})
    twin.tell(PauseRequested("ada"))
    for one in told:
        twin.tell(one)
    twin.tell(ResumeRequested("ada"))

    assert twin.run.state == world.run.state
    assert twin.ended() == world.ended()


def compiled(document: dict[str, Any]) -> Plan:
    return compile_plan(parse_workflow(document))


@MANY
@given(workflows(), st.data())
def test_a_run_that_is_done_again_does_not_do_what_it_took_over_and_ends(
    document: dict[str, Any], data: st.DataObject
) -> None:
    first = ended(play(document, data))
    start = data.draw(st.sampled_from(["", *document["tasks"]]))
    plan = compile_plan(parse_workflow(document))
    every = first.past | first.run.tasks
    items = {name: items_done(every, name) for name in part_done(first.run, plan)}
    try:
        taken = taken_over(first.run, plan, plan, start, {name: [*done] for name, done in items.items()})
    except CannotRerun:
        assume(False)
    second = World(plan, run=Run(UUID(int=8), RunState.PENDING, first.run.trigger, tasks=dict(taken)), now=first.now)
    second.ids = first.ids
    second.past = {task.name: task for name in items if name in taken for task in items[name].values()}
    done = {name for name, task in taken.items() if task.state not in TASK_OPEN} | set(second.past)

    check(second, second.run, second.tell(Start()))
    for _ in range(data.draw(st.integers(0, 8))):
        before = second.run
        check(second, before, second.tell(*data.draw(schedules(second.orders)), after_s=1))
    ended(second)

    assert not [order.name for order in second.orders if done & {order.name, *scopes_around(parent(order.name))}]
    assert {name: task.output for name, task in taken.items() if name in done} == {
        name: second.run.tasks[name].output for name in done if name in taken
    }


def ended(world: World) -> World:
    """Let time pass until a run has ended."""
    for _ in range(500):
        due = world.next_due()
        if due is None:
            break
        before = world.run
        check(world, before, world.tell(Tick(), after_s=max(0.0, (due - world.now).total_seconds())))
    assert world.run.state.ended
    return world


def items_done(every: Mapping[str, TaskRun], name: str) -> dict[int, TaskRun]:
    """The items of a list that succeeded, by their places."""
    found = [task for path, task in every.items() if path.endswith("]") and parent(path) == name]
    done = [task for task in found if task.state is TaskState.SUCCEEDED]
    return {(task.inner or {})["index"]: task for task in sorted(done, key=lambda task: (task.inner or {})["index"])}
