"""What workers begin by themselves, and what a decision makes of that."""

from dataclasses import replace
from typing import Any

import pytest
from millrace.core.chains import MAX_LINKS, id_after, is_ahead
from millrace.core.state import (
    CancelAttempt,
    CancelRequested,
    CutChain,
    Dispatch,
    Hole,
    PauseRequested,
    ResultSet,
    ResumeRequested,
    RunState,
    Started,
    Succeeded,
    TaskState,
    Tick,
)
from simulation import World, started

WORK: dict[str, Any] = {"kind": "data.x"}
CHAIN: dict[str, Any] = {
    "a": WORK,
    "b": WORK
    | {"needs": ["a"], "input": {"deep": [{"n": {"$from": "/tasks/a/output/n"}}], "t": {"$from": "/trigger"}}},
    "c": WORK | {"needs": ["b"], "input": {"all": {"$from": "/tasks/a/output"}, "one": 1}},
}


def goes_on(world: World, order: Dispatch, **output: Any) -> Dispatch:
    """Tell that an attempt has succeeded and that its worker has begun the next link; return the order of that."""
    link, *behind = order.chain
    world.tell(Succeeded(order.name, order.task_id, order.attempt, order.token, output, went_on=True))
    return Dispatch(link.name, link.task_id, 1, link.token, link.input, chain=tuple(behind))


def effects(world: World, kind: type) -> list[Any]:
    return [effect for effect in world.decisions[-1].effects if isinstance(effect, kind)]


def test_an_order_has_what_follows_it_with_its_input_as_far_as_that_is_known() -> None:
    world = started(**CHAIN)

    b, c = world.order("a").chain

    assert (b.name, c.name) == ("b", "c")
    assert b.input == {"deep": [{"n": None}], "t": world.run.trigger}
    assert b.holes == (Hole(("deep", 0, "n"), "a", ("n",)),)
    assert c.holes == (Hole(("all",), "a", ()),)
    assert b.token == id_after(world.run.run_id, world.order("a").token)
    assert b.token.version == c.task_id.version == 7
    assert b.token.bytes[:6] == world.order("a").token.bytes[:6], "reports of a chain lie in one partition"


def test_what_a_worker_has_begun_is_under_way_and_is_not_ordered() -> None:
    world = started(**CHAIN)

    b = goes_on(world, world.order("a"), n=1)
    assert world.states() == {"a": "succeeded", "b": "dispatched"}
    assert [order.name for order in world.orders] == ["a"]
    c = goes_on(world, b)
    world.tell(Succeeded("c", c.task_id, 1, c.token, {}))

    assert world.run.state is RunState.SUCCEEDED
    assert [order.name for order in world.orders] == ["a"]


def test_all_reports_of_a_chain_are_decided_on_at_once() -> None:
    world = started(**CHAIN)
    a = world.order("a")
    b, c = a.chain

    world.tell(
        Succeeded("a", a.task_id, 1, a.token, {"n": 1}, went_on=True),
        Succeeded("b", b.task_id, 1, b.token, {}, went_on=True),
        Succeeded("c", c.task_id, 1, c.token, {}),
    )

    assert world.run.state is RunState.SUCCEEDED


def test_what_its_worker_has_not_begun_is_ordered_under_the_id_that_it_has_in_the_chain() -> None:
    world = started(**CHAIN)
    link = world.order("a").chain[0]

    world.succeed("a", n=1)

    assert world.order("b").task_id == link.task_id
    assert world.order("b").token != link.token
    assert world.order("b").input["deep"] == [{"n": 1}]


@pytest.mark.parametrize(
    "other",
    [
        {"when": "true"},
        {"run_if": "settled"},
        {"pool": "p"},
        {"cache": {}},
        {"deadline": {"after_s": 60}},
        {"kind": "training.x"},
        {"queue": "acme"},
    ],
)
def test_what_may_not_begin_or_not_there_is_not_chained(other: dict[str, Any]) -> None:
    world = started(a=WORK, b=WORK | {"needs": ["a"]} | other)

    assert world.order("a").chain == ()


