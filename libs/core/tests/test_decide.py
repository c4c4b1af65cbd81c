from datetime import timedelta
from uuid import UUID

import pytest
from millrace.core.backoff import backoff_s
from millrace.core.decide import decide
from millrace.core.parse import parse_workflow
from millrace.core.parts import Retries
from millrace.core.plan import compile_plan
from millrace.core.state import (
    CANCEL_GRACE_S,
    CancelAcknowledged,
    CancelAttempt,
    CancelRequested,
    Dispatch,
    Failure,
    Progressed,
    RunEnded,
    RunState,
    Start,
    Started,
    Succeeded,
    TaskState,
    Tick,
)
from simulation import T0, World, pending, started, world

WORK = {"kind": "data.ingest"}
CANARY = {
    "judge1": WORK,
    "shift2": {**WORK, "needs": ["judge1"], "when": "outputs.judge1.verdict == 'pass'"},
    "judge2": {**WORK, "needs": ["shift2"], "retries": {"max_attempts": 1}},
    "promote": {**WORK, "needs": ["judge2"], "when": "outputs.judge2.verdict == 'pass'"},
    "rollback": {
        **WORK,
        "needs": ["judge2"],
        "run_if": "settled",
        "when": "status.judge2 != 'succeeded' || outputs.judge2.verdict != 'pass'",
    },
    "refuse": {"needs": ["rollback"], "end": {"state": "refused", "reason": "not better"}},
}


def outcome(made: World) -> tuple[RunState, str]:
    return made.run.state, made.run.cause


def test_a_chain_runs_in_order_and_the_run_succeeds() -> None:
    made = started(a=WORK, b={**WORK, "needs": ["a"]})
    assert [order.name for order in made.orders] == ["a"]

    made.succeed("a")
    last = made.succeed("b")

    assert [order.name for order in made.orders] == ["a", "b"]
    assert last.effects == (RunEnded(RunState.SUCCEEDED, ""),)


def test_inputs_are_taken_from_trigger_outputs_and_run() -> None:
    made = world(
        a={**WORK, "input": {"uri": {"$from": "/trigger/data/uri"}, "n": [{"$from": "/trigger/data/n", "default": 5}]}},
        b={**WORK, "needs": ["a"], "input": {"v": {"$from": "/tasks/a/output/v"}, "run": {"$from": "/run/id"}}},
    )
    made.run = pending({"data": {"uri": "file:///x"}})
    made.tell(Start())
    made.succeed("a", v=3)

    assert [order.input for order in made.orders] == [
        {"uri": "file:///x", "n": [5]},
        {"v": 3, "run": str(made.run.run_id)},
    ]


def test_a_missing_input_fails_the_run_and_says_which() -> None:
    made = started(a={**WORK, "input": {"uri": {"$from": "/trigger/data/uri"}}})

    assert outcome(made)[0] is RunState.FAILED
    assert "task a failed: MissingInput: /trigger/data/uri: there is no 'uri'" in made.run.cause


def test_a_canary_that_passes_promotes_and_skips_the_rollback() -> None:
    made = started(**CANARY)
    for name in ("judge1", "shift2", "judge2", "promote"):
        made.succeed(name, verdict="pass")

    assert outcome(made) == (RunState.SUCCEEDED, "")
    assert made.states()["rollback"] == made.states()["refuse"] == "skipped"


def test_a_canary_that_fails_its_first_stage_rolls_back_and_is_refused() -> None:
    made = started(**CANARY)
    made.succeed("judge1", verdict="fail")
    assert made.states() == {
        "judge1": "succeeded",
        "shift2": "skipped",
        "judge2": "skipped",
        "promote": "skipped",
        "rollback": "dispatched",
    }

    made.succeed("rollback")

    assert outcome(made) == (RunState.REFUSED, "not better")


def test_a_canary_whose_judge_breaks_rolls_back_too() -> None:
    made = started(**CANARY)
    made.succeed("judge1", verdict="pass")
    made.succeed("shift2")
    made.fail("judge2")
    assert made.states()["rollback"] == "dispatched"

    made.succeed("rollback")

    assert outcome(made) == (RunState.REFUSED, "not better")


def test_a_failure_that_was_put_right_still_fails_the_run_when_no_end_says_otherwise() -> None:
    made = started(a={**WORK, "retries": {"max_attempts": 1}}, tidy={**WORK, "needs": ["a"], "run_if": "settled"})
    made.fail("a")
    made.succeed("tidy")

    assert outcome(made) == (RunState.FAILED, "task a failed: ValueError: no")


