"""When something is to be done by, and what happens when it is not."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.parse import parse_workflow
from millrace.core.plan import compile_plan
from millrace.core.state import (
    CancelAttempt,
    CancelRequested,
    DeadlineMissed,
    Decision,
    PauseRequested,
    ResumeRequested,
    Run,
    RunState,
    Start,
    StartChild,
    Started,
    TellChild,
    Tick,
)
from simulation import T0, World, pending, started

WORK: dict[str, Any] = {"kind": "data.ingest"}
FORMS: dict[str, dict[str, Any]] = {
    "work": WORK,
    "wait": {"wait": {"signal": "go"}},
    "approve": {"approve": {}},
    "subflow": {"subflow": {"workflow": "other"}},
    "foreach": {"foreach": {"items": [1], "do": {"tasks": {"x": WORK}}}},
    "try": {"try": {"do": {"tasks": {"x": WORK}}, "finally": {"tasks": {"y": WORK}}}},
}


def due(action: str, after_s: float = 10) -> dict[str, Any]:
    return {"deadline": {"after_s": after_s, "action": action}}


def missed(one: World) -> list[tuple[str, str]]:
    return [(e.name, e.action) for d in one.decisions for e in d.effects if isinstance(e, DeadlineMissed)]


def at(one: World, after_s: float) -> Decision:
    return one.tell(Tick(), after_s=after_s)


@pytest.mark.parametrize("form", FORMS)
def test_a_task_that_misses_its_deadline_goes_on_where_that_is_only_told(form: str) -> None:
    one = started(a={**FORMS[form], **due("notify")})
    before = one.states()

    at(one, 10)
    at(one, 10)

    assert missed(one) == [("a", "notify")], "once"
    assert one.states() == before
    assert one.run.tasks["a"].missed_at == T0 + timedelta(seconds=10)


@pytest.mark.parametrize("form", FORMS)
def test_a_task_that_misses_its_deadline_fails_where_it_says_so(form: str) -> None:
    one = started(a={**FORMS[form], **due("fail")}, b={"kind": "data.tell", "needs": ["a"], "run_if": "settled"})

    at(one, 10)
    if form in {"foreach", "try"}:
        at(one, 30)  # the worker in it says nothing
    if form == "try":
        one.succeed("a.finally.y")

    assert missed(one) == [("a", "fail")]
    assert str(one.run.tasks["a"].failure) == "DeadlineMissed: not done by its deadline, 2026-01-01 00:00:10 UTC"
    assert one.run.tasks["b"].state == "dispatched"
    one.succeed("b")
    assert one.run.state == "failed"


@pytest.mark.parametrize("form", FORMS)
def test_a_task_that_misses_its_deadline_is_cancelled_where_it_says_so_and_the_run_goes_on(form: str) -> None:
    more = {"skipped": {"kind": "data.use", "needs": ["a"]}, "after": {"kind": "data.tell", "needs": ["a"]}}
    more["after"]["run_if"] = "settled"
    one = started(a={**FORMS[form], **due("cancel")}, **more)

    at(one, 10)
    if form in {"foreach", "try"}:
        at(one, 30)  # the worker in it says nothing
    if form == "try":
        one.succeed("a.finally.y")
    one.succeed("after")

    assert missed(one) == [("a", "cancel")]
    assert one.states() == {"a": "cancelled", "skipped": "skipped", "after": "succeeded"}
    assert one.run.state == "succeeded"


@pytest.mark.parametrize("action", ["fail", "cancel"])
def test_who_works_on_what_is_not_wanted_any_more_is_told(action: str) -> None:
    work, child = started(a={**WORK, **due(action)}), started(a={**FORMS["subflow"], **due(action)})
    order = work.order("a")
    work.tell(Started("a", order.task_id, order.attempt, order.token))

    stopped, told = at(work, 10), at(child, 10)

    assert [e.token for e in stopped.effects if isinstance(e, CancelAttempt)] == [order.token]
    begun = next(e for d in child.decisions for e in d.effects if isinstance(e, StartChild))
    assert [e.run_id for e in told.effects if isinstance(e, TellChild)] == [begun.run_id]


def test_a_deadline_is_missed_between_two_attempts_too_and_leaves_the_next_one_where_it_was() -> None:
    one = started(a={**WORK, **due("notify", 5), "retries": {"backoff_s": 60, "jitter": 0}})
    one.fail("a")
    at(one, 5)

    assert (missed(one), len(one.orders)) == ([("a", "notify")], 1)
    at(one, 55)
    assert len(one.orders) == 2


def test_a_task_that_is_done_in_time_misses_nothing() -> None:
    one = started(a={**WORK, **due("fail")}, b={**WORK, "needs": ["a"]})
    one.succeed("a", after_s=9)
    at(one, 60)

    assert missed(one) == []
    assert one.run.tasks["b"].state == "dispatched"


def test_a_task_that_stops_already_misses_nothing() -> None:
    one = started(a={**WORK, **due("fail")})
    one.tell(CancelRequested("enough"))
    at(one, 10)

    assert missed(one) == []
    assert one.run.tasks["a"].state == "cancelling"


def test_a_catch_knows_a_missed_deadline() -> None:
    guarded = {"do": {"tasks": {"x": {**WORK, **due("fail")}}}, "catch": [{"errors": ["DeadlineMissed"]}]}
    guarded["catch"][0]["do"] = {"tasks": {"instead": WORK}, "output": {"late": True}}  # type: ignore[index]
    one = started(a={"try": guarded})
    at(one, 10)
    one.succeed("a.catch0.instead")

    assert (one.run.state, one.run.tasks["a"].output) == ("succeeded", {"late": True})


def run_with(action: str, trigger: dict[str, Any] | None = None, **deadline: Any) -> World:
    document = {"name": "w", "tasks": {"a": WORK}, "deadline": {"action": action, **deadline}}
    one = World(compile_plan(parse_workflow(document)), pending(trigger))
    one.tell(Start())
    return one


@pytest.mark.parametrize(
    ("action", "state", "cause"),
    [
        ("notify", "running", ""),
        ("fail", "failed", "the run was not done by its deadline, 2026-01-01 00:00:10 UTC"),
        ("cancel", "cancelled", "the run was not done by its deadline, 2026-01-01 00:00:10 UTC"),
    ],
)
def test_a_run_that_misses_its_deadline_does_what_its_workflow_says(action: str, state: str, cause: str) -> None:
    one = run_with(action, after_s=10)
    at(one, 10)
    at(one, 31)

    assert (missed(one), one.run.state, one.run.cause) == ([("", action)], state, cause)
    assert one.run.missed_at == T0 + timedelta(seconds=10)


def test_a_run_misses_its_deadline_while_it_is_paused_and_ends_once_it_is_resumed() -> None:
    one = run_with("fail", after_s=10)
    one.tell(PauseRequested("ada"))
    at(one, 10)

    assert (missed(one), one.run.state, one.run.outcome) == ([("", "fail")], "paused", "failed")
    one.tell(ResumeRequested("ada"))
    assert one.run.state == "ending"


def test_a_run_that_has_ended_misses_nothing() -> None:
    one = run_with("fail", after_s=10)
    one.succeed("a")

    assert (one.run.deadline_at, one.next_due()) == (None, None)
    at(one, 60)
    assert missed(one) == []


def test_a_deadline_may_be_a_moment_that_the_trigger_says() -> None:
    one = run_with("cancel", {"data": {"by": "2026-01-01T01:00:05+01:00"}}, at={"$from": "/trigger/data/by"})

    assert one.run.deadline_at == T0 + timedelta(seconds=5)
    at(one, 5)
    assert one.run.outcome == "cancelled"


def test_a_deadline_that_has_passed_before_the_task_begins_keeps_it_from_beginning() -> None:
    late = {"deadline": {"at": "2025-12-31T00:00:00+00:00", "action": "fail"}}
    one = started(a={**WORK, **late})

    assert one.orders == []
    assert (missed(one), one.run.state) == ([("a", "fail")], "failed")


@pytest.mark.parametrize(
    ("deadline", "complaint"),
    [
        ({"after_s": {"$from": "/trigger/data/s"}}, "after_s is 'soon', not a number of seconds from 0 on"),
        ({"at": {"$from": "/trigger/data/s"}}, "Invalid isoformat string: 'soon'"),
        ({"at": {"$from": "/trigger/data/none"}}, "there is no 'none'"),
    ],
)
def test_a_moment_that_cannot_be_understood_fails_what_it_is_for(deadline: dict[str, Any], complaint: str) -> None:
    trigger = {"data": {"s": "soon"}}
    run = run_with("notify", trigger, **deadline)
    plan = compile_plan(parse_workflow({"name": "w", "tasks": {"a": {**WORK, "deadline": deadline}}}))
    task = World(plan, Run(UUID(int=1), RunState.PENDING, trigger))
    task.tell(Start())

    assert (run.run.outcome, task.run.state) == ("failed", "failed")
    assert complaint in run.run.cause
    assert complaint in task.run.cause


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"deadline": {}}, "a deadline has exactly one of `after_s`, `at`"),
        ({"deadline": {"after_s": 1, "at": "2026-01-01T00:00:00Z"}}, "exactly one of `after_s`, `at`"),
        ({"deadline": {"at": "tomorrow"}}, "deadline.at: 'tomorrow' is no time of RFC 3339"),
        ({"deadline": {"at": {"$from": "/tasks/a/output/at"}}}, "deadline.at.$from: there is no task 'a' here"),
        ({"deadline": {"after_s": 1, "action": "shout"}}, "deadline.action"),
    ],
)
def test_a_deadline_that_means_nothing_is_refused(document: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_workflow({"name": "w", "tasks": {"a": WORK}, **document})

    assert complaint in str(caught.value)


def test_what_takes_no_time_has_no_deadline() -> None:
    with pytest.raises(InvalidDocument, match="takes no time"):
        parse_workflow({"name": "w", "tasks": {"a": {"end": {"state": "failed"}, **due("fail")}}})


def test_an_attempt_that_nobody_starts_in_time_after_its_dispatch_is_lost() -> None:
    one = started(a={**WORK, "start_timeout_s": 5, "queue_timeout_s": 60, "retries": {"lost": 1, "backoff_s": 0}})
    at(one, 5)
    at(one, 0)

    assert (len(one.orders), one.run.tasks["a"].losses) == (2, 1)
    order = one.order("a")
    one.tell(Started("a", order.task_id, order.attempt, order.token), after_s=4)
    at(one, 30)
    assert one.run.tasks["a"].state == "running"


def test_of_two_limits_before_the_start_the_first_one_is_told() -> None:
    def failure(**limits: float) -> str:
        one = started(a={**WORK, **limits, "retries": {"lost": 0}})
        at(one, 60)
        return str(one.run.tasks["a"].failure)

    assert failure(start_timeout_s=5, queue_timeout_s=60).startswith("StartTimeout: not started within 5 s")
    assert failure(start_timeout_s=90, queue_timeout_s=60) == "QueueTimeout: not started within 60 s"


def test_resources_are_counted_in_bytes_and_checked() -> None:
    def resources(**given: Any) -> Any:
        return parse_workflow({"name": "w", "tasks": {"a": {**WORK, "resources": given}}}).tasks["a"].resources

    assert [resources(memory=m).memory_bytes for m in ("512Mi", "1.5Gi", "2G", "4k", "100")] == [
        512 * 1024**2,
        1536 * 1024**2,
        2_000_000_000,
        4_000,
        100,
    ]
    for bad in ({}, {"memory": "much"}, {"cpu": 0}, {"gpu_type": "a100"}, {"memory": "1KB"}):
        with pytest.raises(InvalidDocument, match=r"tasks\.a\.resources"):
            resources(**bad)
