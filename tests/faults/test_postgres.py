"""PostgreSQL restarted, replaced by its standby, frozen, locked and full."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
from millrace.contracts import SERVICES
from millrace.sdk.stack.ports import free_ports

from tests.faults.history import History
from tests.faults.judge import Judged
from tests.faults.load import ANSWER_S
from tests.faults.rows import FULL, row
from tests.faults.stack import Stack, running
from tests.faults.standby import Standby, address_of, make_read_only

FROZEN_S, LOCKED_S, TAKEN_S = 20.0, 60.0, 15.0
#: What a client may wait beyond the deadline of its call.
MARGIN_S = 2.0
_END_SOME = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 5
"""
_END_OTHERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> ALL($1::int[])
"""


@row(11, short=True)
async def test_row_11_a_restart_of_postgres_loses_and_doubles_nothing(stack: Stack, judged: Judged) -> None:
    async with judged(11, stack, "immediate stop of PostgreSQL") as fault:
        stack.signal("postgres", signal.SIGQUIT)
        fault.over()
    if not FULL:
        return
    async with judged(11, stack, "fast stop of PostgreSQL"):
        stack.signal("postgres", signal.SIGINT)
    async with judged(11, stack, "5 random backends terminated, 20 times") as fault:
        for _ in range(20):
            await asyncio.to_thread(stack.postgres.execute, "postgres", _END_SOME)
            await asyncio.sleep(0.5)
        fault.over()


@row(12)
async def test_row_12_writers_follow_to_the_new_primary_and_what_was_acknowledged_is_there(
    tmp_path: Path, judged: Judged
) -> None:
    async with running(tmp_path, tcp=True) as stack:
        first, second = (tmp_path / name for name in ("standby-1", "standby-2"))
        one, two = free_ports(2)
        standby = Standby(stack.postgres, first, one)
        with stopping(standby, last := Standby(standby, second, two)):
            await asyncio.to_thread(standby.follow)
            await _lead(stack, standby, last)
            async with judged(12, stack, "primary read-only, standby promoted") as fault:
                await asyncio.to_thread(make_read_only, stack.postgres)
                await asyncio.to_thread(standby.take_over)
                fault.over()
            await asyncio.to_thread(last.follow)
            async with judged(12, stack, "primary killed, standby promoted, an older primary read-only") as fault:
                standby.kill()
                await asyncio.to_thread(last.take_over)
                fault.over()


@row(13)
async def test_row_13_a_database_that_does_not_do_its_work_sheds_and_hangs_nobody(stack: Stack, judged: Judged) -> None:
    quick = replace(judged, before_s=min(judged.before_s, 5), after_s=min(judged.after_s, 5))
    async with judged(13, stack, f"all of PostgreSQL stopped for {FROZEN_S:g} s") as frozen:
        stack.signal("postgres", signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        stack.signal("postgres", signal.SIGCONT)
        frozen.over()
    async with quick(13, stack, f"tables of control and data locked for {LOCKED_S:g} s") as locked:
        async with lock(stack, "control", "run"), lock(stack, "data", "job"):
            await asyncio.sleep(LOCKED_S)
        locked.over()
    async with quick(13, stack, f"all connections taken for {TAKEN_S:g} s") as taken:
        async with all_connections(stack):
            await asyncio.sleep(TAKEN_S)
        taken.over()
    for fault in (frozen, locked, taken):
        assert longest_s(fault.history) < ANSWER_S + MARGIN_S


@contextmanager
def stopping(*standbys: Standby) -> Iterator[None]:
    """Stop servers at the end."""
    try:
        yield
    finally:
        for standby in standbys:
            standby.stop(immediate=True)


async def _lead(stack: Stack, *standbys: Standby) -> None:
    """Tell every service where the database is, or will be."""
    told = {name: {f"{name.upper()}_POSTGRES_DSN": address_of(name, stack.postgres, *standbys)} for name in SERVICES}
    await asyncio.gather(*(stack.restart(name, **dsn) for name, dsn in told.items()))


@asynccontextmanager
async def lock(stack: Stack, database: str, table: str) -> AsyncIterator[None]:
    """Hold a lock on a whole table."""
    connection = await asyncpg.connect(stack.postgres.dsn(database))
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def all_connections(stack: Stack) -> AsyncIterator[None]:
    """Take every connection that there is, also those that the services had."""
    taken: list[asyncpg.Connection] = []
    try:
        taken.append(await asyncpg.connect(stack.postgres.dsn("postgres")))
        while await taken[0].fetchval(_END_OTHERS, [connection.get_server_pid() for connection in taken]):
            with suppress(asyncpg.TooManyConnectionsError):
                while True:
                    taken.append(await asyncpg.connect(stack.postgres.dsn("postgres")))
        yield
    finally:
        for connection in taken:
            connection.terminate()


def longest_s(history: History) -> float:
    """Return how long the client had to wait that waited longest for one answer, seconds."""
    asked: dict[tuple[str, str], float] = {}
    longest = 0.0
    for entry in history.entries:
        if entry.op not in {"start", "predict", "read"}:
            continue
        if entry.outcome == "invoke":
            asked[entry.op, entry.key] = entry.at
        else:
            longest = max(longest, entry.at - asked[entry.op, entry.key])
    return longest
