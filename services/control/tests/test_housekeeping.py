"""What control keeps no longer goes whole, and what still goes on stays whole."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from millrace.control.domain.events import read_record
from millrace.control.handlers import look_at_triggers, take_records
from millrace.control.store import Arrival, Start, Store
from millrace.control.store.archive import ENDED
from millrace.control.store.events import FORGET_EVENTS
from millrace.control.store.triggers import FORGET_VERSIONS
from millrace.core.triggers import Source
from millrace.runtime.database import Database, Transactions
from millrace.runtime.testing import fresh_database

from .test_handlers import force, trigger


async def test_an_event_goes_with_what_was_made_of_it_and_its_key_may_start_a_run_again(tx: Store, landed: Any) -> None:
    async def started(event_id: str) -> list[Start]:
        record = landed(event_id, {}, offset=int(event_id))
        arrival = Arrival("demo", read_record(record, Source(topic="triggers")), record)
        return await tx.add_events([arrival], [Start(arrival, "t", f"key {event_id}", tx.new_id())])

    starts = [start for event_id in ("1", "2") for start in await started(event_id)]
    await tx.fetch("UPDATE event SET received_at = now() - interval '91 days' WHERE id = '1'")

    assert await tx.forget_events(tx.now - timedelta(days=90), 10) == 1

    assert await tx.event("demo", "/airport", "1") is None
    assert await tx.matches("demo", "/airport", "1") == []
    assert [match.run_id for match in await tx.matches("demo", "/airport", "2")] == [starts[1].run_id]
    assert len(await started("1")) == 1
    assert await started("2") == []


OLD = timedelta(days=90)
AGES_OF_VERSIONS = """
UPDATE trigger_version SET applied_at = now() - (SELECT days FROM unnest($1::int[]) WITH ORDINALITY AS a(days, version)
    WHERE a.version = trigger_version.version) * interval '1 day'
"""


async def versions(tx: Store) -> list[int]:
    rows = await tx.fetch("SELECT version FROM trigger_version WHERE name = 't' ORDER BY version")
    return [row["version"] for row in rows]


async def test_what_a_trigger_said_goes_once_another_has_long_stood_in_its_place(tx: Store) -> None:
    await force(tx)
    for n in range(5):
        await trigger(tx, when=f"trigger.data == {n}")
    await tx.fetch(AGES_OF_VERSIONS, [400, 300, 200, 100, 95])
    await tx.fetch("UPDATE trigger SET shape_version = version")

    gone = [await tx.forget_versions(tx.now - OLD, 2) for _ in range(3)]

    assert gone == [2, 2, 0]
    assert await versions(tx) == [5], "the one in force stays, however old it is"


async def test_what_stood_when_events_came_that_are_kept_stays(tx: Store, landed: Any) -> None:
    await force(tx)
    for n in range(4):
        await trigger(tx, when=f"trigger.data == {n}")
    await tx.fetch(AGES_OF_VERSIONS, [400, 300, 80, 70])
    await tx.fetch("UPDATE trigger SET shape_version = version")
    await take_records([landed("e1", 9)], tx)
    await tx.fetch("UPDATE event SET received_at = now() - interval '350 days'")

    assert await tx.forget_versions(tx.now - OLD, 10) == 0
    await tx.fetch("UPDATE event SET received_at = now() - interval '75 days'")
    assert await tx.forget_versions(tx.now - OLD, 10) == 1
    assert await versions(tx) == [2, 3, 4], "the second stood 80 days ago"


@pytest.mark.parametrize("window_s", [3600.0, 7200.0])
async def test_what_events_wait_by_stays_until_they_wait_no_more(window_s: float, tx: Store, landed: Any) -> None:
    await force(tx)
    pair = [{"name": name, "filter": {"type": name}} for name in ("a", "b")]
    await trigger(tx, join={"members": pair, "window_s": 3600.0})
    await take_records([landed("e1", type="a")], tx)
    for limit in (1, 2):
        await trigger(tx, join={"members": pair, "window_s": window_s}, limit=limit)
    await tx.fetch(AGES_OF_VERSIONS, [400, 300, 200])
    await tx.fetch("UPDATE event SET received_at = now() - interval '250 days'")

    assert await tx.forget_versions(tx.now - OLD, 10) == 0, "it waits by the first, and came while the second stood"
    await tx.fetch("UPDATE gathering SET due_at = now(), until_at = now(), opened_at = now() - interval '1 day'")
    await tx.fetch("UPDATE trigger_match SET taken_at = now() - interval '1 day'")
    await look_at_triggers((await tx.due())[1], tx)
    await tx.forget_events(tx.now - OLD, 10)

    assert (await tx.event("demo", "/airport", "e1")) is None
    same_shape = window_s == 3600.0
    assert await tx.forget_versions(tx.now - OLD, 10) == 1
    assert await versions(tx) == ([1, 3] if same_shape else [2, 3]), "what is in force has the shape of the other"


@pytest.mark.parametrize("vacuumed", [False, True])
async def test_no_table_is_read_whole_to_find_what_is_old(vacuumed: bool, postgres: Any) -> None:
    dsn = await fresh_database(postgres, "control")
    if vacuumed:
        # What a vacuum has seen empty costs nothing to read whole, until it has been seen again.
        connection = await asyncpg.connect(dsn)
        await connection.execute("VACUUM")
        await connection.close()
    async with Database(dsn) as database, Transactions(database, Store)() as tx:
        for sql, types in (
            (FORGET_EVENTS, "timestamptz, int"),
            (ENDED, "timestamptz, int, uuid[]"),
            (FORGET_VERSIONS, "timestamptz, int"),
        ):
            await tx.fetch(f"PREPARE asked ({types}) AS {sql}")
            given = ", ".join("NULL" for _ in types.split(","))
            plan = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN EXECUTE asked ({given})"))
            await tx.fetch("DEALLOCATE asked")
            assert "Seq Scan" not in plan
            assert "hashed SubPlan" not in plan
