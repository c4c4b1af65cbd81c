"""Tasks that take slots of a pool, in a run."""

from typing import Any
from uuid import UUID

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.parse import parse_workflow
from millrace.core.state import (
    TICKET,
    Admitted,
    AskSlots,
    CancelRequested,
    Decision,
    FreeSlots,
    PauseRequested,
    ResumeRequested,
    Start,
    Tick,
)
from simulation import World, pending, world

FIT: dict[str, Any] = {"kind": "training.fit", "pool": "gpu", "weight": 2, "retries": {"max_attempts": 1}}


def waiting(data: Any = None, **task: Any) -> World:
    """A run whose task waits for slots, or has failed to."""
    made = world(fit={**FIT, **task}, after={"kind": "data.report", "needs": ["fit"]})
    made.slots = False
    made.run = pending({"data": data})
    made.tell(Start())
    return made


def asked(decision: Decision) -> list[AskSlots]:
    return [effect for effect in decision.effects if isinstance(effect, AskSlots)]


def freed(decision: Decision) -> list[UUID]:
    return [effect.ticket for effect in decision.effects if isinstance(effect, FreeSlots)]


def test_a_task_is_dispatched_when_it_has_its_slots_and_gives_them_back_when_it_ends() -> None:
    run = waiting({"team": "research"}, fairness_key={"$from": "/trigger/data/team"}, priority=7)
    (ask,) = asked(run.decisions[-1])
    before = (run.states(), list(run.orders))

    run.tell(Admitted("fit", ask.ticket))
    ended = run.succeed("fit")

    assert (ask.pool, ask.weight, ask.priority, ask.fairness_key) == ("gpu", 2, 7, "research")
    assert before == ({"fit": "queued"}, [])
    assert [order.name for order in run.orders] == ["fit", "after"]
    assert freed(ended) == [ask.ticket]
    assert TICKET not in (run.run.tasks["fit"].inner or {})


def test_r7_no_time_in_the_queue_goes_on_while_a_task_waits_for_its_slots() -> None:
    run = waiting(queue_timeout_s=1, run_timeout_s=1)

    run.tell(Tick(), after_s=3_600)

    assert run.states() == {"fit": "queued"}
    assert run.run.tasks["fit"].due_at is None


def test_a_task_that_has_waited_for_all_its_time_fails_and_gives_up_its_place() -> None:
    run = waiting(timeout_s=60)

    decision = run.tell(Tick(), after_s=60)

    assert run.run.cause == "task fit failed: Timeout: not done within 60 s in all"
    assert len(freed(decision)) == 1


def test_slots_that_were_given_up_are_refused_and_those_of_another_task_too() -> None:
    run = waiting()
    (ask,) = asked(run.decisions[-1])
    run.tell(PauseRequested("ada"))
    while_paused = run.tell(Admitted("fit", ask.ticket))
    (again,) = asked(run.tell(ResumeRequested("ada")))

    late = run.tell(Admitted("fit", ask.ticket))
    unknown = run.tell(Admitted("after", again.ticket))
    run.tell(Admitted("fit", again.ticket))
    twice = run.tell(Admitted("fit", again.ticket))

    assert [bool(one.refused) for one in (while_paused, late, unknown, twice)] == [True] * 4
    assert [order.attempt for order in run.orders] == [1]
    assert again.ticket != ask.ticket


def test_a_cancelled_run_gives_up_its_place_at_once_and_a_worker_its_slots_when_it_has_stopped() -> None:
    queued, running = waiting(), waiting()
    (ask,) = asked(running.decisions[-1])
    running.tell(Admitted("fit", ask.ticket))

    gone = queued.tell(CancelRequested("ada"))
    stopping = running.tell(CancelRequested("ada"))
    stopped = running.tell(Tick(), after_s=60)

    assert (queued.run.state, len(freed(gone))) == ("cancelled", 1)
    assert (freed(stopping), freed(stopped)) == ([], [ask.ticket])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"priority": {"$from": "/trigger/data/x"}}, "InvalidTurn: priority is 'high', not a whole number from"),
        ({"priority": {"$from": "/trigger/data/y"}}, "InvalidTurn: priority is 1001, not a whole number from -1000"),
        ({"fairness_key": {"$from": "/trigger/data/z"}}, "InvalidTurn: fairness_key: '[1]' is no text or whole number"),
        ({"fairness_key": {"$from": "/trigger/data/none"}}, "InvalidTurn: nothing at"),
        ({"input": {"n": {"$from": "/trigger/data/none"}}}, "MissingInput: "),
    ],
)
def test_a_task_whose_turn_cannot_be_said_fails_before_it_waits(task: dict[str, Any], said: str) -> None:
    run = waiting({"x": "high", "y": 1001, "z": [1]}, **task)

    assert said.removesuffix("nothing at") in run.run.cause
    assert not asked(run.decisions[-1])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"kind": "data.x", "weight": 2}, "weight: only a task that takes slots of a `pool` has that"),
        ({"kind": "data.x", "pool": "GPU"}, "pool: String should match"),
        ({"kind": "data.x", "pool": "gpu", "weight": 0}, "weight: Input should be greater"),
        ({"kind": "data.x", "pool": "gpu", "fairness_key": {"$from": "/nothing"}}, "fairness_key.$from: "),
        ({"wait": {"for_s": 1}, "pool": "gpu"}, "'wait' is no work for a worker, so it has no pool"),
    ],
)
def test_slots_that_make_no_sense_are_refused_with_their_field(task: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_workflow({"name": "w", "tasks": {"fit": task}})

    assert said in str(caught.value)
