import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from millrace.control.commands import ShowRun
from millrace.control.domain.events import read_record
from millrace.control.domain.runs import KeptRun
from millrace.control.store import LOOK, Arrival, HeldTrigger, Start, Store, Turn, look_of
from millrace.control.store.runs import MOST_RECORDS
from millrace.core.decide import decide
from millrace.core.parse import parse_workflow
from millrace.core.state import Decision, Failed, Failure, Input, Run, RunState, Succeeded
from millrace.core.state import Start as MayStart
from millrace.core.triggers import Event, Source, Trigger, parse_trigger
from millrace.runtime import migrate
from millrace.runtime.errors import NotFound
from millrace.runtime.subscriptions import Record
from millrace.runtime.testing import Server, fresh_database

WORKFLOW = parse_workflow(
    {
        "name": "w",
        "tasks": {"a": {"kind": "data.x", "retries": {"backoff_s": 5}}, "b": {"kind": "data.y", "needs": ["a"]}},
    }
)
TRIGGER = parse_trigger({"name": "t", "workflow": "w", "source": {"topic": "triggers"}, "strategy": "queue"})


EVENT = Event("e1", "/airport", "month.landed", "", "", None)


async def kept(tx: Store, *, place: int | None = None, start: bool = True) -> KeptRun:
    """Add a run of WORKFLOW, started or waiting."""
    await tx.put_workflow("demo", WORKFLOW, "ada")
    plan = await tx.plan_in_force("demo", "w")
    made = KeptRun(
        run=Run(tx.new_id(), RunState.PENDING, {"id": "e1", "data": {"n": 1}}),
        plan=plan,
        namespace="demo",
        workflow="w",
        sha256=WORKFLOW.sha256,
        principal="ada",
        trigger_name="t" if place is not None else "",
        place=place,
        traceparent="",
        created_at=tx.now,
    )
    decided = []
    if start:
        decision = decide(made.run, plan, [MayStart()], tx.now, tx.new_id)
        made.run = decision.run
        decided.append((made, decision))
    tx.add_runs([made])
    tx.save_decisions(decided, new=True)
    return made


def tell(made: KeptRun, happened: Input, tx: Store) -> Decision:
    decision = decide(made.run, made.plan, [happened], tx.now, tx.new_id)
    made.run = decision.run
    tx.save_decisions([(made, decision)])
    return decision


async def every_item(tx: Store, run_id: UUID, limit: int = 1_000, state: str = "") -> list[str]:
    """Return the paths of all that is over in a run, page by page; what is on several is there so often."""
    names, after = [], ""
    while True:
        asked = ShowRun(namespace="demo", run_id=run_id, after=after)
        page = await tx.past(run_id, limit, state, asked.after)
        names += [task.name for task in page.records]
        if not (after := page.next_after):
            return names


async def over(tx: Store, **states: str) -> UUID:
    """Add a run with records of what is over, a second after one another; return its id."""
    made = await kept(tx)
    for n, (name, state) in enumerate(states.items()):
        await tx.fetch(
            "INSERT INTO task_past"
            " (run_id, name, task_id, state, attempt, failures, losses, fraction, message, began_at)"
            " VALUES ($1, $2, gen_random_uuid(), $3, 1, 0, 0, 1, '', '2026-01-01'::timestamptz + $4 * interval '1 s')",
            made.run.run_id,
            name,
            state,
            n,
        )
    return made.run.run_id


async def test_pages_of_items_begin_with_those_that_failed_and_hold_all_that_is_in_them(tx: Store) -> None:
    run_id = await over(
        tx,
        **{"side.left": "succeeded", "each[1]": "succeeded", "each[1].fit": "succeeded", "each[2]": "failed"},
        **{"each[2].fit": "failed", "each[3]": "cancelled"},
    )

    names = await every_item(tx, run_id, 1)

    assert [name for name in names if name != "side.left"] == [
        *("each[2]", "each[2].fit"),
        *("each[1]", "each[1].fit"),
        "each[3]",
    ]
    assert sorted({*names}) == sorted(await every_item(tx, run_id))
    assert await every_item(tx, run_id, 1, "cancelled") == ["side.left", "each[3]"]
    assert await every_item(tx, run_id, 1, "failed") == ["side.left", "each[2]", "each[2].fit"]