def test_an_error_is_retried_after_its_backoff_until_the_budget_is_used_up() -> None:
    made = started(a={**WORK, "retries": {"max_attempts": 2, "backoff_s": 10, "jitter": 0}})
    made.fail("a")
    assert made.run.tasks["a"].due_at == T0 + timedelta(seconds=10)

    assert made.tell(Tick(), after_s=9.9).effects == ()
    made.tell(Tick(), after_s=0.1)
    assert [order.attempt for order in made.orders] == [1, 2]
    made.fail("a")

    assert outcome(made) == (RunState.FAILED, "task a failed: ValueError: no")


def test_an_error_that_no_retry_can_help_fails_at_once() -> None:
    made = started(a=WORK)
    made.fail("a", Failure("InvalidInput", "bad file", retryable=False))

    assert outcome(made) == (RunState.FAILED, "task a failed: InvalidInput: bad file")


def test_lost_workers_do_not_use_up_the_attempts_of_the_work() -> None:
    made = started(a={**WORK, "retries": {"max_attempts": 1, "lost": 2, "backoff_s": 0}})
    for _ in range(2):
        made.fail("a", Failure("lost", "worker gone", lost=True))
        made.tell(Tick())
    made.succeed("a")

    assert outcome(made) == (RunState.SUCCEEDED, "")
    assert made.run.tasks["a"].attempt == 3


@pytest.mark.parametrize(
    ("limits", "said", "expected"),
    [
        ({"queue_timeout_s": 5}, [], "QueueTimeout"),
        ({"run_timeout_s": 5, "heartbeat_timeout_s": 9}, [Started], "RunTimeout"),
        ({"heartbeat_timeout_s": 5}, [Started], "HeartbeatTimeout"),
        ({"heartbeat_timeout_s": 5}, [Started, Progressed], "HeartbeatTimeout"),
    ],
)
def test_an_attempt_that_passes_a_limit_is_stopped_and_tried_again(
    limits: dict[str, float], said: list[type[Started | Progressed]], expected: str
) -> None:
    made = started(a={**WORK, **limits, "retries": {"backoff_s": 0}})
    order = made.order("a")
    for fact in said:
        made.tell(fact("a", order.task_id, 1, order.token))

    assert made.tell(Tick(), after_s=4.9).effects == ()
    stopped = made.tell(Tick(), after_s=5.2)
    made.tell(Tick())

    assert [e.token for e in stopped.effects if isinstance(e, CancelAttempt)] == [order.token]
    assert made.run.tasks["a"].attempt == 2
    assert made.decisions[-2].run.tasks["a"].failure is not None
    assert made.decisions[-2].run.tasks["a"].failure.error == expected


def test_heartbeats_keep_an_attempt_alive_until_its_run_timeout() -> None:
    made = started(a={**WORK, "run_timeout_s": 20, "heartbeat_timeout_s": 5})
    order = made.order("a")
    for _ in range(6):
        made.tell(Progressed("a", order.task_id, 1, order.token), Tick(), after_s=4)

    assert made.run.tasks["a"].state is TaskState.RETRY_WAIT
    assert made.run.tasks["a"].failure is not None
    assert made.run.tasks["a"].failure.error == "RunTimeout"


def test_r2_a_result_of_an_attempt_that_was_given_up_is_refused() -> None:
    made = started(a={**WORK, "queue_timeout_s": 5, "retries": {"backoff_s": 0}})
    ghost = made.order("a")
    made.tell(Tick(), after_s=5)
    made.tell(Tick())

    late = made.tell(Succeeded("a", ghost.task_id, 1, ghost.token, {"from": "ghost"}))

    assert len(late.refused) == 1
    assert made.run.tasks["a"].state is TaskState.DISPATCHED


def test_cancelling_asks_open_attempts_to_stop_and_waits_for_them() -> None:
    made = started(a=WORK, b=WORK)
    asked = made.tell(CancelRequested("by ann"))
    assert [e.name for e in asked.effects if isinstance(e, CancelAttempt)] == ["a", "b"]
    assert made.run.state is RunState.ENDING

    order = made.order("a")
    made.tell(CancelAcknowledged("a", order.task_id, 1, order.token))
    made.succeed("b", done=1)

    assert outcome(made) == (RunState.CANCELLED, "by ann")
    assert made.states() == {"a": "cancelled", "b": "succeeded"}


def test_a_worker_that_does_not_stop_delays_the_end_only_by_the_grace_period() -> None:
    made = started(a=WORK)
    made.tell(CancelRequested("by ann"))
    made.tell(Tick(), after_s=CANCEL_GRACE_S)

    assert outcome(made) == (RunState.CANCELLED, "by ann")


def test_a_pending_run_is_cancelled_at_once_and_an_ended_one_stays() -> None:
    made = world(a=WORK)
    made.tell(CancelRequested("by ann"))
    again = made.tell(CancelRequested("by bob"), Start())

    assert outcome(made) == (RunState.CANCELLED, "by ann")
    assert len(again.refused) == 2
    assert not made.orders


