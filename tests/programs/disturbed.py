"""What is done to the stack while programs run on it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from signal import SIGCONT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM

from tests.faults.places import acted, end, start_armed
from tests.faults.stack import Stack
from tests.programs.program import LEASED, TAKEN
from tests.programs.written import SILENT_S

#: Some longer than a worker may be silent, most than the relay's lock is left to one that does nothing (10 s).
FROZEN_S = (9.0, SILENT_S + 3.0)
BACK_S = 90.0

Begin = Callable[[], Awaitable[None]]
"""Begins programs, and returns when they are under way."""
Disturb = Callable[[Stack, random.Random, Begin], Awaitable[None]]
"""Does something to a stack while programs run on it, and returns when all of it is ready again."""


async def kill_control(stack: Stack, chosen: random.Random, begin: Begin) -> None:
    """`kill -9` of one process of control, or of all."""
    await begin()
    await _kill(stack, _some(stack, chosen))


async def freeze_control(stack: Stack, chosen: random.Random, begin: Begin) -> None:
    """SIGSTOP of one process of control, or of all, and SIGCONT."""
    await begin()
    await _freeze(stack, _some(stack, chosen), chosen.uniform(*FROZEN_S))


async def kill_workers(stack: Stack, _: random.Random, begin: Begin) -> None:
    """`kill -9` of all who do tasks."""
    await begin()
    await _kill(stack, _workers(stack))


async def freeze_workers(stack: Stack, chosen: random.Random, begin: Begin) -> None:
    """SIGSTOP of all who do tasks, and SIGCONT when control has given them up."""
    await begin()
    await _freeze(stack, _workers(stack), chosen.uniform(*FROZEN_S))


async def kill_relay(stack: Stack, _: random.Random, begin: Begin) -> None:
    """`kill -9` of control where its relay has sent what it has not deleted yet."""
    await _at_relay(stack, "outbox.after_send", "kill", begin)


async def freeze_relay(stack: Stack, chosen: random.Random, begin: Begin) -> None:
    """The relay stands still with what it has read and not sent, until another has taken its place."""
    seconds = chosen.uniform(*FROZEN_S)
    await _at_relay(stack, "outbox.read", f"sleep:{seconds:.0f}", begin)
    await asyncio.sleep(seconds)
    await stack.ready(seconds=BACK_S)


async def stop_postgres(stack: Stack, _: random.Random, begin: Begin) -> None:
    """`pg_ctl stop -m immediate`, which is SIGQUIT, and a start."""
    await begin()
    await stack.restart("postgres", SIGQUIT)
    await stack.ready(seconds=BACK_S)


async def restart_broker(stack: Stack, chosen: random.Random, begin: Begin) -> None:
    """The broker ends, in order or not, and starts again."""
    await begin()
    await stack.restart("kafka", chosen.choice([SIGTERM, SIGKILL]))
    await stack.ready(seconds=BACK_S)


FAULTS: Mapping[str, Disturb] = {
    "kill -9 of control": kill_control,
    "SIGSTOP of control": freeze_control,
    "kill -9 of the workers": kill_workers,
    "SIGSTOP of the workers": freeze_workers,
    "kill -9 at the relay": kill_relay,
    "a relay that stands still": freeze_relay,
    "pg_ctl stop -m immediate": stop_postgres,
    "restart of the broker": restart_broker,
}


def _controls(stack: Stack) -> list[str]:
    return [name for name in stack.deployment.services if name.startswith("control")]


def _some(stack: Stack, chosen: random.Random) -> list[str]:
    every = _controls(stack)
    return chosen.choice([[one] for one in every] + [every])


def _workers(stack: Stack) -> list[str]:
    return [name for name in stack.parts if name in {TAKEN, LEASED} or name.startswith("data")]


async def _kill(stack: Stack, parts: Sequence[str]) -> None:
    for part in parts:
        stack.signal(part, SIGKILL)
    await stack.ready(seconds=BACK_S)


async def _freeze(stack: Stack, parts: Sequence[str], seconds: float) -> None:
    for part in parts:
        stack.signal(part, SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for part in parts:
            stack.signal(part, SIGCONT)
    await stack.ready(seconds=BACK_S)


async def _at_relay(stack: Stack, place: str, what: str, begin: Begin) -> None:
    """Have something happen at a place of the relay of one process, the first that takes its lock."""
    first, *others = _controls(stack)
    for part in (first, *others):
        await end(stack, part)
    since = stack.parts[first].log.stat().st_size
    start_armed(stack, first, f"{place}={what}@1")
    await stack.ready(first, seconds=BACK_S)
    for part in others:
        stack.let_up(part)
    await begin()
    await acted(stack, first, place, since)
    await stack.ready(seconds=BACK_S)
