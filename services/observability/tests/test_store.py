from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.control import RunStarted, RunSucceeded
from millrace.contracts.event import Event
from millrace.contracts.tasks import TaskDispatched, TaskFailed, TaskSucceeded
from millrace.observability.commands import GetRunCost, GetSeries
from millrace.observability.domain import Price, told
from millrace.observability.handlers import MAX_POINTS, keep_measures, view_run_cost, view_series
from millrace.observability.store import Store
from millrace.runtime.envelope import headers_of, read_envelope
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.runtime.ids import new_id
from millrace.runtime.testing import store
from millrace.sdk.stack.postgres import Postgres

T0 = datetime(2013, 2, 1, tzinfo=UTC)
RUN, TASK = UUID(int=1), UUID(int=2)
STEP: dict[str, Any] = {
    "namespace": "demo", "task_id": TASK, "token": UUID(int=3), "run_id": RUN, "workflow": "flights",
    "name": "tune", "kind": "training.tune",
}  # fmt: skip
WORKFLOW: dict[str, Any] = {"namespace": "demo", "run_id": RUN, "workflow": "flights", "workflow_hash": "h"}
ORDER: dict[str, Any] = {"queue": "training", "input": {}, "principal": "ann", "deadline": T0}
STARTED = RunStarted(**WORKFLOW, principal="ann", trigger="month")
FIRST = TaskDispatched(**STEP, attempt=1, **ORDER)
LOST = TaskFailed(**STEP, attempt=1, service="training", error="lost", message="the worker ended", retryable=True)
SECOND = TaskDispatched(**STEP, attempt=2, **ORDER)
SUCCEEDED = TaskSucceeded(**STEP, attempt=2, service="training", output={}, duration_s=2, cpu_s=1800)
ENDED = RunSucceeded(**WORKFLOW, duration_s=9)
STORY: list[tuple[Event, datetime]] = [
    (event, T0 + timedelta(seconds=seconds))
    for event, seconds in ((STARTED, 0), (FIRST, 1), (LOST, 3), (SECOND, 4), (SUCCEEDED, 7), (ENDED, 9))
]


@pytest.fixture
async def tx(postgres: Postgres) -> AsyncIterator[Store]:
    async with store(postgres, "observability", Store) as made:
        made.set_price(Price(Decimal("0.04"), "USD"))
        yield made


async def keep(tx: Store, *events: tuple[Event, datetime]) -> None:
    tx.keep(told(events, T0 + timedelta(seconds=10)))
    await tx.flush()


async def points(tx: Store, metric: str, **labels: str) -> list[tuple[dict[str, str], list[float]]]:
    found = await view_series(GetSeries(namespace="demo", metric=metric, labels=labels), tx)
    return [(dict(series.labels), [value for _, value in series.points]) for series in found]


async def everything(tx: Store) -> list[Any]:
    metrics = ("run_duration_s", "task_duration_s", "task_queue_s", "runs", "cost")
    return [await points(tx, metric) for metric in metrics] + [await tx.run("demo", RUN)]


async def test_durations_outcomes_queue_times_and_cost_are_series(tx: Store) -> None:
    await keep(tx, *STORY)

    flights = {"workflow": "flights"}
    tune = flights | {"task": "tune", "kind": "training.tune"}
    assert await points(tx, "run_duration_s") == [(flights | {"state": "succeeded"}, [9])]
    assert await points(tx, "runs") == [(flights | {"state": "succeeded"}, [1])]
    assert await points(tx, "task_duration_s") == [
        (tune | {"outcome": "failed"}, [0]),
        (tune | {"outcome": "succeeded"}, [2]),
    ]
    assert await points(tx, "task_queue_s") == [(tune, [1])]
    assert await points(tx, "cost") == [(flights | {"currency": "USD"}, [0.02])]


async def test_any_order_of_the_same_events_in_separate_batches_keeps_the_same(tx: Store) -> None:
    await keep(tx, *STORY)
    expected = await everything(tx)

    for order in list(permutations(STORY))[::97]:
        await tx.fetch("TRUNCATE run, attempt")
        for told_once in (*order, order[0]):
            await keep(tx, told_once)
        assert await everything(tx) == expected


