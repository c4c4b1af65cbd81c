"""What is reported of attempts: the same, whoever does them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from millrace.contracts.tasks import Carried, TaskDispatched, TaskFailed, TaskSucceeded
from millrace.runtime.errors import InvalidInput
from millrace.runtime.ids import new_id
from millrace.runtime.subscriptions import TaskKind, task
from millrace.runtime.tasks.attempts import MAX_OUTPUT_BYTES, Attempt, Ended, about, checked, kind_for, report_of
from pydantic import BaseModel


class Step(BaseModel):
    n: int


async def work(step: Step, _: object) -> int:
    return step.n


async def finish(result: int, _: Any) -> dict[str, Any]:
    return {"n": result}


KIND = task("x.do", Step, work, finish)
KINDS: dict[str, TaskKind] = {"x.do": KIND, "x.also": KIND}
LEFT = Carried(external_ref="job-1")


def attempt(kind: str = "x.do", **given: Any) -> Attempt:
    order = TaskDispatched(
        namespace="demo",
        queue="x",
        task_id=new_id(),
        attempt=2,
        token=new_id(),
        kind=kind,
        input={"n": 1, **given},
        run_id=new_id(),
        workflow="w",
        name="do",
        principal="ada",
        deadline=datetime.now(UTC),
        heartbeat_timeout_s=30,
    )
    return Attempt(order, KIND, None, carried=LEFT)


def test_a_kind_that_nobody_has_and_an_input_that_is_none_of_it_are_refused_with_what_would_be_right() -> None:
    assert kind_for("x", KINDS, attempt().task) is KIND
    with pytest.raises(InvalidInput, match=r"^x has no task x\.other: it has x\.also, x\.do$"):
        kind_for("x", KINDS, attempt("x.other").task)
    with pytest.raises(InvalidInput, match=r"^x\.do: n: "):
        kind_for("x", KINDS, attempt(n="one").task)


def test_an_attempt_that_has_succeeded_says_what_it_hands_on_and_what_it_took() -> None:
    ended = Ended(attempt(), 0.5, result={"n": 1})

    report = report_of("x", ended)

    assert isinstance(report, TaskSucceeded)
    assert (report.output, report.cpu_s, report.attempt, report.service) == ({"n": 1}, 0.5, 2, "x")
    assert report.duration_s >= 0
    assert checked(ended) is ended


def test_an_attempt_that_has_failed_says_why_and_what_it_leaves() -> None:
    ended = Ended(attempt(), 0.5, error="ValueError", message="no\0" + "x" * 5_000, retryable=False)

    report = report_of("x", ended)

    assert isinstance(report, TaskFailed)
    assert (report.error, report.retryable, report.carried, report.cpu_s) == ("ValueError", False, LEFT, 0.5)
    assert report.message == "no" + "x" * 1_997
    assert checked(ended) is ended
    assert report.model_dump().items() >= about("x", ended.attempt.task).items()


@pytest.mark.parametrize("output", [{"n": "x" * MAX_OUTPUT_BYTES}, {"n": "\0"}, {"n": object()}])
def test_an_attempt_whose_output_cannot_travel_has_failed_for_good(output: dict[str, Any]) -> None:
    ended = checked(Ended(attempt(), 0.5, result=output))

    assert (ended.error, ended.retryable, ended.cpu_s) == ("InvalidInput", False, 0.5)
    assert ended.message.startswith("x.do hands on ")