async def test_an_item_within_another_comes_with_what_it_is_in(tx: Store) -> None:
    run_id = await over(
        tx,
        **{"a[1].pick.large.b[x]": "failed", "a[1].pick.large.b[x].c": "failed", "a[1].pick.large.b[y]": "succeeded"},
        **{"a[1].pick.large": "succeeded", "a[1].pick": "succeeded", "a[1]": "succeeded", "a[2]": "succeeded"},
    )

    names = await every_item(tx, run_id, 10, "failed")

    assert {*names} == {
        *("a[1]", "a[1].pick", "a[1].pick.large", "a[1].pick.large.b[x]", "a[1].pick.large.b[x].c"),
    }


async def test_a_page_of_items_ends_where_it_has_very_many_records(tx: Store) -> None:
    items = {f"each[{n}]": "succeeded" for n in range(6)}
    inner = {f"each[{n}].t{m}": "succeeded" for n in range(6) for m in range(MOST_RECORDS // 4)}
    run_id = await over(tx, **items, **inner)

    page = await tx.past(run_id, 1_000)

    assert sum(task.name.endswith("]") for task in page.records) == 4
    assert sorted(await every_item(tx, run_id)) == sorted([*items, *inner])


async def test_a_workflow_in_force_is_the_version_applied_last(tx: Store) -> None:
    other = parse_workflow({"name": "w", "tasks": {"a": {"kind": "data.z"}}})

    assert await tx.put_workflow("demo", WORKFLOW, "ada") == ""
    assert await tx.put_workflow("demo", WORKFLOW, "ada") is None
    assert await tx.put_workflow("demo", other, "bob") == WORKFLOW.sha256

    assert (await tx.plan_in_force("demo", "w")).workflow == other
    assert (await tx.plans([WORKFLOW.sha256]))[WORKFLOW.sha256].workflow == WORKFLOW


async def test_a_workflow_is_found_in_force_or_by_its_version(tx: Store) -> None:
    other = parse_workflow({"name": "w", "tasks": {"a": {"kind": "data.z"}}})
    await tx.put_workflow("demo", WORKFLOW, "ada")
    await tx.put_workflow("demo", other, "bob")

    now, before = await tx.workflow("demo", "w"), await tx.workflow("demo", "w", WORKFLOW.sha256)

    assert (now["sha256"], now["principal"], json.loads(now["document"])) == (other.sha256, "bob", other.document())
    assert (before["sha256"], before["principal"]) == (WORKFLOW.sha256, "")
    assert [row["name"] for row in await tx.workflows("demo", "", 9)] == ["w"]
    assert await tx.workflows("other", "", 9) == []
    assert await tx.workflows_there("demo", ["w", "v"]) == {"w"}
    with pytest.raises(NotFound, match="workflow w 00 in namespace demo"):
        await tx.workflow("demo", "w", "00")


async def test_a_workflow_of_another_namespace_does_not_exist(tx: Store) -> None:
    await tx.put_workflow("demo", WORKFLOW, "ada")

    with pytest.raises(NotFound, match="workflow w in namespace other"):
        await tx.plan_in_force("other", "w")


async def test_sources_and_triggers_come_back_as_they_were_put(tx: Store) -> None:
    await tx.put_workflow("demo", WORKFLOW, "ada")
    tx.put_source("demo", TRIGGER.source)
    tx.put_source("demo", Source(topic="late", start="now"))
    tx.put_trigger("demo", TRIGGER, "ada")

    rules = await tx.rules()
    assert rules.readers("triggers") == [("demo", TRIGGER.source)]
    assert [rule.trigger for rule in rules.index.candidates("demo", "triggers", EVENT)] == [TRIGGER]
    assert await tx.hold_trigger("demo", "t") == TRIGGER
    assert await tx.hold_source("demo", "triggers") == TRIGGER.source
    assert await tx.triggers_of("demo", "triggers", but="t") == []
    (row,) = await tx.fetch(LOOK)
    assert look_of(row).topics == {"triggers": True, "late": False}


async def test_a_run_comes_back_as_it_was_decided(tx: Store) -> None:
    made = await kept(tx)
    first = made.run.tasks["a"]
    tell(made, Failed("a", first.task_id, 1, first.token or UUID(int=0), Failure("E", "no")), tx)

    found = await tx.hold_run("demo", made.run.run_id)

    assert found.run == made.run
    assert [(row["attempt"], row["error"]) for row in await tx.attempts(made.run.run_id)] == [(1, "E")]
    assert (await tx.run("demo", made.run.run_id)).run == made.run
    assert [held.run for held in await tx.hold_runs([made.run.run_id, UUID(int=0)])] == [made.run]


async def test_a_failure_is_read_by_a_former_version_and_one_of_a_later_version_by_this(tx: Store) -> None:
    made = await kept(tx)
    first = made.run.tasks["a"]
    tell(made, Failed("a", first.task_id, 1, first.token or UUID(int=0), Failure("E", "no", lost=True)), tx)
    told = {"error": "E", "message": "no", "lost": True}
    run_id = made.run.run_id

    assert await tx.fetch("SELECT failure FROM task WHERE run_id = $1 AND name = 'a'", run_id) == [(told,)]
    later = json.dumps({**told, "of_a_later_version": 1})
    await tx.fetch("UPDATE task SET failure = $2::text::jsonb WHERE run_id = $1 AND name = 'a'", run_id, later)
    assert (await tx.run("demo", run_id)).run.tasks["a"].failure == Failure("E", "no", lost=True)


async def test_an_output_comes_back_as_it_was_told(tx: Store) -> None:
    made = await kept(tx)
    first = made.run.tasks["a"]
    output: dict[str, Any] = {"text": "ü\n", "list": [1, 2.5, None, True], "nothing": None}
    tell(made, Succeeded("a", first.task_id, 1, first.token or UUID(int=0), output), tx)

    assert (await tx.run("demo", made.run.run_id)).run.tasks["a"].output == output


async def test_a_run_of_another_namespace_does_not_exist(tx: Store) -> None:
    made = await kept(tx)

    with pytest.raises(NotFound, match=f"run {made.run.run_id} in namespace other"):
        await tx.run("other", made.run.run_id)


async def test_runs_are_listed_newest_first_and_by_page(tx: Store) -> None:
    ids = [(await kept(tx)).run.run_id for _ in range(3)]

    newest = await tx.list_runs("demo", "w", "running", None, 2)
    older = await tx.list_runs("demo", "", "", newest[-1].run.run_id, 10)

    assert [found.run.run_id for found in newest] == [ids[2], ids[1]]
    assert [found.run.run_id for found in older] == [ids[0]]
    assert await tx.list_runs("demo", "other", "", None, 10) == []


async def test_what_is_due_is_found_and_what_is_not_is_left(tx: Store) -> None:
    made, other = await kept(tx), await kept(tx)
    await tx.fetch("UPDATE task SET due_at = now() WHERE run_id = $1", made.run.run_id)

    assert await tx.due() == ([made.run.run_id], [])
    await tx.fetch("UPDATE run SET due_at = now() - interval '1 s' WHERE run_id = $1", other.run.run_id)
    assert set((await tx.due())[0]) == {made.run.run_id, other.run.run_id}


async def test_a_queue_gives_a_turn_to_its_first_run_that_has_not_started(tx: Store) -> None:
    held = await in_force(tx)
    first = await kept(tx, place=1)
    second = await kept(tx, place=2, start=False)
    held.queued = 2
    tx.save_trigger(held)
    assert await tx.due() == ([], [])
    assert [(run.run_id, run.waits) for run in await tx.open_in(*held.key, waiting=False)] == [
        (first.run.run_id, False),
        (second.run.run_id, True),
    ]
    assert await tx.begun_in(*held.key, held.queued, 10) == 1

    await tx.fetch(
        "UPDATE run SET state = 'failed', due_at = NULL, ended_at = now() WHERE run_id = $1", first.run.run_id
    )

    assert await tx.due() == ([], [Turn("demo", "t")])
    held = await tx.hold_one("demo", "t")
    assert [run.run_id for run in await tx.open_in(*held.key, waiting=True)] == [second.run.run_id]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE task SET due_at = NULL",
        "UPDATE task SET state = 'succeeded'",
        "UPDATE task SET token = NULL",
        "UPDATE run SET due_at = NULL",
        "UPDATE run SET state = 'succeeded'",
    ],
)
async def test_r1_the_database_refuses_an_open_attempt_or_run_that_nothing_would_wake(tx: Store, sql: str) -> None:
    await kept(tx)

    with pytest.raises(asyncpg.CheckViolationError):
        await tx.fetch(sql)