async def test_one_runs_values_can_be_asked_for(tx: Store) -> None:
    await keep(tx, *STORY)

    assert await points(tx, "run_duration_s", run_id=str(RUN))
    assert await points(tx, "run_duration_s", run_id=str(TASK)) == []
    assert await points(tx, "run_duration_s", workflow="flights", state="failed") == []


async def test_a_series_begins_and_ends_where_it_is_asked_to(tx: Store) -> None:
    await keep(tx, *STORY)
    end = T0 + timedelta(seconds=9)

    async def runs(**between: datetime) -> int:
        return len(await view_series(GetSeries(namespace="demo", metric="runs", **between), tx))

    assert await runs(start=end) == 1
    assert await runs(end=end) == 0
    assert await runs(start=end, end=end + timedelta(seconds=1)) == 1


async def test_another_tenant_sees_nothing(tx: Store) -> None:
    await keep(tx, *STORY)

    assert await view_series(GetSeries(namespace="other", metric="runs"), tx) == []
    with pytest.raises(NotFound):
        await view_run_cost(GetRunCost(namespace="other", run_id=RUN), tx)


async def test_lag_is_told_per_topic_and_adds_up_over_batches(tx: Store) -> None:
    await keep(tx, STORY[0])
    await keep(tx, STORY[-1])

    assert await points(tx, "lag_s", topic="control.runs") == [
        ({"topic": "control.runs", "statistic": "max"}, [10]),
        ({"topic": "control.runs", "statistic": "mean"}, [5.5]),
    ]


async def test_a_run_keeps_the_price_that_held_when_it_began(tx: Store) -> None:
    await keep(tx, *STORY)

    tx.set_price(Price(Decimal("0.04"), "USD"))
    tx.set_price(Price(Decimal("0.10"), "EUR"))
    cost = await view_run_cost(GetRunCost(namespace="demo", run_id=RUN), tx)

    assert (cost.state, cost.currency, float(cost.cost)) == ("succeeded", "USD", 0.02)
    assert [(step.task, step.attempts, step.cpu_s) for step in cost.steps] == [("tune", 2, 1800)]
    assert await tx.price(tx.now) == Price(Decimal("0.10"), "EUR")
    assert [row["n"] for row in await tx.fetch("SELECT count(*) AS n FROM price")] == [2]


async def test_too_many_points_are_refused_rather_than_cut(tx: Store) -> None:
    await tx.fetch(
        "INSERT INTO run (namespace, run_id, workflow, ended_at, state, duration_s) "
        "SELECT 'demo', gen_random_uuid(), 'w', $1::timestamptz + n * interval '1 s', 'succeeded', 1 "
        "FROM generate_series(0, $2::int) n",
        T0,
        MAX_POINTS,
    )

    with pytest.raises(InvalidInput, match="more than 10000 points"):
        await view_series(GetSeries(namespace="demo", metric="run_duration_s"), tx)


async def test_an_events_time_is_that_of_its_envelope(tx: Store) -> None:
    envelope = read_envelope(headers_of(ENDED, new_id(), T0, None, ""))
    tx.handling(ENDED, envelope)

    await keep_measures([ENDED], tx)

    run, _ = await tx.run("demo", RUN)
    assert run
    assert run.ended_at == envelope.emitted_at


async def test_what_ended_before_a_moment_is_forgotten_and_what_goes_on_is_kept(tx: Store) -> None:
    await keep(tx, *STORY)
    other = TaskDispatched(**STEP | {"task_id": UUID(int=9)}, attempt=1, **ORDER)
    await keep(tx, (other, T0))

    forget = (tx.forget_attempts, tx.forget_runs, tx.forget_lags)
    before = [await each(T0, 10) for each in forget]
    one_by_one = [await tx.forget_attempts(T0 + timedelta(hours=1), 1) for _ in range(3)]
    after = [await each(tx.now + timedelta(hours=1), 10) for each in forget]

    assert (before, one_by_one) == ([0, 0, 0], [1, 1, 0])
    assert after[:2] == [0, 1]
    assert after[2] > 0
    run, attempts = await tx.run("demo", RUN)
    assert run is None
    assert [attempt.ended_at for attempt in attempts] == [None]


async def test_the_events_of_a_topic_are_counted_over_batches(tx: Store) -> None:
    await keep(tx, STORY[0])
    await keep(tx, STORY[-1])

    assert await points(tx, "events", topic="control.runs") == [({"topic": "control.runs"}, [2])]
