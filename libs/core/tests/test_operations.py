"""What people ask of runs that go on: pause, resume, stop, set a result. Rows of complaints are in the names."""

from datetime import timedelta
from typing import Any

import pytest
from millrace.core.draft import CLEANUP_S
from millrace.core.pausing import MAX_PAUSE_S
from millrace.core.state import (
    CANCEL_GRACE_S,
    SET_BY,
    AttemptEnded,
    CancelAttempt,
    CancelRequested,
    ChildEnded,
    Dispatch,
    Failure,
    PauseRequested,
    Progressed,
    ResultSet,
    ResumeRequested,
    RunEnded,
    RunPaused,
    RunResumed,
    RunState,
    Signalled,
    Start,
    StartChild,
    Succeeded,
    TaskState,
    TellChild,
    Tick,
    Voted,
)
from simulation import T0, World, started, world

WORK = {"kind": "data.ingest", "retries": {"max_attempts": 1}}
PAUSE, RESUME = PauseRequested("ada: the store is down"), ResumeRequested("bob")


def orders(made: World) -> list[str]:
    return [order.name for order in made.orders]


def paused(**tasks: Any) -> World:
    made = started(**tasks)
    made.tell(PAUSE)
    return made


def stopped(made: World) -> list[str]:
    return [e.name for d in made.decisions for e in d.effects if isinstance(e, CancelAttempt)]


# Pausing.


def test_a_paused_run_takes_results_and_begins_nothing_until_it_is_resumed() -> None:
    made = paused(a=WORK, b={**WORK, "needs": ["a"]})

    told = made.succeed("a", x=1)
    assert (made.run.state, made.states(), told.effects) == (RunState.PAUSED, {"a": "succeeded"}, ())

    made.tell(RESUME)
    assert orders(made) == ["a", "b"]
    made.succeed("b")
    assert made.run.state is RunState.SUCCEEDED


def test_pause_and_resume_are_told_with_who_wanted_them_and_for_how_long() -> None:
    made = paused(a=WORK)
    resumed = made.tell(RESUME, after_s=90)

    assert made.decisions[1].effects == (RunPaused("ada: the store is down"),)
    assert resumed.effects == (RunResumed("bob", 90.0),)


def test_a_wait_that_is_over_while_its_run_is_paused_is_over_and_what_follows_waits() -> None:
    made = paused(a={"wait": {"for_s": 60}}, b={**WORK, "needs": ["a"]})

    made.tell(Tick(), after_s=60)
    assert (made.states(), made.orders) == ({"a": "succeeded"}, [])

    made.tell(RESUME)
    assert orders(made) == ["b"]


def test_a_retry_that_is_due_while_its_run_is_paused_is_not_begun_and_wakes_nobody() -> None:
    made = paused(a={**WORK, "retries": {"max_attempts": 2, "backoff_s": 5, "jitter": 0}})
    made.fail("a")
    made.tell(Tick(), after_s=5)
    assert (orders(made), made.states()) == (["a"], {"a": "retry_wait"})
    assert made.next_due() == T0 + timedelta(seconds=MAX_PAUSE_S), "the clock is not kept busy"

    made.tell(RESUME, after_s=60)
    made.tell(Tick())
    assert orders(made) == ["a", "a"]


def test_a_retry_that_is_due_later_than_the_pause_keeps_its_time() -> None:
    made = paused(a={**WORK, "retries": {"max_attempts": 2, "backoff_s": 50, "jitter": 0}})
    made.fail("a")
    made.tell(RESUME, after_s=10)
    made.tell(Tick())
    assert orders(made) == ["a"]

    made.tell(Tick(), after_s=40)
    assert orders(made) == ["a", "a"]


def test_the_limits_of_an_open_attempt_hold_in_a_paused_run_r7() -> None:
    made = paused(a={**WORK, "queue_timeout_s": 30, "retries": {"max_attempts": 1, "lost": 1, "backoff_s": 0}})

    made.tell(Tick(), after_s=30)

    assert made.run.tasks["a"].state is TaskState.RETRY_WAIT
    assert stopped(made) == ["a"]
    assert made.run.state is RunState.PAUSED