def test_a_run_that_takes_too_long_fails() -> None:
    made = World(compile_plan(parse_workflow({"name": "w", "timeout_s": 60, "tasks": {"a": WORK}})))
    made.tell(Start())
    made.tell(Tick(), after_s=60)
    made.fail("a")

    assert outcome(made) == (RunState.FAILED, "the run took longer than its 60 s")


def test_an_end_stops_what_is_still_open() -> None:
    made = started(
        a=WORK,
        slow=WORK,
        stop={"needs": ["a"], "end": {"state": "succeeded", "reason": {"$from": "/tasks/a/output/why"}}},
    )
    made.succeed("a", why="enough")
    assert made.states()["slow"] == "cancelling"

    made.fail("slow", Failure("cancelled", "stopped"))

    assert outcome(made) == (RunState.SUCCEEDED, "enough")


def test_a_condition_without_a_truth_value_fails_its_task() -> None:
    made = started(a=WORK, b={**WORK, "needs": ["a"], "when": "outputs.a.verdict == 'pass'"})
    made.succeed("a")

    assert made.run.state is RunState.FAILED
    assert "task b failed: InvalidWhen: \"outputs.a.verdict == 'pass'\" cannot be evaluated" in made.run.cause


def test_backoff_grows_to_its_bound_and_its_jitter_is_the_same_each_time() -> None:
    retries = Retries(backoff_s=1, factor=2, max_backoff_s=10, jitter=0.5)
    key = UUID(int=5)
    waits = [backoff_s(retries, n, key, n) for n in range(1, 9)]

    assert waits == [backoff_s(retries, n, key, n) for n in range(1, 9)]
    assert all(0.5 * min(10, 2 ** (n - 1)) <= wait <= 1.5 * min(10, 2 ** (n - 1)) for n, wait in enumerate(waits, 1))
    assert len({round(backoff_s(retries, 5, UUID(int=k), 1), 6) for k in range(20)}) > 10


def test_no_wait_is_shorter_than_the_first_that_was_asked_for() -> None:
    retries = Retries(backoff_s=300, jitter=0)

    assert [backoff_s(retries, n, UUID(int=5), n) for n in (1, 2, 3)] == [300, 300, 300]


def test_equal_workflows_share_one_plan() -> None:
    document = {"name": "w", "tasks": {"a": WORK}}

    assert compile_plan(parse_workflow(document)) is compile_plan(parse_workflow(document))


def test_a_wide_workflow_is_decided_in_one_pass() -> None:
    tasks = {"a": WORK, **{f"t{n}": {**WORK, "needs": ["a"]} for n in range(400)}}
    tasks["z"] = {**WORK, "needs": [f"t{n}" for n in range(400)]}
    made = started(**tasks)
    made.succeed("a")
    orders = list(made.orders[1:])
    facts = [Succeeded(order.name, order.task_id, 1, order.token, {}) for order in orders]

    decision = decide(made.run, made.plan, facts, made.now, made.new_id)

    assert [e.name for e in decision.effects if isinstance(e, Dispatch)] == ["z"]


def test_an_input_that_is_too_large_fails_its_task_and_is_never_dispatched() -> None:
    text = {"$from": "/trigger/data/text"}
    made = world(a={**WORK, "input": {"all": [text] * 300}})
    made.run = pending({"data": {"text": "x" * 1024}})

    made.tell(Start())

    assert made.orders == []
    assert made.run.state is RunState.FAILED
    assert "LargeInput: its input has" in made.run.cause


RULES = {
    "max_attempts": 1,
    "rules": [
        {"errors": ["Quota"], "max_attempts": 5, "backoff_s": 100, "max_backoff_s": 1000, "jitter": 0},
        {"when": "error.a.message.contains('again')", "max_attempts": 2, "backoff_s": 3, "jitter": 0},
    ],
}


@pytest.mark.parametrize(
    ("failure", "waits_s"),
    [
        (Failure("Quota", "enough"), 100.0),
        (Failure("ValueError", "try again"), 3.0),
        (Failure("ValueError", "no"), None),
        (Failure("Quota", "enough", retryable=False), None),
    ],
)
def test_an_error_is_retried_as_the_first_rule_for_it_says(failure: Failure, waits_s: float | None) -> None:
    world = started(a={"kind": "data.x", "retries": RULES})

    world.fail("a", failure)

    due = world.run.tasks["a"].due_at
    assert (world.run.state is RunState.FAILED) == (waits_s is None)
    assert (due and (due - world.now).total_seconds()) == waits_s


def test_a_rule_that_cannot_be_evaluated_fails_its_task_and_says_why() -> None:
    world = started(a={"kind": "data.x", "retries": {"rules": [{"when": "error.a.nothing == 'x'"}]}})

    world.fail("a", Failure("ValueError", "no"))

    assert world.run.cause.startswith("task a failed: ValueError: no; a rule for retries: ")
