"""How triggers fare: when each last took an event, and what last went wrong (E3 of the complaints about others)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.control.clock import Clock, Health
from millrace.control.handlers import take_records
from millrace.control.store import Seen, ShownTrigger, Store
from millrace.control.store.health import MAX_FAILURE_CHARS, SAVE, Fared
from millrace.control.store.rows import columns
from millrace.runtime.database import Database, Transactions
from millrace.runtime.testing import Server, fresh_database, until
from prometheus_client import REGISTRY

from .test_handlers import force, trigger

Begin = Transactions[Store]
NEVER = 0.0
MATCH = "millrace_trigger_last_match_timestamp_seconds"
ERROR = "millrace_trigger_last_error_timestamp_seconds"


@pytest.fixture
async def begin(postgres: Server) -> AsyncIterator[Begin]:
    async with Database(await fresh_database(postgres, "control")) as database:
        yield Transactions(database, Store)


async def applied(begin: Begin, **triggers: dict[str, Any]) -> None:
    async with begin() as tx:
        await force(tx, do={"kind": "data.do"})
        for name, fields in triggers.items():
            await trigger(tx, name, **fields)


async def came(begin: Begin, *records: Any) -> None:
    async with begin() as tx:
        await take_records(records, tx)


async def shown(begin: Begin, name: str) -> ShownTrigger:
    async with begin() as tx:
        return await tx.shown_trigger("demo", name)


def told(metric: str, name: str) -> float | None:
    return REGISTRY.get_sample_value(metric, {"namespace": "demo", "trigger": name})


async def test_e3_a_trigger_tells_when_it_last_took_an_event_and_one_that_never_did_says_so(
    begin: Begin, landed: Any
) -> None:
    await applied(begin, takes={}, sleeps={"filter": {"type": "never"}})
    await came(begin, landed("e1"))
    await Health(begin).look()

    takes, sleeps = await shown(begin, "takes"), await shown(begin, "sleeps")
    assert takes.matched_at is not None
    assert (sleeps.matched_at, sleeps.failed_at, sleeps.failure) == (None, None, "")
    assert told(MATCH, "takes") == pytest.approx(takes.matched_at.timestamp())
    assert (told(MATCH, "sleeps"), told(ERROR, "sleeps")) == (NEVER, NEVER)


async def test_e3_a_trigger_whose_condition_has_no_truth_value_tells_when_and_what_until_it_is_applied_anew(
    begin: Begin, landed: Any
) -> None:
    await applied(begin, fails={"when": "trigger.data.year == 1"})
    await came(begin, landed("e1", {"month": 1}))
    await Health(begin).look()

    failing = await shown(begin, "fails")
    assert failing.failure == "'trigger.data.year == 1' cannot be evaluated: there is no 'year'"
    assert failing.failed_at is not None
    assert told(ERROR, "fails") == pytest.approx(failing.failed_at.timestamp())

    await applied(begin, fails={"when": "trigger.data.month == 1"})
    await Health(begin).look()
    assert ((await shown(begin, "fails")).failure, told(ERROR, "fails")) == ("", NEVER)


async def test_what_went_wrong_before_a_trigger_was_applied_as_it_is_says_nothing_of_it(
    begin: Begin, landed: Any
) -> None:
    await applied(begin, late={"when": "trigger.data.year == 1"})
    await came(begin, landed("e1", {"month": 1}))
    await applied(begin, late={})
    await Health(begin).look()

    assert (await shown(begin, "late")).failed_at is None


async def test_what_another_replica_keeps_of_before_a_trigger_was_applied_is_not_told(tx: Store) -> None:
    await force(tx)
    await trigger(tx)
    before = tx.now - timedelta(seconds=1)
    # It looked when the trigger was another one, and comes to write now.
    await tx.fetch("INSERT INTO trigger_health VALUES ('demo', 't', $1, $1, 'was another')", before)

    found = await tx.shown_trigger("demo", "t")
    assert (found.matched_at, found.failed_at, found.failure) == (before, None, "")
    assert [row["failed_at"] for row in await tx.fares(10)] == [None]


async def test_a_round_that_is_lost_has_seen_nothing(begin: Begin, landed: Any) -> None:
    await applied(begin, lost={})

    async def lost() -> None:
        async with begin() as tx:
            await take_records([landed("e1")], tx)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await lost()
    await Health(begin).look()

    assert (await shown(begin, "lost")).matched_at is None


async def test_a_trigger_of_which_nothing_that_is_due_can_be_done_tells_it(begin: Begin, landed: Any) -> None:
    await applied(begin, stuck={"strategy": "queue"})
    await came(begin, landed("e1"), landed("e2", offset=1))
    async with begin() as tx:
        ended = "state = 'cancelled', due_at = NULL, ended_at = now()"
        await tx.fetch(f"UPDATE run SET {ended} WHERE started_at IS NOT NULL")
        await tx.fetch("UPDATE run SET sha256 = 'gone' WHERE started_at IS NULL")
    await Clock(begin, 1.0, lambda _: None).look()
    await Health(begin).look()

    assert (await shown(begin, "stuck")).failure == "what is due of it could not be done: KeyError"


async def test_metrics_are_of_as_many_triggers_as_may_be_and_of_none_that_is_gone(begin: Begin) -> None:
    await applied(begin, bound1={}, bound2={})
    await Health(begin, most_told=1).look()
    assert (told(MATCH, "bound1"), told(MATCH, "bound2")) == (NEVER, None)

    health = Health(begin)
    await health.look()
    async with begin() as tx:
        await tx.fetch("DELETE FROM trigger WHERE name = 'bound1'")
    await health.look()
    assert (told(MATCH, "bound1"), told(MATCH, "bound2")) == (None, NEVER)


async def test_a_control_that_has_just_started_tells_how_triggers_fare_though_nothing_is_new(begin: Begin) -> None:
    await applied(begin, asleep={})

    async def is_told() -> bool:
        return told(MATCH, "asleep") == NEVER

    running = asyncio.create_task(Health(begin).run())
    try:
        await until(is_told, seconds=20)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@given(order=st.permutations(range(4)), twice=st.booleans())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_in_whatever_order_replicas_keep_what_they_have_seen_the_latest_stands(
    order: Sequence[int], twice: bool, tx: Store
) -> None:
    await force(tx)
    await trigger(tx)
    await tx.fetch("DELETE FROM trigger_health")
    later = [tx.now + timedelta(seconds=n) for n in range(4)]
    seen = [
        Fared("demo", "t", later[0]),
        Fared("demo", "t", later[2], later[1], "before"),
        Fared("demo", "t", None, later[3], "latest"),
        Fared("demo", "gone", later[3]),
    ]
    for n in (*order, *(order if twice else ())):
        await tx.fetch(SAVE, *columns([seen[n]]))

    found = await tx.shown_trigger("demo", "t")
    assert (found.matched_at, found.failed_at, found.failure) == (later[2], later[3], "latest")


async def test_what_is_seen_while_the_rest_is_kept_is_kept_next(tx: Store) -> None:
    seen = Seen()
    seen.matched([("demo", "a"), ("demo", "b")], tx.now)
    news = seen.news()
    seen.failed(("demo", "a"), tx.now, "x" * 1_000)
    seen.kept(news)

    async with asyncio.timeout(5):
        await seen.wait(60)
    assert seen.news() == [Fared("demo", "a", tx.now, tx.now, "x" * MAX_FAILURE_CHARS)]
