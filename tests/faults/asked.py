"""A client that asks all the time, while something is wrong with the network: what it saw, and what it may cost."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.client import Channels, Token
from millrace.runtime.errors import MillraceError

from tests.faults.declared import NAMESPACE
from tests.faults.stack import Stack

DEADLINE_S = 5.0
EVERY_S = 0.2
#: How many runs are asked for at a time, so that an answer has something to say.
LISTED = 60


@dataclass(frozen=True)
class Call:
    """One call of a client that asks all the time.

    Attributes:
        part: What was wrong with the network from its begin to its end; empty where that changed.
        took_s: How long it took, seconds.
        answer_bytes: How large its answer was; 0 where there was none.
    """

    part: str
    took_s: float
    answer_bytes: int


@dataclass
class Asked:
    """What that client saw.

    Attributes:
        part: What is wrong with the network now.
        handled: How many calls the service says it got.
    """

    part: str = ""
    calls: list[Call] = field(default_factory=list)
    handled: float = 0.0

    def __str__(self) -> str:
        """Return it for people."""
        parts = {call.part: None for call in self.calls if call.part}
        told = ", ".join(f"{part} {len(self.answers(part))} and {self.failed(part)}" for part in parts)
        return f"answered and not: {told}; {self.handled:g} of {len(self.calls)} handled"

    def answered(self) -> int:
        """Return how many were answered."""
        return sum(call.answer_bytes > 0 for call in self.calls)

    def answers(self, part: str, least_bytes: int = 1) -> list[float]:
        """Return how long those took that were answered in a part with so much at least."""
        return [call.took_s for call in self.calls if call.part == part and call.answer_bytes >= least_bytes]

    def failed(self, part: str) -> int:
        """Return how many of a part were not answered."""
        return sum(call.part == part and not call.answer_bytes for call in self.calls)


@asynccontextmanager
async def asking(stack: Stack, door: str) -> AsyncIterator[Asked]:
    """Ask control for something that nobody else asks it for, five times a second, at another door of it."""
    asked, before = Asked(), await _handled(stack)
    token = Token(stack.authority.token_file("dev"))
    async with Channels({"control": door}, token) as channels, asyncio.TaskGroup() as calls:
        stub: Any = ControlServiceStub(channels.to("control"))

        async def one() -> None:
            part, began, size = asked.part, time.monotonic(), 0
            with suppress(MillraceError):
                request = control_pb2.ListRunsRequest(namespace=NAMESPACE, limit=LISTED)
                size = (await stub.ListRuns(request, timeout=DEADLINE_S)).ByteSize()
            same = part if part == asked.part else ""
            asked.calls.append(Call(same, time.monotonic() - began, size))

        async def go_on() -> None:
            while True:
                calls.create_task(one())
                await asyncio.sleep(EVERY_S)

        going = calls.create_task(go_on())
        try:
            yield asked
        finally:
            going.cancel()
    asked.handled = await _handled(stack) - before


async def _handled(stack: Stack) -> float:
    measured = await stack.metrics("control")
    counts = {name: n for name, n in measured.items() if "rpc_server_call_duration_seconds_count" in name}
    assert counts, "control says nothing of its calls"
    return sum(n for name, n in counts.items() if "ListRuns" in name)
