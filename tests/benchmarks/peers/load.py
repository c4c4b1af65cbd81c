"""The closed loop of all peers, run by a program of each in the environment of each: with the standard library alone.

Seconds come in on standard input, a line each; what was done in them goes out.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

STEPS = 5
IN_FLIGHT = 32
ANSWER = "closed-loop"


async def closed_loop(run: Callable[[], Awaitable[Any]], seconds: float) -> tuple[int, float]:
    """Begin runs for so long, `IN_FLIGHT` open at a time; return how many ended well and the time until all had."""
    done = 0
    began = time.perf_counter()

    async def one_after_another() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            result = await run()
            if result != STEPS:
                raise RuntimeError(f"a run of {STEPS} steps that add 1 came to {result}")
            done += 1

    await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
    return done, time.perf_counter() - began


async def answer(run: Callable[[], Awaitable[Any]]) -> None:
    """Go round the loop as often as it is asked for, until there is no more to read."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        done, took_s = await closed_loop(run, float(line))
        print(ANSWER, done, took_s, flush=True)
