"""What control keeps no longer goes whole, and what still goes on stays whole."""

from datetime import timedelta
from typing import Any

from millrace.control.domain.events import read_record
from millrace.control.store import Arrival, Start, Store
from millrace.control.store.archive import ENDED
from millrace.control.store.events import FORGET_EVENTS
from millrace.core.triggers import Source


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


async def test_no_table_is_read_whole_to_find_what_is_old(tx: Store) -> None:
    for sql, types in ((FORGET_EVENTS, "timestamptz, int"), (ENDED, "timestamptz, int")):
        await tx.fetch(f"PREPARE asked ({types}) AS {sql}")
        plan = "\n".join(row[0] for row in await tx.fetch("EXPLAIN EXECUTE asked (NULL, NULL)"))
        await tx.fetch("DEALLOCATE asked")
        assert "Seq Scan" not in plan
        assert "hashed SubPlan" not in plan
