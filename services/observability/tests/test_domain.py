from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.control import LeasedTaskEnded, RunFailed, RunStarted, RunSucceeded, TaskLeased
from millrace.contracts.event import Event
from millrace.contracts.tasks import TaskCancelled, TaskDispatched, TaskFailed, TaskSucceeded
from millrace.observability.domain import (
    Attempt,
    AuditRow,
    Price,
    Run,
    check_labels,
    newest_first,
    run_cost,
    told,
)
from millrace.observability.handlers import SUBSCRIPTIONS, tasks_of
from millrace.runtime.errors import InvalidInput

T0 = datetime(2013, 2, 1, tzinfo=UTC)
RUN, TASK = UUID(int=1), UUID(int=2)
STEP: dict[str, Any] = {
    "namespace": "demo", "task_id": TASK, "attempt": 1, "token": UUID(int=3), "run_id": RUN, "workflow": "flights",
    "name": "tune", "kind": "training.tune",
}  # fmt: skip
DISPATCHED = TaskDispatched(**STEP, queue="training", input={}, principal="ann", deadline=T0)
SUCCEEDED = TaskSucceeded(**STEP, service="training", output={}, duration_s=2, cpu_s=3)
LOST = TaskFailed(**STEP, service="training", error="lost", message="the worker ended", retryable=True)
WORKFLOW: dict[str, Any] = {"namespace": "demo", "run_id": RUN, "workflow": "flights", "workflow_hash": "h"}
STARTED = RunStarted(**WORKFLOW, principal="ann", trigger="month")
ENDED = RunSucceeded(**WORKFLOW, duration_s=9)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_an_attempt_is_the_same_in_whatever_order_its_order_and_its_report_come() -> None:
    events: list[tuple[Event, datetime]] = [(DISPATCHED, at(0)), (SUCCEEDED, at(5)), (LOST, at(8)), (SUCCEEDED, at(5))]

    found = [told(order, at(9)).attempts for order in permutations(events)]

    expected = Attempt(RUN, "flights", "tune", "training.tune", at(0), at(5), "succeeded", "", 2, 3)
    assert all(attempts == {("demo", TASK, 1): expected} for attempts in found)


def test_the_tasks_of_a_teams_queue_are_told_as_those_of_the_services() -> None:
    (row,) = tasks_of("acme")
    step = STEP | {"kind": "acme.greet"}
    events: list[tuple[Event, datetime]] = [
        (TaskDispatched(**step, queue="acme", input={}, principal="ann", deadline=T0), at(0)),
        (TaskSucceeded(**step, service="acme", output={}, duration_s=2, cpu_s=3), at(5)),
    ]

    assert row.topics == tuple(event.topic_name() for event, _ in events)
    assert row.function is SUBSCRIPTIONS[0].function
    assert told(events, at(9)).attempts["demo", TASK, 1].cpu_s == 3


def test_a_leased_attempt_is_told_by_control_in_whatever_order() -> None:
    about = WORKFLOW | {name: STEP[name] for name in ("task_id", "attempt")}
    about |= {"queue": "acme", "kind": "acme.greet", "name": "greet"}
    leased, ended = TaskLeased(**about, dispatched_at=at(1)), LeasedTaskEnded(**about, outcome="failed", error="E")
    events: list[tuple[Event, datetime]] = [(leased, at(3)), (ended, at(5))]

    found = [told(order, at(9)) for order in permutations(events)]

    expected = Attempt(RUN, "flights", "greet", "acme.greet", at(1), at(5), "failed", "E")
    assert all(one.attempts == {("demo", TASK, 1): expected} and not one.runs for one in found)


def test_a_run_is_the_same_in_whatever_order_its_start_and_its_end_come() -> None:
    events: list[tuple[Event, datetime]] = [(STARTED, at(0)), (ENDED, at(9))]

    found = [told(order, at(9)).runs for order in permutations(events)]

    expected = Run("flights", "month", "ann", at(0), at(9), "succeeded", "", 9)
    assert found == [{("demo", RUN): expected}] * 2


def test_a_failed_run_has_its_cause() -> None:
    failed = RunFailed(**WORKFLOW, duration_s=9, cause="tune failed")

    run = told([(failed, at(9))], at(9)).runs["demo", RUN]

    assert (run.state, run.cause) == ("failed", "tune failed")


def test_lag_is_counted_per_topic_and_is_never_negative() -> None:
    cancelled = TaskCancelled(namespace="demo", queue="training", task_id=TASK, attempt=1, token=UUID(int=3))

    lags = told([(DISPATCHED, at(0)), (cancelled, at(1)), (STARTED, at(5))], at(3)).lags

    orders, runs = lags["demo", "control.tasks.training"], lags["demo", "control.runs"]
    assert (orders.events, orders.sum_s, orders.max_s) == (2, 5, 3)
    assert (runs.events, runs.sum_s, runs.max_s) == (1, 0, 0)


def test_a_run_costs_the_processor_time_of_all_its_attempts() -> None:
    tune = Attempt(RUN, "flights", "tune", "training.tune", at(0), at(5), "succeeded", "", 2, 3600)
    lost = Attempt(RUN, "flights", "tune", "training.tune", at(0), at(5), "failed", "lost", 1, 1800)
    deploy = Attempt(RUN, "flights", "deploy", "inference.deploy", at(6))
    run = Run("flights", started_at=at(0))

    cost = run_cost(RUN, run, [lost, tune, deploy], Price(Decimal("0.04"), "EUR"), at(10))

    assert [(step.task, step.attempts, step.duration_s, step.cpu_s, step.cost) for step in cost.steps] == [
        ("tune", 2, 3, 5400, Decimal("0.06")),
        ("deploy", 1, 0, 0, Decimal(0)),
    ]
    assert (cost.state, cost.duration_s, cost.cost, cost.currency) == ("running", 10, Decimal("0.06"), "EUR")


def test_a_label_that_a_metric_does_not_have_is_refused() -> None:
    check_labels("task_duration_s", ["task", "run_id"])

    with pytest.raises(InvalidInput, match="lag_s has no label run_id, task: it has statistic, topic"):
        check_labels("lag_s", ["task", "run_id"])


def test_of_all_services_calls_the_newest_come_first() -> None:
    rows = [AuditRow(at(n), "data", "ann", "m", str(n), "") for n in (2, 3, 1)]

    assert [row.request_id for row in newest_first(rows, 2)] == ["3", "2"]