def test_the_time_limit_of_a_run_stands_still_while_it_is_paused() -> None:
    made = started(timeout_s=100, a={"wait": {"signal": "go"}})
    made.tell(PAUSE, after_s=40)
    made.tell(Tick(), after_s=1_000)
    made.tell(RESUME)
    made.tell(Tick(), after_s=59)
    assert made.run.state is RunState.RUNNING

    made.tell(Tick(), after_s=1)
    assert (made.run.state, made.run.cause) == (RunState.FAILED, "the run took longer than its 100 s")


def test_a_failure_in_a_paused_run_ends_it_when_it_is_resumed() -> None:
    made = paused(a=WORK, b=WORK, c={**WORK, "compensate": {"tasks": {"undo": WORK}}})
    made.succeed("c")
    failed = made.fail("a")
    assert (made.run.state, made.run.outcome) == (RunState.PAUSED, RunState.FAILED)
    assert not [e for e in failed.effects if isinstance(e, Dispatch | RunEnded | CancelAttempt)]

    made.succeed("b")
    made.tell(RESUME)
    assert (made.run.state, orders(made)[-1]) == (RunState.ENDING, "c.compensate.undo")
    made.succeed("c.compensate.undo")
    assert made.run.state is RunState.FAILED
    assert "task a failed" in made.run.cause


def test_a_run_whose_last_task_ends_while_it_is_paused_ends_when_it_is_resumed() -> None:
    made = paused(a=WORK)
    made.succeed("a")
    assert made.run.state is RunState.PAUSED

    resumed = made.tell(RESUME)
    assert resumed.effects[-1] == RunEnded(RunState.SUCCEEDED, "")


def test_items_go_on_opening_after_a_pause_each_once() -> None:
    each = {"foreach": {"items": [1, 2, 3, 4], "concurrency": 2, "do": {"tasks": {"fit": WORK}}}}
    made = paused(each=each)
    made.succeed("each[0].fit")
    made.succeed("each[1].fit")
    assert orders(made) == ["each[0].fit", "each[1].fit"]

    made.tell(RESUME)
    made.work()
    assert orders(made) == [f"each[{n}].fit" for n in range(4)]
    assert made.run.state is RunState.SUCCEEDED


def test_a_while_loop_goes_on_after_a_pause_where_it_was() -> None:
    made = paused(tune={"while": {"condition": "index.tune < 3", "do": {"tasks": {"fit": WORK}}}})
    made.tell(RESUME)
    assert orders(made) == ["tune[0].fit"], "an iteration that goes on is not begun again"
    made.tell(PAUSE)
    made.succeed("tune[0].fit")
    made.tell(RESUME)
    made.work()
    assert orders(made) == ["tune[0].fit", "tune[1].fit", "tune[2].fit"]


def test_signals_and_votes_count_in_a_paused_run() -> None:
    made = paused(a={"wait": {"signal": "go"}}, b={"approve": {}}, c={**WORK, "needs": ["a", "b"]})
    assert not made.tell(Signalled("go", {"x": 1}), Voted("b", "ada", approves=True)).refused
    assert not made.tell(Signalled("later", None)).refused

    made.tell(RESUME)
    assert orders(made) == ["c"]


def test_a_run_that_waits_for_its_turn_keeps_it_while_it_is_paused() -> None:
    made = world(a=WORK)
    made.tell(PAUSE)
    assert made.run.state is RunState.PAUSED
    made.tell(RESUME)
    assert (made.run.state, made.run.due_at) == (RunState.PENDING, None)

    made.tell(Start())
    assert orders(made) == ["a"]


