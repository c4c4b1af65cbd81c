"""What is past its time goes, nothing else does, and whoever dies in between has done no harm."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.contracts.catalogue import catalogue
from millrace.runtime import inbox
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Unavailable
from millrace.runtime.housekeeping import Keeper, Rule, Unreferenced, older_than, runtime_rules
from millrace.runtime.housekeeping.rules import BATCH_ROWS, forget_requests
from millrace.runtime.ids import new_id
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.shelves import Shelves
from millrace.runtime.telemetry import HOUSEKEEPING_FAILED, HOUSEKEEPING_REMOVED
from millrace.runtime.testing import until
from runtime_effects import Effects, settings_of, version

DAY = timedelta(days=1)
AGES = st.lists(st.floats(0, 600), max_size=20)
ADD = {
    "inbox": "INSERT INTO inbox (event_id) VALUES ($1)",
    "dead": """INSERT INTO held (consumer, topic, partition, "offset", headers, size_bytes, sha256, reason, held_at)
        VALUES ($1::uuid::text, 't', 0, 0, '[]', 0, '', '', $2)""",
    "parked": """INSERT INTO held (consumer, topic, partition, "offset", headers, size_bytes, sha256, reason, held_at,
        state) VALUES ($1::uuid::text, 't', 0, 0, '[]', 0, '', '', $2, 'parked')""",
    "request": """INSERT INTO request (namespace, principal, method, request_id, body_sha256, response, time)
        VALUES ('demo', 'p', 'm', $1::uuid::text, '', '', $2)""",
    "done": """INSERT INTO job (task_id, attempt, token, namespace, kind, dispatched, state, heartbeat_at)
        VALUES ($1, 1, $1, 'demo', 'k', '{}', 'done', $2)""",
    "leased": """INSERT INTO job (task_id, attempt, token, namespace, kind, dispatched, state, heartbeat_at)
        VALUES ($1, 1, $1, 'demo', 'k', '{}', 'leased', $2)""",
}
COUNT = {
    "inbox": "SELECT count(*) FROM inbox",
    "dead": "SELECT count(*) FROM held WHERE state = 'dead'",
    "parked": "SELECT count(*) FROM held WHERE state = 'parked'",
    "request": "SELECT count(*) FROM request",
    "done": "SELECT count(*) FROM job WHERE state = 'done'",
    "leased": "SELECT count(*) FROM job WHERE state = 'leased'",
}


def _id(at: datetime, number: int = 0) -> UUID:
    return UUID(int=inbox.first_id(at).int | 0x7 << 76 | 0x2 << 62 | number)


def _kept(settings: ServiceSettings) -> dict[str, timedelta | None]:
    return {
        "inbox": settings.inbox_horizon,
        "dead": settings.held_retention,
        "parked": None,
        "request": settings.request_retention,
        "done": settings.job_retention,
        "leased": None,
    }


def _keeper(begin: Transactions[Any], *rules: Rule) -> Keeper:
    keeper = Keeper("test", begin.database, every_s=0.01)
    keeper.add(*rules)
    return keeper


@given(ages=st.fixed_dictionaries(dict.fromkeys(ADD, AGES)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_of_every_table_what_is_past_its_time_goes_and_nothing_else(
    ages: dict[str, list[float]], begin: Transactions[Effects], tmp_path: Path
) -> None:
    given_settings = settings_of("", "", tmp_path)
    async with begin() as tx:
        for table in ("inbox", "held", "request", "job"):
            await tx.fetch(f"DELETE FROM {table}")
        numbers = itertools.count()
        for what, days in ages.items():
            for number, age in zip(numbers, days, strict=False):
                at = tx.now - age * DAY
                tx.write(ADD[what], *([_id(at, number)] if what == "inbox" else [_id(at, number), at]))

    assert await _keeper(begin, *runtime_rules(given_settings, begin)).round()

    kept = _kept(given_settings)
    left = {what: sum(1 for age in days if not kept[what] or age * DAY < kept[what]) for what, days in ages.items()}
    async with begin() as tx:
        assert {what: (await tx.fetch(sql))[0][0] for what, sql in COUNT.items()} == left


async def test_a_key_that_has_long_been_silent_is_counted_from_1_again_and_others_go_on(
    begin: Transactions[Effects], tmp_path: Path
) -> None:
    async with begin() as tx:
        for name in ("silent", "spoken"):
            tx.emit(version(name))
    async with begin() as tx:
        await tx.fetch("UPDATE stream SET told_on = told_on - 102")
        tx.emit(version("spoken"))

    assert await _keeper(begin, *runtime_rules(settings_of("", "", tmp_path), begin)).round()

    async with begin() as tx:
        for name in ("silent", "spoken"):
            tx.emit(version(name))
    async with begin() as tx:
        rows = await tx.fetch("SELECT key, headers ->> 'ce_sequence' AS number FROM outbox ORDER BY id")
    assert [(row["key"], row["number"]) for row in rows][-2:] == [("silent", "1"), ("spoken", "3")]


def test_what_tells_a_redelivery_is_kept_longer_than_any_topic_keeps_its_records(tmp_path: Path) -> None:
    given_settings = settings_of("", "", tmp_path)
    longest = max(timedelta(seconds=topic.retention_s) for topic in catalogue())
    kept = (given_settings.inbox_horizon, given_settings.job_retention, given_settings.stream_retention)

    assert min(kept) >= longest + DAY


async def test_a_batch_is_small_and_one_transaction(begin: Transactions[Effects]) -> None:
    await _add_requests(begin, 2 * BATCH_ROWS + 1)
    rule = older_than(DAY, "request", forget_requests, begin)

    assert [removed async for removed in rule.batches()] == [BATCH_ROWS, BATCH_ROWS, 1, 0]


async def test_one_replica_at_a_time_keeps_house(begin: Transactions[Effects]) -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def batches() -> AsyncIterator[int]:
        asked.set()
        await go_on.wait()
        yield 1

    first = asyncio.create_task(_keeper(begin, Rule("slow", batches)).round())
    await asyncio.wait_for(asked.wait(), 10)
    await _add_requests(begin, 1)
    second = _keeper(begin, older_than(DAY, "request", forget_requests, begin))

    assert await second.round()
    assert await _requests(begin) == 1
    go_on.set()
    assert await first
    assert await second.round()
    assert await _requests(begin) == 0


async def test_a_rule_that_fails_is_counted_and_keeps_no_other_from_its_work(begin: Transactions[Effects]) -> None:
    async def broken() -> AsyncIterator[int]:
        raise ZeroDivisionError
        yield 0

    await _add_requests(begin, 3)
    failed, removed = HOUSEKEEPING_FAILED.labels("test", "broken"), HOUSEKEEPING_REMOVED.labels("test", "counted")
    before = failed._value.get(), removed._value.get()

    await _keeper(begin, Rule("broken", broken), older_than(DAY, "counted", forget_requests, begin)).round()

    assert (failed._value.get(), removed._value.get()) == (before[0] + 1, before[1] + 3)


async def test_a_rule_that_can_never_be_applied_now_keeps_no_other_from_its_work_and_is_told_of(
    begin: Transactions[Effects],
) -> None:
    async def locked() -> AsyncIterator[int]:
        yield 1  # what it begins with may go well all the same
        raise Unavailable("the database could not do it now")

    await _add_requests(begin, 3)
    keeper = _keeper(begin, Rule("locked", locked), older_than(DAY, "request", forget_requests, begin))
    failed = HOUSEKEEPING_FAILED.labels("test", "locked")

    await keeper.round()
    assert (failed._value.get(), await _requests(begin)) == (0, 0)

    await keeper.round()
    await keeper.round()
    assert failed._value.get() == 1


class Fast(Shelves):
    """A store whose clock is wrong."""

    def now(self, owner: str) -> datetime:
        return super().now(owner) + 8 * DAY


async def test_while_a_clock_is_wrong_no_artifact_goes_that_is_counted_and_rows_go_on(
    begin: Transactions[Effects], tmp_path: Path
) -> None:
    store = Artifacts(f"file://{tmp_path}", owner="test")
    digest = store.put_bytes(b"of a task in flight")
    await _add_requests(begin, 1)
    failed = HOUSEKEEPING_FAILED.labels("test", "artifact")
    before = failed._value.get()

    def rules(shelves: Shelves) -> tuple[Rule, Rule]:
        found = Unreferenced(shelves, "test", begin, _nothing_referred, timedelta())
        return Rule("artifact", found.batches), older_than(DAY, "request", forget_requests, begin)

    await _keeper(begin, *rules(Fast(store._root, store._store))).round()
    assert (store.exists(digest), failed._value.get(), await _requests(begin)) == (True, before + 1, 0)

    assert sum([removed async for removed in rules(store.shelves)[0].batches()]) == 1


async def test_a_round_is_bounded_and_goes_on_in_the_next(begin: Transactions[Effects]) -> None:
    await _add_requests(begin, 3 * BATCH_ROWS)
    keeper = Keeper("test", begin.database, every_s=600, most_batches=2)
    keeper.add(older_than(DAY, "request", forget_requests, begin))

    assert not await keeper.round()
    assert await _requests(begin) == BATCH_ROWS
    await keeper.round()
    assert await _requests(begin) == 0
    assert await keeper.round()


async def test_the_loop_goes_on_when_the_database_comes_back(begin: Transactions[Effects]) -> None:
    await _add_requests(begin, 1)
    keeping = asyncio.create_task(_keeper(begin, older_than(DAY, "request", forget_requests, begin)).run())

    async def gone() -> bool:
        return await _requests(begin) == 0

    await until(gone)
    async with begin.database.connection() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
    await _add_requests(begin, 1)
    await until(gone)
    keeping.cancel()
    await asyncio.wait([keeping])


async def _nothing_referred(_: object, __: Sequence[str]) -> set[str]:
    return set()


async def _add_requests(begin: Transactions[Effects], rows: int) -> None:
    async with begin() as tx:
        for _ in range(rows):
            tx.write(ADD["request"], new_id(), datetime.now(UTC) - 2 * DAY)


async def _requests(begin: Transactions[Effects]) -> int:
    async with begin() as tx:
        return (await tx.fetch(COUNT["request"]))[0][0]