@pytest.mark.parametrize("other", [{"pool": "p"}, {"cache": {}}, {"deadline": {"after_s": 60}}])
def test_nothing_is_chained_to_what_others_wait_for(other: dict[str, Any]) -> None:
    assert started(a=WORK | other, b=WORK | {"needs": ["a"]}).order("a").chain == ()


def test_what_other_tasks_need_or_that_needs_others_is_not_chained() -> None:
    forks = started(a=WORK, b=WORK | {"needs": ["a"]}, c=WORK | {"needs": ["a"]})
    joins = started(a=WORK, b=WORK, c=WORK | {"needs": ["a", "b"]})

    assert [order.chain for order in (*forks.orders, *joins.orders)] == [()] * 3


def test_nothing_is_chained_to_what_may_plan() -> None:
    assert started(a=WORK | {"plans": True}, b=WORK | {"needs": ["a"]}).order("a").chain == ()


def test_a_chain_is_of_so_many_links_and_goes_on_behind_them() -> None:
    names = [f"t{n}" for n in range(MAX_LINKS + 3)]
    world = started(**{name: WORK | {"needs": names[:n][-1:]} for n, name in enumerate(names)})
    order = world.order("t0")
    assert len(order.chain) == MAX_LINKS

    for _ in range(MAX_LINKS):
        order = goes_on(world, order)
    world.tell(Succeeded(order.name, order.task_id, 1, order.token, {}))

    assert world.order(names[-2]).chain[0].name == names[-1]


def test_what_has_no_input_or_too_much_of_it_is_left_to_its_turn() -> None:
    missing = started(a=WORK, b=WORK | {"needs": ["a"], "input": {"x": {"$from": "/trigger/data/x"}}})
    assert missing.order("a").chain == ()

    large = {"x": ["y" * 1000] * 60, "n": {"$from": "/run/id"}}
    world = started(a=WORK, b=WORK | {"needs": ["a"], "input": large}, c=WORK | {"needs": ["b"], "input": large})
    assert [link.name for link in world.order("a").chain] == ["b"]


def test_a_link_is_stopped_whose_attempt_before_it_does_not_count() -> None:
    world = started(a=WORK | {"run_timeout_s": 5, "queue_timeout_s": 5}, b=WORK | {"needs": ["a"]})
    late = world.order("a")
    world.tell(Tick(), after_s=60)

    goes_on(world, late)

    (stopped,) = effects(world, CancelAttempt)
    assert (stopped.name, stopped.task_id, stopped.token) == ("b", late.chain[0].task_id, late.chain[0].token)
    world.tell(Tick(), after_s=60)
    again = world.order("a")
    assert again.attempt == 2
    assert again.chain[0].task_id == late.chain[0].task_id
    assert again.chain[0].token != late.chain[0].token


def test_a_link_is_stopped_in_a_run_that_has_ended() -> None:
    world = started(**CHAIN)
    world.tell(CancelRequested("enough", force=True))

    goes_on(world, world.order("a"))

    assert [stopped.name for stopped in effects(world, CancelAttempt)] == ["b"]
    assert world.run.state is RunState.CANCELLED


def test_a_link_that_was_begun_while_its_run_is_stopped_is_asked_to_stop_and_waited_for() -> None:
    world = started(**CHAIN)
    world.tell(CancelRequested("enough"))

    b = goes_on(world, world.order("a"))

    assert [stopped.token for stopped in effects(world, CancelAttempt)] == [b.token]
    assert world.run.tasks["b"].state is TaskState.CANCELLING
    world.tell(Succeeded("b", b.task_id, 1, b.token, {}))
    assert world.run.state is RunState.CANCELLED