def test_a_run_whose_turn_comes_while_it_is_paused_begins_when_it_is_resumed() -> None:
    made = world(timeout_s=100, a=WORK)
    made.tell(PAUSE, Start())
    assert (made.run.state, made.orders) == (RunState.PAUSED, [])
    assert made.tell(Start()).refused, "it has started once"

    made.tell(RESUME, after_s=500)
    assert (orders(made), made.run.due_at) == (["a"], made.now + timedelta(seconds=100))


def test_a_run_that_another_waits_for_is_paused_and_resumed_with_it() -> None:
    made = paused(a={"subflow": {"workflow": "other"}})
    (child,) = [e for d in made.decisions for e in d.effects if isinstance(e, StartChild)]
    made.tell(RESUME)

    told = [e for d in made.decisions for e in d.effects if isinstance(e, TellChild)]
    assert told == [TellChild(child.run_id, PAUSE), TellChild(child.run_id, RESUME)]


@pytest.mark.parametrize("asked", [PAUSE, RESUME])
def test_what_cannot_be_paused_or_resumed_says_why(asked: PauseRequested | ResumeRequested) -> None:
    made = started(a=WORK)
    made.succeed("a")
    assert "is succeeded" in made.tell(asked).refused[0].reason


def test_pausing_and_resuming_again_changes_nothing() -> None:
    made = paused(a=WORK)
    again = made.tell(PAUSE)
    assert (again.run_changed, again.effects) == (False, ())
    assert "is paused already" in again.refused[0].reason
    made.tell(RESUME)
    assert "is running, not paused" in made.tell(RESUME).refused[0].reason


def test_a_pause_that_nobody_ends_ends_the_run() -> None:
    made = paused(a={"wait": {"signal": "go"}})
    made.tell(Tick(), after_s=MAX_PAUSE_S)
    assert (made.run.state, made.run.cause) == (
        RunState.FAILED,
        "paused for 366 days, and nobody has resumed it",
    )


# Stopping.


def test_a_cancel_asks_then_forces_and_the_run_ends_r9() -> None:
    made = started(a=WORK, b={"subflow": {"workflow": "other"}}, c={"wait": {"signal": "never"}})
    child = made.run.tasks["b"]
    made.tell(CancelRequested("ada", grace_s=5))
    assert (made.run.state, stopped(made)) == (RunState.ENDING, ["a"])
    assert [e.told for e in made.decisions[-1].effects if isinstance(e, TellChild)] == [
        CancelRequested("the run ends: ada", grace_s=5)
    ]
    made.tell(ChildEnded("b", child.task_id, RunState.CANCELLED, ""))

    made.tell(Tick(), after_s=4.9)
    assert made.run.state is RunState.ENDING
    made.tell(Tick(), after_s=0.1)
    assert (made.run.state, set(made.states().values())) == (RunState.CANCELLED, {"cancelled"})
    assert all(task.token is None for task in made.run.tasks.values()), "nothing keeps what it held"


def test_a_second_cancel_with_force_waits_for_nobody_r9() -> None:
    undo = {**WORK, "compensate": {"tasks": {"undo": WORK}}}
    made = started(a=undo, b={**WORK, "needs": ["a"]}, c={"needs": ["a"], "subflow": {"workflow": "other"}})
    made.succeed("a")
    made.tell(CancelRequested("ada"))
    assert made.tell(CancelRequested("ada")).refused, "asking again changes nothing"

    forced = made.tell(CancelRequested("bob: now", force=True))

    assert (made.run.state, made.run.cause) == (RunState.CANCELLED, "ada; bob: now")
    assert [e.told.force for e in forced.effects if isinstance(e, TellChild)] == [True]
    assert [e.task.name for e in forced.effects if isinstance(e, AttemptEnded)] == ["b"]
    assert orders(made) == ["a", "b"], "nothing is put in order any more"


def test_a_cancel_with_force_ends_a_run_in_one_step() -> None:
    made = started(each={"foreach": {"items": [1, 2], "do": {"tasks": {"fit": WORK}}}})
    forced = made.tell(CancelRequested("ada", force=True))

    assert forced.effects[-1] == RunEnded(RunState.CANCELLED, "ada")
    assert stopped(made) == ["each[0].fit", "each[1].fit"], "its workers are told to stop"


