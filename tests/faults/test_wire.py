"""Bytes that no client of good will sends, at the doors of a service."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import grpc
import psutil
from millrace.runtime.testing import until

from tests.faults.judge import Judged
from tests.faults.rows import row
from tests.faults.stack import Stack
from tests.faults.wire import PREFACE, damaged, rapid_reset

METHOD = "/millrace.control.v1.ControlService/StartRun"
SAMPLES, ROUNDS, RESETS, LORISES = 100, 12, 1000, 100
#: What a connection that says nothing whole is given (rpc/server.py, health.py), and some time to see it.
PATIENCE_S = 20.0
#: What a pool of connections and of threads may grow by under load; the attack opens more than 300 connections.
MORE_FILES, MORE_THREADS, MORE_BYTES = 16, 8, 64 * 1024 * 1024


@row(30)
async def test_row_30_what_is_malformed_is_refused_and_leaves_nothing_behind(stack: Stack, judged: Judged) -> None:
    dice = random.Random(30)
    service = psutil.Process(stack.pid("control"))
    door, probes = (
        _place(at) for at in (stack.deployment.services["control"].target, stack.deployment.services["control"].http)
    )
    async with judged(30, stack, "malformed protobuf and HTTP/2, rapid reset, slow-loris: control") as fault:
        await _attack(door, dice, rounds=2)  # what is allocated once
        before = _held(service)
        lorises = [await _loris(*where) for where in (door, probes) for _ in range(LORISES)]
        assert await _answers(stack, dice) == {grpc.StatusCode.INVALID_ARGUMENT}
        await _attack(door, dice, rounds=ROUNDS)
        await until(lambda: _closed(lorises), seconds=PATIENCE_S)
        for _, writer in lorises:
            writer.transport.abort()
        fault.over()
        await fault.recovered()
        after = await _least_held(service, seconds=fault.bound_s or 0)

    more = tuple(now - then for now, then in zip(after, before, strict=True))
    assert all(grown <= most for grown, most in zip(more, (MORE_FILES, MORE_THREADS, MORE_BYTES), strict=True)), more
    assert stack.pid("control") == service.pid
    assert not fault.history.of("predict", "unknown")


async def _answers(stack: Stack, dice: random.Random) -> set[grpc.StatusCode]:
    """Return what is answered to messages that are none."""
    token = stack.authority.token("dev")
    found = set()
    async with grpc.aio.insecure_channel(stack.deployment.services["control"].target) as channel:
        send: Any = channel.unary_unary(METHOD)
        for _ in range(SAMPLES):
            try:
                await send(b"\xff" + dice.randbytes(200), timeout=5, metadata=(("authorization", f"Bearer {token}"),))
                found.add(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                found.add(error.code())
    return found


async def _attack(door: tuple[str, int], dice: random.Random, *, rounds: int) -> None:
    for _ in range(rounds):
        await asyncio.gather(*(_say(door, said) for said in (*damaged(METHOD, dice), rapid_reset(METHOD, RESETS))))


async def _say(door: tuple[str, int], said: bytes) -> None:
    """Say something, and hang up when it was answered or after a moment."""
    reader, writer = await asyncio.open_connection(*door)
    with suppress(OSError, TimeoutError):
        writer.write(said)
        await writer.drain()
        async with asyncio.timeout(1):
            while await reader.read(65536):
                pass
    writer.transport.abort()


async def _loris(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin to speak and never go on."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(PREFACE[:5])
    return reader, writer


async def _closed(lorises: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> bool:
    """Whether the other side has had enough of all of them."""
    for reader, _ in lorises:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.01):
                while await reader.read(65536):
                    pass
    return all(reader.at_eof() or reader.exception() for reader, _ in lorises)


def _held(service: psutil.Process) -> tuple[int, int, int]:
    """Return how many files, threads and bytes a process holds."""
    return service.num_fds(), service.num_threads(), service.memory_info().rss


async def _least_held(service: psutil.Process, seconds: float) -> tuple[int, int, int]:
    """Return the least of files, threads and memory that a process holds within so long."""
    held = [_held(service)]
    for _ in range(int(seconds)):
        await asyncio.sleep(1)
        held.append(_held(service))
    files, threads, memory = (min(values) for values in zip(*held, strict=True))
    return files, threads, memory


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").partition(":")
    return host, int(port)
