"""What is taken for granted, and what becomes of it where it was not so."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from millrace.contracts.data import VersionPublished
from millrace.contracts.event import Event
from millrace.contracts.feature import ViewApplied
from millrace.contracts.tasks import Output
from millrace.runtime import inbox
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.client import Channels, Token
from millrace.runtime.consume import Readers
from millrace.runtime.consume.settlement import Settlement
from millrace.runtime.database import Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.hope import FIRST_S, Hope
from millrace.runtime.ids import new_id
from millrace.runtime.statements import UNEXPECTED
from millrace.runtime.subscriptions import Record, on, task
from millrace.runtime.tasks import Job, Workers
from millrace.runtime.testing import until
from millrace.runtime.transaction import UnexpectedError
from pydantic import BaseModel
from runtime_effects import ORDER, Effects, settings_of, version

ADD = "INSERT INTO effect (name) VALUES ($1)"
RENAME = "UPDATE effect SET name = $2 WHERE name = $1 RETURNING 1"
NOW = datetime(2026, 11, 29, tzinfo=UTC)
EMPTY = UNEXPECTED.format(what="an effect", where="EXISTS (SELECT FROM effect)")


class Step(BaseModel):
    """What the task gets: nothing."""


async def work(_: Step, __: Job) -> int:
    return 1


async def keep(n: int, tx: Effects) -> Output:
    tx.write_last(ADD, "worked")
    return {"n": n}


async def add_and_tell(event: VersionPublished, tx: Effects) -> None:
    tx.write_last(ADD, event.dataset)
    tx.emit(ViewApplied(namespace="demo", view=event.dataset, view_hash="h"))


TASK = task("data.trial", Step, work, keep)


async def outbox(begin: Transactions[Effects]) -> list[str]:
    async with begin() as tx:
        return [row["key"] for row in await tx.fetch("SELECT key FROM outbox ORDER BY id")]


async def names(begin: Transactions[Effects]) -> list[str]:
    async with begin() as tx:
        return await tx.names()


async def test_what_hopes_and_reads_nothing_is_one_statement(begin: Transactions[Effects]) -> None:
    sent: list[str] = []
    async with begin.hoping() as tx:
        tx._connection.add_query_logger(lambda record: sent.append(record.query))
        tx.hope(EMPTY)
        tx.hope(inbox.CLAIM_NEW, [new_id(1.0)])
        tx.write_last(ADD, "a")
        tx.emit(version("d"))

    assert [query for query in sent if "effect" in query or query in {"BEGIN", "COMMIT"}] == sent[-1:]
    assert await names(begin) == ["a"]
    assert await outbox(begin) == ["d"]


async def test_what_hopes_and_reads_is_a_transaction_like_any_other(begin: Transactions[Effects]) -> None:
    async def fail() -> None:
        async with begin.hoping() as tx:
            tx.write_last(ADD, "undone")
            assert await tx.names() == ["undone"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await names(begin) == []

    async with begin.hoping() as tx:
        tx.add("kept")
        assert await tx.names() == ["kept"]
        tx.emit(version("d"))
    assert await names(begin) == ["kept"]
    assert await outbox(begin) == ["d"]


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("hoped", ["nothing there", "new", "one row"])
async def test_of_what_hoped_in_vain_nothing_is_left_and_nobody_is_told(
    hoped: str, reads: bool, begin: Transactions[Effects]
) -> None:
    event_id, told = new_id(1.0), []
    async with begin() as tx:
        tx.add("before")
        tx.write(inbox.CLAIM_NEW, [event_id])

    async def attempt() -> None:
        async with begin.hoping() as tx:
            if reads:
                await tx.names()
            tx.write_last(ADD, "after")
            tx.emit(version("d"))
            tx.on_commit(lambda: told.append("after"))
            match hoped:
                case "nothing there":
                    tx.hope(EMPTY)
                case "new":
                    tx.hope(inbox.CLAIM_NEW, [event_id])
                case "one row":
                    tx.hope(RENAME, "not there", "renamed", rows=1)

    with pytest.raises(UnexpectedError):
        await attempt()
    assert await names(begin) == ["before"]
    assert await outbox(begin) == []
    assert told == []


async def test_as_many_rows_as_hoped_for_are_changed_with_the_rest(begin: Transactions[Effects]) -> None:
    async with begin() as tx:
        tx.add("a")

    async with begin.hoping() as tx:
        tx.hope(RENAME, "a", "b", rows=1)
        tx.emit(version("d"))

    assert await names(begin) == ["b"]
    assert await outbox(begin) == ["d"]


async def test_what_hoped_in_vain_is_done_without_hope_and_hopes_again_after_a_while(
    begin: Transactions[Effects],
) -> None:
    hopes: list[bool] = []
    hope = Hope("test")

    async def attempt(tx: Effects) -> str:
        hopes.append(tx.hopes)
        if tx.hopes:
            tx.hope(EMPTY)
        tx.write_last(ADD, str(len(hopes)))
        return "done"

    assert await begin.database.healthy()  # and has told the time

    async def again() -> bool:
        await hope.do(begin, attempt)
        return hopes[-2:] == [True, False]

    assert [await hope.do(begin, attempt) for _ in range(3)] == ["done"] * 3
    assert await names(begin) == ["1", "3", "4"]
    assert hopes == [True, True, False, False]
    await until(again, seconds=FIRST_S * 100)
    assert [await hope.do(begin, attempt, possible=False), hopes[-1]] == ["done", False]


async def test_what_fails_in_hope_fails_only_if_it_does_so_without(begin: Transactions[Effects]) -> None:
    async def fail_in_hope(tx: Effects) -> str:
        if tx.hopes:
            raise ZeroDivisionError
        return "done"

    async def fail(tx: Effects) -> None:
        raise KeyError(tx.hopes)

    assert await Hope("test").do(begin, fail_in_hope) == "done"
    with pytest.raises(KeyError, match="False"):
        await Hope("test").do(begin, fail)


async def test_what_a_handler_forgives_in_a_part_is_not_what_was_hoped(begin: Transactions[Effects]) -> None:
    event_id = new_id(1.0)
    async with begin() as tx:
        tx.write(inbox.CLAIM_NEW, [event_id])

    async def forgive(tx: Effects) -> None:
        if tx.hopes:
            tx.hope(inbox.CLAIM_NEW, [event_id])
        tx.add("kept")
        with suppress(asyncpg.PostgresError):
            async with tx.part() as part:
                part.write("INSERT INTO nowhere VALUES ($1)", 1)

    await Hope("test").do(begin, forgive)

    assert await names(begin) == ["kept"]


async def test_a_transaction_one_of_whose_statements_has_failed_unseen_is_not_taken_for_committed(
    begin: Transactions[Effects],
) -> None:
    async def hide() -> None:
        async with begin() as tx:
            tx.add("lost")
            with suppress(asyncpg.PostgresError):
                await tx.fetch("SELECT nothing")

    with pytest.raises(UnexpectedError):
        await hide()


async def test_a_round_an_acceptance_and_a_finish_are_one_statement_each(
    begin: Transactions[Effects], tmp_path: Path
) -> None:
    sent: list[str] = []
    async with begin.database.connection() as connection:
        connection.add_query_logger(lambda record: sent.append(record.query))
    settlement, readers = Settlement("data", begin, one_by_one=False), Readers()
    workers = Workers(
        "data",
        settings_of("postgresql://", "nowhere:1", tmp_path),
        begin,
        (TASK,),
        Artifacts(tmp_path.as_uri(), owner="data"),
        Channels({}, Token(tmp_path / "token")),
    )
    readers.subscribe(on(VersionPublished, add_and_tell, start="earliest"), *workers.subscriptions)
    running = asyncio.create_task(workers.run())

    async def settled(event: Event) -> list[str]:
        sent.clear()
        headers = tuple(
            (n, v.encode()) for n, v in headers_of(event, new_id(begin.database.clock.time()), NOW, None, "").items()
        )
        place = Record(event.topic_name(), 0, 0, event.key().encode(), event.model_dump_json().encode(), headers, 0)
        await settlement.settle([readers.read(place)])
        return [query for query in sent if "pg_catalog" not in query and "jit" not in query]

    async def finished() -> list[str]:
        return [query for query in sent if "UPDATE job" in query]

    begun = await begin.database.healthy()
    [of_round] = await settled(version("d"))
    [of_acceptance, *rest] = await settled(ORDER)
    [of_finish] = await until(finished)
    running.cancel()

    assert begun
    assert "inbox" in of_round
    assert "INSERT INTO job" in of_acceptance
    assert all("UPDATE job" in query for query in rest)
    assert "outbox" in of_finish
    assert not {"BEGIN", "COMMIT"} & {*sent}