def test_a_paused_run_that_is_cancelled_puts_in_order_what_it_did() -> None:
    made = started(a={**WORK, "compensate": {"tasks": {"undo": WORK}}}, b={**WORK, "needs": ["a"]})
    made.succeed("a")
    made.tell(PAUSE)
    made.tell(CancelRequested("ada"))
    made.tell(Tick(), after_s=CANCEL_GRACE_S)
    made.succeed("a.compensate.undo")

    assert (made.run.state, made.run.pause) == (RunState.CANCELLED, None)


def test_a_grace_does_not_cut_short_what_puts_things_in_order() -> None:
    made = started(a={**WORK, "compensate": {"tasks": {"undo": WORK}}}, b={**WORK, "needs": ["a"]})
    made.succeed("a")
    made.tell(CancelRequested("ada", grace_s=0))
    made.tell(Tick())
    assert orders(made)[-1] == "a.compensate.undo"
    made.tell(Tick(), after_s=CLEANUP_S)
    assert made.run.state is RunState.CANCELLED


def test_a_run_that_has_ended_absorbs_what_comes_late_r4() -> None:
    made = started(a=WORK)
    order = made.order("a")
    made.tell(CancelRequested("ada", force=True))
    at = (order.name, order.task_id, order.attempt, order.token)
    before = made.run

    late = made.tell(Progressed(*at, 0.5), Succeeded(*at, {}), CancelRequested("x", force=True), PAUSE, RESUME, Tick())

    assert (made.run, late.effects, len(late.refused)) == (before, (), 6)


# Results set by hand.


def set_to(state: TaskState, name: str = "a", output: Any = None) -> ResultSet:
    return ResultSet(name, state, "ada: the file was fixed by hand", output)


def test_a_result_set_by_hand_is_handed_on_and_the_late_one_of_the_worker_is_refused() -> None:
    made = started(a=WORK, b={**WORK, "needs": ["a"], "input": {"v": {"$from": "/tasks/a/output/v"}}})
    late = made.order("a")

    told = made.tell(set_to(TaskState.SUCCEEDED, output={"v": 1}))

    assert stopped(made) == ["a"]
    assert [e.failure.error for e in told.effects if isinstance(e, AttemptEnded)] == ["SetByHand"]
    assert (made.order("b").input, made.run.tasks["a"].inner) == (
        {"v": 1},
        {SET_BY: "ada: the file was fixed by hand"},
    )
    at = (late.name, late.task_id, late.attempt, late.token)
    assert made.tell(Succeeded(*at, {"v": 2})).refused
    assert made.run.tasks["a"].output == {"v": 1}


def test_a_task_that_waits_for_its_next_attempt_can_be_set() -> None:
    made = started(a={**WORK, "retries": {"max_attempts": 2}})
    made.fail("a")
    made.tell(set_to(TaskState.SUCCEEDED, output={}))
    assert (made.run.state, made.next_due()) == (RunState.SUCCEEDED, None)


def test_a_task_set_to_failed_fails_what_it_is_in_and_is_not_tried_again() -> None:
    made = started(a={**WORK, "retries": {"max_attempts": 5}})
    made.tell(set_to(TaskState.FAILED))
    assert made.run.state is RunState.FAILED
    assert made.run.cause == "task a failed: SetByHand: ada: the file was fixed by hand"


def test_a_task_set_to_skipped_is_skipped_with_what_needs_it() -> None:
    made = started(a=WORK, b={**WORK, "needs": ["a"]}, c={**WORK, "needs": ["a"], "run_if": "settled"})
    made.tell(set_to(TaskState.SKIPPED))
    assert made.states() == {"a": "skipped", "b": "skipped", "c": "dispatched"}


