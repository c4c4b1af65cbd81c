"""PostgreSQL restarted, replaced by its standby, frozen, locked and full."""

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import grpc
from millrace.contracts import SERVICES
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.sdk.stack.ports import free_ports

from tests.faults.judge import Judged
from tests.faults.rows import FULL, row
from tests.faults.stack import Stack, running
from tests.faults.standby import Standby, address_of, make_read_only

FROZEN_S, LOCKED_S, TAKEN_S = 25.0, 60.0, 15.0
#: What a call waits for at most before it is refused: a place (1 s), a connection (10 s), a lock (5 s).
REFUSED_S = 16.0
#: What that may take longer on a machine that is busy.
MARGIN_S = 2.0
#: How long a client waits who wants to see whether it would be left hanging.
PATIENCE_S = 60.0
REFUSALS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
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
    injected = f"all of PostgreSQL stopped for {FROZEN_S:g} s"
    async with judged(13, stack, injected) as fault, asking(stack) as frozen_s:
        stack.signal("postgres", signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        stack.signal("postgres", signal.SIGCONT)
        fault.over()
    injected = f"tables of control and data locked for {LOCKED_S:g} s"
    async with quick(13, stack, injected) as fault, asking(stack) as locked_s:
        async with lock(stack, "control", "run"), lock(stack, "data", "job"):
            await asyncio.sleep(LOCKED_S)
        fault.over()
    async with quick(13, stack, f"all connections taken for {TAKEN_S:g} s") as fault, asking(stack) as taken_s:
        async with all_connections(stack):
            await asyncio.sleep(TAKEN_S)
        fault.over()
    for longest_s in (frozen_s, locked_s, taken_s):
        refused = longest_s.keys() & REFUSALS
        assert refused
        assert all(longest_s[code] < REFUSED_S + MARGIN_S for code in refused), longest_s
        assert longest_s.keys() - REFUSALS <= {grpc.StatusCode.OK}, longest_s


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


@asynccontextmanager
async def asking(stack: Stack) -> AsyncIterator[dict[grpc.StatusCode, float]]:
    """Ask control every second, with time for more than any refusal takes; yield how long each status took at most.

    All that was asked until the end has its answer then.
    """
    longest_s: dict[grpc.StatusCode, float] = defaultdict(float)
    metadata = (("authorization", f"Bearer {stack.authority.token('dev')}"),)
    # Refused once, it is not asked again: what is measured is one answer.
    plain = grpc.aio.insecure_channel(stack.deployment.services["control"].target, [("grpc.enable_retries", 0)])
    async with plain as channel, asyncio.TaskGroup() as calls:
        stub = ControlServiceStub(channel)

        async def one() -> None:
            began, code = time.monotonic(), grpc.StatusCode.OK
            try:
                asked = control_pb2.ListRunsRequest(namespace="nobody")
                await stub.ListRuns(asked, timeout=PATIENCE_S, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                code = error.code()
            longest_s[code] = max(longest_s[code], time.monotonic() - began)

        async def go_on() -> None:
            while True:
                calls.create_task(one())
                await asyncio.sleep(1)

        going = calls.create_task(go_on())
        try:
            yield longest_s
        finally:
            going.cancel()
