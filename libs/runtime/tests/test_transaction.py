"""What one transaction takes, and what it says when it cannot."""

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest
from millrace.runtime.connection import hindered
from millrace.runtime.database import Transactions
from millrace.runtime.envelope import MAX_EMITTED_BYTES
from millrace.runtime.errors import InvalidInput, Unavailable
from millrace.runtime.statements import together
from runtime_effects import ORDER, Effects, version

ADD = "INSERT INTO effect (name) VALUES ($1)"
ADD_OTHER = "INSERT INTO effect (name) VALUES ($1), ($2)"


async def test_an_event_that_no_broker_takes_is_refused_before_it_holds_up_the_others(
    begin: Transactions[Effects],
) -> None:
    async with begin() as tx:
        with pytest.raises(InvalidInput, match=r"VersionPublished d has \d+ bytes, more than"):
            tx.emit(version("d").model_copy(update={"source_uri": "x" * MAX_EMITTED_BYTES}))
        assert tx.emitted == []


@pytest.mark.parametrize(("fails", "told_of"), [("not", 2), ("in all", 0), ("in a part", 0), ("in a part, stopped", 0)])
async def test_a_transaction_that_has_ended_is_gone_without_a_garbage_collection(
    begin: Transactions[Effects], fails: str, told_of: int
) -> None:
    made: list[weakref.ref[Effects]] = []
    told: list[str] = []

    def note(tx: Effects) -> None:
        tx.on_commit(lambda: told.append(str(tx)))  # which holds it
        made.append(weakref.ref(tx))

    async def transact() -> None:
        async with begin() as tx:
            note(tx)
            async with tx.part() as part:
                note(part)
                if fails == "in a part":
                    raise ZeroDivisionError
                if fails == "in a part, stopped":
                    raise asyncio.CancelledError
            if fails == "in all":
                raise ZeroDivisionError

    gc.disable()
    try:
        with suppress(ZeroDivisionError, asyncio.CancelledError):
            await transact()
        assert [ref() for ref in made] == [None, None]
    finally:
        gc.enable()
    assert len(told) == told_of


async def test_a_connection_that_is_reset_under_a_transaction_is_a_database_that_is_away(
    begin: Transactions[Effects],
) -> None:
    async def ask() -> None:
        async with begin() as tx:
            tx._connection.terminate()
            await tx.fetch("SELECT 1")

    with pytest.raises(Unavailable):
        await ask()


async def test_a_server_that_ends_between_two_statements_is_a_database_that_is_away(
    begin: Transactions[Effects],
) -> None:
    fields = b"SFATAL\0C57P02\0Mterminating connection because of crash of another server process\0\0"
    said = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields

    async def ask() -> None:
        async with begin() as tx:
            await tx.fetch("SELECT 1")
            # Its last word has come, the end of the connection has not: on a socket that is a moment, if any.
            tx._connection._protocol.data_received(said)

    with pytest.raises(Unavailable):
        await ask()
    async with begin() as tx:
        assert await tx.names() == []


async def test_a_server_that_does_not_answer_is_unavailable_though_its_connection_lives_on(
    begin: Transactions[Effects],
) -> None:
    with pytest.raises(Unavailable) as error:
        async with begin() as tx:
            # As the bound on every statement does, only sooner.
            await tx._connection.execute("SELECT pg_sleep(20)", timeout=0.1)
    assert hindered(error.value)
    async with begin() as tx:
        assert await tx.names() == []


async def test_a_handlers_own_timeout_is_not_taken_for_the_databases(begin: Transactions[Effects]) -> None:
    with pytest.raises(TimeoutError):
        async with begin():
            raise TimeoutError


async def test_a_transaction_that_raises_leaves_nothing_and_tells_nothing(begin: Transactions[Effects]) -> None:
    written: list[Any] = []
    called: list[str] = []

    async def fail() -> None:
        async with begin() as tx:
            tx.add("undone")
            tx.emit(version("undone"))
            tx.on_commit(lambda: called.append("undone"))
            await tx.flush()
            written.extend([await tx.names(), [row["key"] for row in await tx.fetch("SELECT key FROM outbox")]])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with begin() as tx:
        left = [await tx.names(), await tx.fetch("SELECT key FROM outbox")]

    assert written == [["undone"], ["undone"]]
    assert left == [[], []]
    assert called == []


async def test_what_is_written_last_leaves_in_one_statement_with_the_events(begin: Transactions[Effects]) -> None:
    sent: list[str] = []
    async with begin() as tx:
        tx._connection.add_query_logger(lambda record: sent.append(record.query))
        tx.write_last(ADD, "a")
        tx.write_last(ADD_OTHER, "b", "c")
        tx.emit(version("d"))

    assert len([query for query in sent if "effect" in query or "outbox" in query]) == 1
    async with begin() as tx:
        assert sorted(await tx.names()) == ["a", "b", "c"]
        assert [row["key"] for row in await tx.fetch("SELECT key FROM outbox")] == ["d"]


async def test_a_read_sees_what_is_to_be_written_last(begin: Transactions[Effects]) -> None:
    async with begin() as tx:
        tx.write_last(ADD, "a")
        tx.write_last(ADD, "b")
        tx.write_last(ADD_OTHER, "c", "d")
        assert sorted(await tx.names()) == ["a", "b", "c", "d"]


def test_statements_in_one_take_the_parameters_of_each_in_turn() -> None:
    assert together("A $1 $2 $1", "B", "WITH c AS (C $1) D $2 $12") == (
        "WITH part0 AS (A $1 $2 $1), part1 AS (B), c AS (C $3) D $4 $14"
    )
    assert together("A $1", "B $1") == "WITH part0 AS (A $1) B $2"
    assert together("A $1") == "A $1"


@pytest.mark.parametrize("hopes", [False, True])
async def test_what_was_committed_is_handed_over_as_the_table_has_it(hopes: bool, begin: Transactions[Effects]) -> None:
    begin.database.handover.open()
    for names in (["a", "b", "a"], ["a"]):
        async with begin.hoping() if hopes else begin() as tx:
            for name in names:
                tx.emit(version(name))
            tx.emit(ORDER)

    handed = begin.database.handover.take()
    async with begin() as tx:
        rows = await tx.fetch("SELECT id, topic, key, headers, value FROM outbox ORDER BY id")

    assert [(row.id, row.topic, row.key, row.value) for row in handed] == [
        (row["id"], row["topic"], row["key"], row["value"]) for row in rows
    ]
    assert [dict(row.encoded_headers()) for row in handed] == [
        {name: text.encode() for name, text in row["headers"].items()} for row in rows
    ]
    assert [row.sequence for row in handed] == [1, 1, 2, 0, 3, 0]


async def test_what_was_not_committed_is_not_handed_over(begin: Transactions[Effects]) -> None:
    begin.database.handover.open()

    async def fail() -> None:
        async with begin() as tx:
            tx.emit(version("a"))
            await tx.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert begin.database.handover.take() == []
