from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.parse import parse_workflow
from millrace.core.state import AwaitEvent, CancelRequested, EventCame, RunState, Signalled, Tick, Voted
from millrace.core.waits import MAX_SIGNALS
from simulation import World, started

THEN = {"kind": "data.work", "input": {"x": {"$from": "/tasks/labels/output/n"}}, "needs": ["labels"]}


def waiting(**more: Any) -> World:
    return started(labels={"wait": {"signal": "labels_ready"}, **more}, then=THEN)


def test_a_signal_is_handed_on_by_the_task_that_waits_for_it() -> None:
    world = waiting()
    assert world.run.tasks["labels"].due_at is None, "nobody need look at it before"

    world.tell(Signalled("labels_ready", {"n": 3}))

    assert world.order("then").input == {"x": 3}


def test_a_signal_that_came_before_is_not_waited_for() -> None:
    labels = {"wait": {"signal": "labels_ready"}, "needs": ["first"]}
    world = started(first={"kind": "data.work"}, labels=labels, then=THEN)

    world.tell(Signalled("other", 1), Signalled("labels_ready", {"n": 1}), Signalled("labels_ready", {"n": 2}))
    world.succeed("first")

    assert world.order("then").input == {"x": 1}
    assert world.run.signals == (("other", 1), ("labels_ready", {"n": 2}))


def test_of_two_who_wait_the_one_who_has_waited_longer_gets_the_signal() -> None:
    later = {"wait": {"signal": "go"}, "needs": ["pause"]}
    world = started(b={"wait": {"signal": "go"}}, pause={"wait": {"for_s": 5}}, a=later)
    world.tell(Tick(), after_s=5)

    world.tell(Signalled("go", None))

    assert (world.states()["b"], world.states()["a"]) == ("succeeded", "waiting")


def test_a_signal_that_does_not_come_in_time_fails_its_task() -> None:
    world = waiting(timeout_s=60)

    world.tell(Tick(), after_s=60)

    assert world.run.cause == "task labels failed: Timeout: not done within 60 s in all"


def test_a_run_that_ends_takes_no_signal_and_one_that_goes_on_not_too_many() -> None:
    ended, full = waiting(), started(a={"kind": "data.work"})
    ended.tell(CancelRequested("enough"))

    (refused,) = ended.tell(Signalled("labels_ready", {})).refused
    refusals = full.tell(*[Signalled("x", n) for n in range(MAX_SIGNALS + 1)]).refused

    assert "is cancelled" in refused.reason
    assert len(full.run.signals) == MAX_SIGNALS
    assert [one.reason.partition(" keeps ")[2] for one in refusals] == [
        "1000 signals already that no task has waited for"
    ]


def keyed(key: Any) -> World:
    wait = {"wait": {"event": "labels-arrived", "key": key}, "needs": ["first"]}
    return started(first={"kind": "data.work"}, labels=wait, then=THEN)


def test_a_task_asks_for_the_event_of_its_key_and_hands_it_on_whole() -> None:
    world = keyed({"$from": "/tasks/first/output/job"})
    world.succeed("first", job=7)
    asked = AwaitEvent("labels", world.run.tasks["labels"].task_id, "labels-arrived", "7")
    assert asked in world.decisions[-1].effects

    other = EventCame((("labels", UUID(int=1)), ("first", UUID(int=2))), {"n": 1})
    came = EventCame((*other.tasks, ("labels", asked.task_id)), {"n": 3})
    refused = world.tell(other, came, replace(came, event={"n": 4})).refused

    assert world.order("then").input == {"x": 3}
    assert [one.reason for one in refused] == [
        f"of run {world.run.run_id}, labels, first waits for no event",
        f"of run {world.run.run_id}, labels, first, labels waits for no event",
    ]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"job": {"no": "key"}}, "its key is not text, a number or a boolean"),
        ({"job": "x" * 513}, "its key has 513 characters; at most 512 are read"),
        ({}, "job"),
    ],
)
def test_a_task_whose_key_is_none_fails_and_says_so(output: dict[str, Any], said: str) -> None:
    world = keyed({"$from": "/tasks/first/output/job"})

    world.succeed("first", **output)

    assert said in world.run.cause
    assert world.run.cause.startswith("task labels failed: InvalidWait: ")