def starts_of(tx: Store, *records: Record, key: str = "") -> list[Start]:
    """Return a start of a run by each record, under a key of its own where none is given."""
    arrivals = [Arrival("demo", read_record(record, TRIGGER.source), record) for record in records]
    return [Start(arrival, "t", key or f"key {n}", tx.new_id()) for n, arrival in enumerate(arrivals)]


async def test_an_event_is_kept_once_and_its_deliveries_are_counted(tx: Store, landed: Any) -> None:
    one, again, two = landed("e1", {"n": 1}), landed("e1", {"n": 2}, offset=1), landed("e2", offset=2)

    fresh = starts_of(tx, one, again, two)
    assert await tx.add_events([start.arrival for start in fresh], fresh) == [fresh[0], fresh[2]]
    known = starts_of(tx, one, again)
    assert await tx.add_events([start.arrival for start in known], known) == []

    found = await tx.event("demo", "/airport", "e1")
    assert found is not None
    assert (found.event.data, found.deliveries, found.topic) == ({"n": 1}, 2, "triggers")
    assert await tx.event("other", "/airport", "e1") is None


async def test_a_dedupe_key_starts_one_run_whoever_asks(tx: Store, landed: Any) -> None:
    starts = starts_of(tx, *(landed(f"e{n}", offset=n) for n in (1, 2, 3)), key="key")
    arrivals = [start.arrival for start in starts]

    assert await tx.add_events(arrivals[:2], starts[:2]) == starts[:1]
    assert await tx.add_events(arrivals[2:], starts[2:]) == []

    matches = [(await tx.matches("demo", "/airport", name))[0] for name in ("e1", "e2", "e3")]
    assert [found.disposition for found in matches] == ["started", "duplicate", "duplicate"]
    assert {found.run_id for found in matches} == {starts[0].run_id}