def test_a_pause_cuts_the_chain_and_what_has_begun_meanwhile_goes_on() -> None:
    world = started(**CHAIN)
    a = world.order("a")

    world.tell(PauseRequested("ada"))
    assert [cut.token for cut in effects(world, CutChain)] == [a.token]
    b = goes_on(world, a, n=1)
    assert [cut.token for cut in effects(world, CutChain)] == [b.token]
    world.tell(Succeeded("b", b.task_id, 1, b.token, {}))

    assert world.states() == {"a": "succeeded", "b": "succeeded"}
    world.tell(ResumeRequested("ada"))
    assert world.order("c").attempt == 1


def test_a_success_that_is_told_twice_does_not_stop_what_was_begun_with_it() -> None:
    world = started(**CHAIN)
    a = world.order("a")
    goes_on(world, a, n=1)

    goes_on(world, a, n=1)

    assert effects(world, CancelAttempt) == []
    assert world.states()["b"] == "dispatched"


def test_what_was_set_by_hand_stays_and_what_its_worker_has_begun_is_stopped() -> None:
    world = started(**CHAIN)
    a = world.order("a")
    world.tell(ResultSet("a", TaskState.SUCCEEDED, "ada: by hand", {"n": 7}))

    goes_on(world, a, n=1)

    assert [stopped.token for stopped in effects(world, CancelAttempt)] == [a.chain[0].token]
    assert world.order("b").input["deep"] == [{"n": 7}]
    assert world.order("b").task_id == a.chain[0].task_id, "so that what was begun gives way to it"


def test_what_is_told_of_a_link_before_the_success_that_it_follows_is_known_to_be_ahead() -> None:
    world = started(**CHAIN)
    a = world.order("a")
    b, c = (Started(link.name, link.task_id, 1, link.token) for link in a.chain)
    other = Started("b", a.chain[0].task_id, 1, a.token)

    assert [is_ahead(world.run, world.plan, fact) for fact in (b, c, other)] == [True, True, False]
    goes_on(world, a, n=1)
    assert [is_ahead(world.run, world.plan, fact) for fact in (b, c)] == [False, True]
    world.tell(CancelRequested("enough", force=True))
    assert [is_ahead(world.run, world.plan, fact) for fact in (b, c, replace(c, name="nothing"))] == [False] * 3


def test_the_inputs_of_a_chain_are_not_more_than_an_event_takes() -> None:
    large = {"x": ["y" * 1000] * 40}
    world = started(a=WORK, b=WORK | {"needs": ["a"], "input": large}, c=WORK | {"needs": ["b"], "input": large})
    assert [link.name for link in world.order("a").chain] == ["b"]


def test_holes_count_to_what_a_chain_may_take() -> None:
    many = {"x" * 100: [{"$from": "/tasks/a/output/n"}] * 600}
    assert started(a=WORK, b=WORK | {"needs": ["a"], "input": many}).order("a").chain == ()


def test_what_comes_before_its_success_in_one_batch_is_refused_until_that_is_known() -> None:
    world = started(**CHAIN)
    a = world.order("a")
    early = Succeeded("b", a.chain[0].task_id, 1, a.chain[0].token, {})
    first = Succeeded("a", a.task_id, 1, a.token, {"n": 1}, went_on=True)

    (refused,) = world.tell(early, first).refused

    assert (refused.input, refused.early) == (early, True)


@pytest.mark.parametrize("name", ["", "zzz", "a]", "l[0]", "a.b"])
def test_a_success_of_what_there_is_not_changes_nothing(name: str) -> None:
    world = started(**CHAIN)
    a = world.order("a")

    decision = world.tell(Succeeded(name, a.task_id, 1, a.token, {}, went_on=True))

    assert (decision.effects, [refused.early for refused in decision.refused]) == ((), [False])


def test_a_link_that_fails_is_tried_again_by_an_order() -> None:
    world = started(a=WORK, b=WORK | {"needs": ["a"], "retries": {"max_attempts": 2, "backoff_s": 0}})
    b = goes_on(world, world.order("a"))
    world.orders.append(b)

    world.fail("b")
    world.tell(Tick(), after_s=1)

    assert (world.order("b").attempt, world.order("b").task_id) == (2, b.task_id)
