import copy
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from millrace.core.decide import decide
from millrace.core.parse import parse_workflow
from millrace.core.plan import compile_plan
from millrace.core.state import Collect, Dispatch, ResumeRequested, RunEnded, Start, Tick
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


@MANY
@given(workflows(), st.data())
def test_every_run_ends_by_time_alone_whatever_has_happened_to_it(
    document: dict[str, Any], data: st.DataObject
) -> None:
    world = play(document, data)

    for _ in range(500):
        due = world.next_due()
        if due is None:
            break
        before = world.run
        check(world, before, world.tell(Tick(), after_s=max(0.0, (due - world.now).total_seconds())))

    assert world.run.state.ended
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
    twin = copy.copy(world)
    twin.past, twin.decisions = dict(world.past), []

    world.tell(*inputs)
    for told in inputs:
        twin.tell(told)

    # Outputs that are collected are told between inputs, or after all of a batch.
    assume(not any(isinstance(e, Collect) for decision in twin.decisions for e in decision.effects))
    assert twin.run == world.run