def asked(*, limited: bool = False, **more: Any) -> World:
    timeout = {"timeout_s": 3_600} if limited else {}
    return started(
        score={"kind": "data.work"},
        ok={"needs": ["score"], "approve": {"title": {"$from": "/tasks/score/output/said"}, **more}, **timeout},
        deploy={"kind": "data.work", "needs": ["ok"], "when": "outputs.ok.approved"},
    )


def test_what_is_approved_goes_on_with_what_was_said() -> None:
    world = asked(need=2)
    world.succeed("score", said="better by 3%")
    assert (world.run.tasks["ok"].inner or {})["title"] == "better by 3%"

    world.tell(Voted("ok", "ada", approves=True, form={"budget": 3}))
    assert world.states()["ok"] == "waiting"
    world.tell(Voted("ok", "bob", approves=True, comment="fine"))

    assert world.open_orders()[0].name == "deploy"
    votes = world.run.tasks["ok"].output["votes"]
    said = [(vote["by"], vote["form"], vote["comment"]) for vote in votes]
    assert said == [("ada", {"budget": 3}, ""), ("bob", {}, "fine")]


def test_nobody_decides_twice_and_nothing_is_decided_that_does_not_wait() -> None:
    world = asked(need=2)
    world.succeed("score", said="")
    world.tell(Voted("ok", "ada", approves=True))

    decision = world.tell(
        *(Voted(task, who, approves=True) for task, who in [("ok", "ada"), ("score", "b"), ("x", "b")])
    )

    assert [one.reason.partition("run ")[0] for one in decision.refused] == [
        "ada has decided on task ok already",
        "",
        "",
    ]
    assert world.states()["ok"] == "waiting"


@pytest.mark.parametrize(
    ("rejected", "state", "cause"),
    [
        ("refused", RunState.REFUSED, "task ok: bob rejected it: too risky"),
        ("failed", RunState.FAILED, "task ok failed: Rejected: bob rejected it: too risky"),
        ("go_on", RunState.SUCCEEDED, ""),
    ],
)
def test_what_is_rejected_ends_the_run_or_goes_on_without(rejected: str, state: RunState, cause: str) -> None:
    world = asked(need=2, rejected=rejected)
    world.succeed("score", said="")

    world.tell(Voted("ok", "ada", approves=True), Voted("ok", "bob", approves=False, comment="too risky"))

    assert (world.run.state, world.run.cause) == (state, cause)
    assert "deploy" not in [order.name for order in world.orders]


@pytest.mark.parametrize(
    ("expired", "state"),
    [
        ("refused", RunState.REFUSED),
        ("failed", RunState.FAILED),
        ("go_on", RunState.SUCCEEDED),
        ("approve", RunState.RUNNING),
    ],
)
def test_silence_means_what_the_workflow_says(expired: str, state: RunState) -> None:
    world = asked(expired=expired, limited=True)
    world.succeed("score", said="")

    world.tell(Tick(), after_s=3_600)

    assert world.run.state is state
    assert (world.states().get("deploy") == "dispatched") == (expired == "approve")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"wait": {"signal": "a", "for_s": 1}}, "exactly one of `for_s`, `until`, `signal`"),
        ({"approve": {"assignees": ["ada"], "need": 2}}, "need 2 is more than the 1 assignees"),
        ({"approve": {"form": {"n": {"type": "choice"}}}}, "`choices` are for a field of type choice"),
    ],
)
def test_what_can_never_be_decided_is_refused(task: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_workflow({"name": "w", "tasks": {"a": task}})
    assert said in str(caught.value)


def test_a_signal_is_taken_by_what_waits_for_it_while_the_run_ends() -> None:
    last = {"tasks": {"said": {"wait": {"signal": "done"}}}}
    world = started(guard={"try": {"do": {"tasks": {"a": {"kind": "data.work"}}}, "finally": last}})
    world.tell(CancelRequested("enough"))
    world.tell(Tick(), after_s=31)
    assert world.run.state is RunState.ENDING

    world.tell(Signalled("done", None))

    assert world.run.state is RunState.CANCELLED


def test_signals_that_nobody_waits_for_have_room_for_so_much_together() -> None:
    world = started(a={"kind": "data.work"})

    decision = world.tell(Signalled("x", "x" * 700_000), Signalled("x", "x" * 700_000))

    assert len(world.run.signals) == 1
    assert "keeps signals of 1048576 bytes already" in decision.refused[0].reason