def test_a_task_with_bodies_is_set_once_what_is_in_it_has_stopped() -> None:
    each = {"foreach": {"items": [1, 2], "do": {"tasks": {"fit": WORK}}}}
    made = started(a=each, b={**WORK, "needs": ["a"]})

    made.tell(set_to(TaskState.SUCCEEDED, output={"best": 7}))
    assert (made.run.tasks["a"].state, stopped(made)) == (TaskState.CLOSING, ["a[0].fit", "a[1].fit"])
    made.tell(Tick(), after_s=CANCEL_GRACE_S)

    assert (made.run.tasks["a"].state, made.run.tasks["a"].output) == (TaskState.SUCCEEDED, {"best": 7})
    assert made.states()["b"] == "dispatched"


def test_what_is_done_last_is_done_when_a_result_is_set() -> None:
    made = started(a={"try": {"do": {"tasks": {"x": WORK}}, "finally": {"tasks": {"tidy": WORK}}}})
    made.tell(set_to(TaskState.SKIPPED))
    made.tell(Tick(), after_s=CANCEL_GRACE_S)
    made.succeed("a.finally.tidy")
    assert (made.states()["a"], (made.run.tasks["a"].inner or {})[SET_BY]) == (
        "skipped",
        "ada: the file was fixed by hand",
    )


def test_a_subflow_that_is_set_stops_its_run_and_its_end_comes_too_late() -> None:
    made = started(a={"subflow": {"workflow": "other"}})
    task_id = made.run.tasks["a"].task_id
    told = made.tell(set_to(TaskState.SUCCEEDED, output={}))
    assert [type(e) for e in told.effects] == [TellChild, RunEnded]
    assert made.tell(ChildEnded("a", task_id, RunState.SUCCEEDED, "", {"x": 1})).refused


def test_a_stuck_compensation_can_be_set() -> None:
    made = started(a={**WORK, "compensate": {"tasks": {"undo": WORK}}}, b={**WORK, "needs": ["a"]})
    made.succeed("a")
    made.fail("b")
    made.tell(set_to(TaskState.SUCCEEDED, "a.compensate.undo", {}))
    assert made.run.state is RunState.FAILED


@pytest.mark.parametrize("name", ["a", "b", "both", "each", "each[0]", "each[0].fit", "nothing"])
def test_what_cannot_be_set_says_why(name: str) -> None:
    both = {"parallel": {"branches": {"one": {"tasks": {"ok": {"approve": {}}}}}}}
    each = {"needs": ["a"], "foreach": {"items": [1], "do": {"tasks": {"fit": WORK}}}}
    made = started(a=WORK, b={"approve": {}}, both=both, each=each)
    made.succeed("a")
    made.succeed("each[0].fit")

    told = made.tell(set_to(TaskState.SUCCEEDED, name, {}))

    assert told.refused[0].reason.endswith(
        ("not to be set any more", "that has begun", "it is not decided by setting a result")
    )
    assert (told.changed, told.effects) == ({}, ())


def test_setting_a_result_again_changes_nothing() -> None:
    made = started(a=WORK, b=WORK)
    made.tell(set_to(TaskState.SUCCEEDED, output={"v": 1}))
    again = made.tell(set_to(TaskState.SUCCEEDED, output={"v": 1}))
    assert (again.changed, len(again.refused)) == ({}, 1)


def test_a_result_can_be_set_in_a_paused_run_and_what_follows_waits() -> None:
    made = paused(a=WORK, b={**WORK, "needs": ["a"]})
    made.tell(set_to(TaskState.SUCCEEDED, output={}))
    assert made.states() == {"a": "succeeded"}
    made.tell(RESUME)
    assert orders(made) == ["a", "b"]


def test_a_failure_says_that_it_was_set() -> None:
    made = started(a=WORK)
    made.tell(set_to(TaskState.FAILED))
    assert made.run.tasks["a"].failure == Failure("SetByHand", "ada: the file was fixed by hand", retryable=False)