async def in_force(tx: Store, trigger: Trigger = TRIGGER) -> HeldTrigger:
    """Put a trigger in force, and hold it."""
    await tx.put_workflow("demo", WORKFLOW, "ada")
    tx.put_source("demo", trigger.source or Source(topic="triggers"))
    tx.put_trigger("demo", trigger, "ada")
    return await tx.hold_one("demo", trigger.name)


async def test_a_held_trigger_comes_back_as_it_was_saved(tx: Store) -> None:
    held = await in_force(tx)
    assert (held.queued, held.admitted, held.paused_at, held.draining) == (0, 0, None, False)

    held.queued, held.admitted, held.paused_at, held.paused_by = 3, 2, tx.now, "bob"
    held.admit_at = held.full_at = tx.now
    held.draining, held.last_run = True, UUID(int=1)
    tx.save_trigger(held)
    tx.save_standing(held)

    again = (await tx.hold_triggers([("demo", "t"), ("demo", "other")]))["demo", "t"]
    assert {name: getattr(again, name) for name in again.__slots__} == {
        name: getattr(held, name) for name in held.__slots__
    }


@pytest.mark.parametrize("table", ["run", "task"])
async def test_looking_for_what_is_due_reads_an_index(tx: Store, table: str) -> None:
    plan = await tx.fetch(f"EXPLAIN SELECT run_id FROM {table} WHERE due_at <= now()")

    assert f"{table}_due" in str([row[0] for row in plan])


async def test_a_trigger_put_again_replaces_the_old_one(tx: Store) -> None:
    await tx.put_workflow("demo", WORKFLOW, "ada")
    tx.put_source("demo", TRIGGER.source)
    tx.put_trigger("demo", TRIGGER, "ada")
    await tx.rules()
    paused: Trigger = TRIGGER.model_copy(update={"paused": True})

    tx.put_trigger("demo", paused, "bob")

    triggers = (await tx.rules()).index.candidates("demo", "triggers", EVENT)
    assert [(rule.paused, rule.principal) for rule in triggers] == [(True, "bob")]


async def test_a_migration_outside_a_transaction_bears_to_be_done_again(postgres: Server) -> None:
    dsn = await fresh_database(postgres, "control")
    again = [
        (name, sql) for _, name, sql in migrate.migrations("control", post=True) if sql.startswith(migrate.OUTSIDE)
    ]
    connection = await asyncpg.connect(dsn)
    try:
        for name, sql in again:
            await migrate.apply(connection, "again", name, sql)
        done = await connection.fetch("SELECT migration FROM schema_version WHERE package = 'again'")
    finally:
        await connection.close()

    assert {row["migration"] for row in done} == {name for name, _ in again} >= {"0005_pre_triggers.sql"}
