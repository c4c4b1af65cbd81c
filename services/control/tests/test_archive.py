"""Runs that have ended are moved out of the way of those that go on, and are there as before until they are dropped."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from asyncpg import UniqueViolationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.control.clock.retention import Archiving
from millrace.control.commands import ApplyWorkflow, GetRun, StartRun
from millrace.control.commands.operations import CancelRun, RerunRun
from millrace.control.domain.archive import WIDTHS, Part, made_ms, missing_parts, width_of
from millrace.control.domain.changes import Outcome
from millrace.control.domain.runs import KeptRun
from millrace.control.handlers import apply_workflow, cancel_run, explain_run, fire_due, rerun_run, start_run
from millrace.control.store import Store, definitions
from millrace.control.store.archive import MOST_ROWS, MOST_RUNS, TABLES
from millrace.control.store.operations import LOOK_ALL, RERUNS
from millrace.control.store.runs import ALL_TASKS, ARCHIVED_RUN, LISTS, PAST, PAST_ITEMS
from millrace.core.parse import parse_workflow
from millrace.core.state import Failed, Failure, RunState
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, NotFound, Unavailable
from millrace.runtime.testing import Server, fresh_database

from .test_handlers import PLANNING, failure, force, orders, report, started, success
from .test_operations import many
from .test_store import every_item, kept, tell

ADA = {"namespace": "demo", "principal": "ada"}
DAY = timedelta(days=1)
LEFT = "SELECT DISTINCT run_id FROM {table} ORDER BY run_id"


async def moved(tx: Store, before: datetime, *, limit: int = 500, width: timedelta = DAY) -> int:
    """Move some runs that ended before a moment to the archive; return of how many anything was moved."""
    runs = await tx.ended_runs(before, limit)
    if runs:
        await tx.archive(runs, width)
    return len(runs)


async def archived(tx: Store, *, width: timedelta = DAY) -> None:
    """Move all that has ended to the archive."""
    while await moved(tx, tx.now + DAY, width=width):
        pass


async def here(tx: Store, table: str) -> set[UUID]:
    """Return the runs of which a table has rows."""
    return {row[0] for row in await tx.fetch(LEFT.format(table=table))}


async def shown(tx: Store, run_id: UUID) -> list[Any]:
    """Return all that can be read of a run."""
    definitions._plans.clear()
    read = await tx.run("demo", run_id)
    listed = [one for one in await tx.list_runs("demo", "", "", None, 50) if one.run.run_id == run_id]
    why = (await explain_run(GetRun(namespace="demo", run_id=run_id), tx))[1]
    past = await tx.past(run_id, 100)
    return [comparable(read), *map(comparable, listed), past.records, await tx.attempts(run_id), why]


def comparable(made: KeptRun) -> tuple[KeptRun, str]:
    """Return a run and the hash of its plan, which itself is another object each time."""
    return replace(made, plan=None), made.plan.workflow.sha256  # type: ignore[arg-type] # to be compared only


# Parts.

MOMENTS = st.integers(0, 2**41)


@given(rounds=st.lists(st.tuples(st.lists(MOMENTS, min_size=1, max_size=6), st.sampled_from(WIDTHS)), max_size=6))
def test_each_run_has_one_part_whatever_parts_of_other_lengths_there_are(
    rounds: list[tuple[list[int], timedelta]],
) -> None:
    parts: list[Part] = []
    moments: list[int] = []
    for some, width in rounds:
        made = missing_parts([UUID(int=at << 80 | 7) for at in some], parts, width)
        assert all(0 < part.end_ms - part.first_ms <= width.total_seconds() * 1000 for part in made)
        parts, moments = [*parts, *made], [*moments, *some]

    for at in moments:
        assert len([part for part in parts if part.first_ms <= at < part.end_ms]) == 1
    ordered = sorted(parts)
    assert all(one.end_ms <= other.first_ms for one, other in pairwise(ordered))
    assert len({part.name for part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("kept_for", "width"),
    [
        (timedelta(minutes=2), WIDTHS[0]),
        (timedelta(hours=12), timedelta(hours=1)),
        (30 * DAY, DAY),
        (90 * DAY, 7 * DAY),
    ],
)
def test_a_part_is_a_tenth_of_how_long_runs_are_kept_or_less(kept_for: timedelta, width: timedelta) -> None:
    assert width_of(kept_for) == width


async def test_the_archive_has_the_columns_of_what_is_moved_there(tx: Store) -> None:
    named = "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = $1"
    for table in TABLES:
        columns, archive = [
            [tuple(row) for row in await tx.fetch(f"{named} ORDER BY ordinal_position", name)]
            for name in (table, f"{table}_archive")
        ]
        assert {(name, kind) for name, kind, _ in columns} == {(name, kind) for name, kind, _ in archive}
        assert [name for name, *_ in columns] == [name for name, *_ in archive], f"{table}: rows are moved whole"


# What is read.


async def test_a_run_with_all_that_belongs_to_it_is_the_same_in_the_archive(tx: Store) -> None:
    body = {"tasks": {"fit": {"kind": "data.fit", "input": {"n": {"$from": "/item/each"}}}}}
    await force(tx, a={"kind": "data.list"}, each={"needs": ["a"], "foreach": {"items": [1, 2], "do": body}})
    run_id = await started(tx)
    await report(tx, failure(orders(tx)[-1]))
    await tx.fetch("UPDATE task SET due_at = now() WHERE run_id = $1", run_id)
    await fire_due([run_id], tx)
    told = 0
    while told < len(orders(tx)):
        told = len(orders(tx))
        await report(tx, *(success(order, rows=1) for order in orders(tx)[1:]))
    read, _, past, attempts, _ = before = await shown(tx, run_id)

    await archived(tx)

    assert read[0].run.state is RunState.SUCCEEDED
    assert {task.name for task in past} >= {"each[0]", "each[1]"}
    assert len(attempts) == 1
    assert await shown(tx, run_id) == before
    for table in TABLES:
        assert run_id not in await here(tx, table)
        assert run_id in await here(tx, f"{table}_archive") or table == "run_plan"


async def test_what_tasks_have_planned_is_archived_with_their_run(tx: Store) -> None:
    await force(tx, **PLANNING)
    run_id = await started(tx)
    await report(tx, success(orders(tx)[-1], **{"$plan": {"tasks": {"more": {"kind": "data.x"}}}}))
    for _ in range(2):
        await report(tx, success(orders(tx)[-1]))
    before = await shown(tx, run_id)

    await archived(tx)

    assert run_id in await here(tx, "run_plan_archive")
    assert await shown(tx, run_id) == before


async def test_lists_go_on_from_what_goes_on_into_the_archive_in_order(tx: Store) -> None:
    await force(tx, a={"kind": "data.x"})
    run_ids = [await started(tx) for _ in range(6)]
    for order in (orders(tx)[0], orders(tx)[3], orders(tx)[4]):
        await report(tx, success(order))
    await archived(tx, width=timedelta(minutes=1))

    seen: list[UUID] = []
    while page := await tx.list_runs("demo", "w", "", seen[-1] if seen else None, 2):
        seen += [one.run.run_id for one in page]

    assert seen == [*reversed(run_ids)]
    for state, count in (("running", 3), ("succeeded", 3), ("failed", 0)):
        assert len(await tx.list_runs("demo", "", state, None, 50)) == count
    with pytest.raises(NotFound, match="in namespace other does not exist"):
        await tx.run("other", run_ids[0])


async def test_no_part_is_read_whole_to_find_runs(tx: Store) -> None:
    await force(tx, a={"kind": "data.x"})
    await started(tx)
    await report(tx, success(orders(tx)[-1]))
    await archived(tx)

    for sql, types in (
        (ARCHIVED_RUN, "text, uuid"),
        *((LISTS[state], "text, text, uuid, int") for state in ("", "succeeded")),
        (LOOK_ALL, "text, uuid, uuid, text, text, text[], int"),
        (ALL_TASKS, "uuid[]"),
        (PAST, "uuid, text[]"),
        (PAST_ITEMS, "uuid, int, text, int, timestamptz, text"),
        (RERUNS, "uuid[]"),
    ):
        await tx.fetch(f"PREPARE asked ({types}) AS {sql}")
        rows = await tx.fetch(f"EXPLAIN EXECUTE asked ({', '.join(['NULL'] * (types.count(',') + 1))})")
        plan = "\n".join(row[0] for row in rows)
        await tx.fetch("DEALLOCATE asked")
        assert "Seq Scan" not in plan, plan
        assert "Merge Append" in plan or "Sort Key: r.run_id" not in plan, plan


async def test_a_few_runs_that_failed_among_very_many_are_found_without_reading_those(tx: Store) -> None:
    await force(tx, a={"kind": "data.x", "retries": {"max_attempts": 1}})
    failed = await started(tx)
    await report(tx, failure(orders(tx)[-1]))
    await archived(tx)
    await tx.fetch(
        "INSERT INTO run_archive SELECT (jsonb_populate_record(r, jsonb_build_object('run_id',"
        " left(run_id::text, 24) || to_char(n, 'FM000000000000'), 'state', 'succeeded'))).*"
        " FROM run_archive AS r CROSS JOIN generate_series(1, 3000) AS n"
    )
    await tx.fetch("ANALYZE run_archive")

    await tx.fetch(f"PREPARE asked (text, text, uuid, int) AS {LISTS['failed']}")
    plan = "\n".join(row[0] for row in await tx.fetch("EXPLAIN EXECUTE asked (NULL, NULL, NULL, NULL)"))
    await tx.fetch("DEALLOCATE asked")

    assert "namespace_state_run_id" in plan, plan
    assert [kept.run.run_id for kept in await tx.list_runs("demo", "", "failed", None, 50)] == [failed]


# What is done.


async def test_a_run_in_the_archive_has_ended_for_whoever_wants_something_of_it(tx: Store) -> None:
    await force(tx, a={"kind": "data.x", "retries": {"max_attempts": 1}})
    run_id = await started(tx)
    order = orders(tx)[-1]
    await report(tx, failure(order))
    await archived(tx)
    before = await shown(tx, run_id)

    with pytest.raises(Conflict, match="it has ended already"):
        await cancel_run(CancelRun(**ADA, run_id=run_id), tx)
    await report(tx, success(order))

    assert await shown(tx, run_id) == before
    assert len(orders(tx)) == 1


async def test_a_run_in_the_archive_is_done_again_with_the_items_that_it_had(tx: Store) -> None:
    body = {"tasks": {"fit": {"kind": "data.fit", "input": {"n": {"$from": "/item/each"}}}}}
    work: dict[str, Any] = {"kind": "data.x", "retries": {"max_attempts": 1}}
    each = {"foreach": {"items": [1, 2, 3], "concurrency": 3, "do": body}}
    await force(tx, each=each, b={**work, "needs": ["each"]})
    first = await started(tx)
    await report(tx, *(success(order) for order in orders(tx)))
    await report(tx, failure(orders(tx)[-1]))
    await archived(tx)

    alone = (await rerun_run(RerunRun(**ADA, run_id=first), tx)).kept.run.run_id
    await report(tx, success(orders(tx)[-1]))
    await archived(tx)
    told, _ = await many(tx, "rerun", workflow="w")

    assert [order.name for order in orders(tx)[3:]] == ["b", "b"]
    assert (await tx.run("demo", alone)).rerun_of == first
    assert [(one.kept.run.run_id, one.outcome) for one in told] == [(first, "refused")]
    assert told[0].reason == f"run {alone} does it again already"


async def test_of_two_who_do_archived_runs_again_at_once_one_sees_what_the_other_has_begun(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await force(tx, a={"kind": "data.x", "retries": {"max_attempts": 1}})
            run_id = await started(tx)
            await report(tx, failure(orders(tx)[-1]))
        async with begin() as tx:
            await archived(tx)

        async def again() -> list[Outcome]:
            async with begin() as tx:
                return (await many(tx, "rerun", workflow="w"))[0]

        async with begin() as first:
            ((done,), _) = await many(first, "rerun", workflow="w")
            second = asyncio.create_task(again())
            await asyncio.wait([second], timeout=1)  # it would be done by then
        (refused,) = await second

    assert (done.kept.run.run_id, done.outcome) == (run_id, "changed")
    assert refused.reason == f"run {done.rerun_run_id} does it again already"


async def test_what_an_archived_run_is_told_by_another_is_forgotten(tx: Store) -> None:
    await force(tx, a={"kind": "data.x"})
    ended, open_ = await started(tx), await started(tx)
    await report(tx, success(orders(tx)[0]))
    await tx.fetch("INSERT INTO mail (run_id, told) VALUES ($1, '{}')", ended)
    await archived(tx)
    moved_with_it = not await here(tx, "mail")
    for run_id in (ended, open_):
        await tx.fetch("INSERT INTO mail (run_id, told) VALUES ($1, '{}')", run_id)

    assert await tx.forget_mail(tx.now, 10) == 1

    assert moved_with_it
    assert await here(tx, "mail") == {open_}


# How it is moved, and dropped.

RUNS = st.lists(st.tuples(st.sampled_from(["open", "young", "old"]), st.booleans()), min_size=1, max_size=8)


@given(runs=RUNS, limit=st.integers(1, 4))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_run_goes_with_all_that_belongs_to_it_once_it_has_ended_long_ago(
    runs: list[tuple[str, bool]], limit: int, tx: Store
) -> None:
    before = tx.now + DAY  # ids begin with the present time
    for table in TABLES:
        await tx.fetch(f"DELETE FROM {table}")
        await tx.fetch(f"DELETE FROM {table}_archive")
    ids: dict[str, set[UUID]] = {"open": set(), "young": set(), "old": set(), "failed": set()}
    for age, has_failed in runs:
        made = await kept(tx)
        first = made.run.tasks["a"]
        await tx.fetch("INSERT INTO task_past SELECT * FROM task WHERE run_id = $1", made.run.run_id)
        await tx.fetch("INSERT INTO run_plan VALUES ($1, 'x', '{}')", made.run.run_id)
        if has_failed:
            tell(made, Failed("a", first.task_id, 1, first.token or UUID(int=0), Failure("E", "no")), tx)
        if age != "open":
            ended_at = before + timedelta(hours=1 if age == "young" else -1)
            await tx.fetch(
                "UPDATE run SET state = 'failed', due_at = NULL, ended_at = $2 WHERE run_id = $1",
                made.run.run_id,
                ended_at,
            )
        ids[age].add(made.run.run_id)
        ids["failed"] |= {made.run.run_id} if has_failed else set()

    gone = []
    while not gone or gone[-1]:
        gone.append(await moved(tx, before, limit=limit))

    assert max(gone) <= limit
    assert sum(gone) == len(ids["old"])
    for table in TABLES:
        only = ids["failed"] if table == "attempt" else ids["open"] | ids["young"] | ids["old"]
        assert await here(tx, table) == (ids["open"] | ids["young"]) & only
        assert await here(tx, f"{table}_archive") == ids["old"] & only


async def test_a_run_with_very_many_records_is_moved_in_pieces_and_is_whole_all_the_while(tx: Store) -> None:
    await force(tx, a={"kind": "data.x"})
    run_id = await started(tx)
    await report(tx, success(orders(tx)[-1]))
    await tx.fetch(
        "INSERT INTO task_past (run_id, name, task_id, state, attempt, failures, losses, fraction, message)"
        " SELECT $1, 'a[' || n || ']', gen_random_uuid(), 'succeeded', 1, 0, 0, 1, ''"
        " FROM generate_series(1, $2) AS n",
        run_id,
        records := 2 * MOST_ROWS + 1,
    )

    where = []
    while await moved(tx, tx.now + DAY):
        where.append(run_id in await here(tx, "run"))
        assert len(await every_item(tx, run_id)) == records
        assert (await tx.run("demo", run_id)).run.tasks.keys() == {"a"}

    assert where == [True, True, False]


async def test_m6_a_part_goes_once_none_of_its_runs_ended_lately(tx: Store) -> None:
    await force(tx, a={"kind": "data.x"})
    runs = [await started(tx) for _ in range(2)]
    for order in orders(tx):
        await report(tx, success(order))
    late = tx.now + timedelta(days=40)
    await tx.fetch("UPDATE run SET ended_at = $2 WHERE run_id = $1", runs[1], late)
    while await moved(tx, late + DAY, width=timedelta(minutes=1)):
        pass

    too_soon = await tx.drop_archive(late - DAY, 1)
    still = [(await tx.run("demo", run_id)).run.run_id for run_id in runs]
    dropped = [await tx.drop_archive(late + DAY, 1) for _ in range(3)]

    assert (too_soon, still) == (0, runs)
    assert dropped in ([1, 0, 0], [1, 1, 0])  # a minute may have begun between the two
    assert await tx.list_runs("demo", "", "", None, 10) == []
    assert not await tx.fetch("SELECT 1 FROM pg_inherits WHERE inhparent = 'run_archive'::regclass")
    with pytest.raises(NotFound):
        await tx.run("demo", runs[0])


async def test_who_drops_a_part_locks_nothing_while_somebody_still_reads_a_run_of_it(postgres: Server) -> None:
    locks = """
        SELECT bool_or(NOT granted) AS waits, array_agg(relation::regclass::text) FILTER (WHERE granted) AS locked
        FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation::regclass::text LIKE '%archive%'
    """
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        (run_id,) = await many_ended(begin, 1)
        async with begin() as tx:
            await archived(tx)

        async def drop() -> None:
            while True:  # until it has been seen to wait
                with suppress(Unavailable):
                    async with begin() as tx:
                        await tx.drop_archive(tx.now + 2 * DAY, 1)
                        return

        async with begin() as reader, begin() as observer:
            await reader.fetch(ARCHIVED_RUN, "demo", run_id)
            dropping = asyncio.create_task(drop())
            while not (found := (await observer.fetch(locks))[0])["waits"]:
                await asyncio.sleep(0)
        await dropping

    assert found["locked"] is None


async def many_ended(begin: Transactions[Store], count: int) -> list[UUID]:
    """Start runs in one transaction, and end them."""
    workflow = parse_workflow({"name": "w", "tasks": {"a": {"kind": "data.x"}}})
    async with begin() as tx:
        await apply_workflow(ApplyWorkflow(**ADA, workflow=workflow), tx)
        runs = [(await start_run(StartRun(**ADA, workflow="w"), tx)).run.run_id for _ in range(count)]
        await report(tx, *(success(order) for order in orders(tx)))
    return runs


async def test_two_replicas_at_once_move_each_run_once(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        runs = await many_ended(begin, MOST_RUNS * 3)

        async def move() -> int:
            done = 0
            for _ in range(4):
                async with begin() as tx:
                    done += await moved(tx, tx.now + DAY, width=timedelta(minutes=1))
            return done

        assert sum(await asyncio.gather(*(move() for _ in range(3)))) == len(runs)
        async with begin() as tx:
            assert await here(tx, "run_archive") == await here(tx, "task_archive") == {*runs}
            assert await here(tx, "run") == set()


async def test_a_run_that_cannot_be_moved_stays_and_keeps_no_other_from_the_archive(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        runs = await many_ended(begin, 5)
        stuck = runs[2]
        async with begin() as tx:
            await tx.make_parts(runs, DAY)
            await tx.fetch("INSERT INTO run_archive SELECT * FROM run WHERE run_id = $1", stuck)
        archiving = Archiving(begin, timedelta(seconds=-60), DAY)

        async def round_() -> list[int]:
            return [count async for count in archiving.batches()]

        with pytest.raises(UniqueViolationError):
            await round_()
        assert await round_() == [0]

        async with begin() as tx:
            assert await here(tx, "run") == {stuck}
            assert await here(tx, "task_archive") == {*runs} - {stuck}
            assert (await tx.run("demo", stuck)).run.tasks.keys() == {"a"}


async def test_whoever_dies_while_it_moves_or_drops_leaves_all_as_it_was(postgres: Server) -> None:
    class Killed(Exception):
        pass

    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        runs = await many_ended(begin, 3)

        async def die(move: Any) -> None:
            async with begin() as tx:
                assert await move(tx)
                await tx.flush()
                raise Killed

        with pytest.raises(Killed):
            await die(lambda tx: moved(tx, tx.now + DAY))
        async with begin() as tx:
            before = await here(tx, "run")
            await archived(tx)
        with pytest.raises(Killed):
            await die(lambda tx: tx.drop_archive(tx.now + 2 * DAY, 1))
        async with begin() as tx:
            assert [(await tx.run("demo", run_id)).run.state for run_id in runs] == [RunState.SUCCEEDED] * 3
            assert await tx.drop_archive(tx.now + 2 * DAY, 1) == 1
    assert before == {*runs}


def test_a_runs_id_says_when_it_was_made() -> None:
    assert made_ms(UUID("0195d6a0-0000-7000-8000-000000000000")) == 0x0195D6A00000
