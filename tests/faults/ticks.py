"""A schedule that ticks and runs that each wait a moment: whether a timer fires once, and how late."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.testing import until

from tests.faults.declared import NAMESPACE
from tests.faults.reads import at_once
from tests.faults.stack import Stack
from tests.journeys.shop import ENDED

NAME = "faults.tick"
EVERY_S, WAIT_S = 2, 1.0
LISTED = 500
ENDED_S = 60.0
_WORKFLOW = {"name": NAME, "tasks": {"a_moment": {"wait": {"for_s": WAIT_S}}}}
_SCHEDULE = {"name": NAME, "workflow": NAME, "interval": {"every_s": EVERY_S}, "strategy": "parallel"}


@dataclass
class Ticks:
    """What came of a schedule.

    Attributes:
        ran_s: How long it was in force, seconds.
        moments: What its runs were for, in order.
        begun_late_s: By how much after its moment the latest run was made, seconds.
        waited_s: The shortest and the longest of their waits, seconds.
    """

    ran_s: float = 0.0
    moments: list[datetime] = field(default_factory=list)
    begun_late_s: float = 0.0
    waited_s: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        """Return it for people."""
        shortest_s, longest_s = self.waited_s
        waited = f"waits of {WAIT_S:g} s took {shortest_s:.2f} to {longest_s:.2f} s"
        return f"{len(self.moments)} moments, at most {self.begun_late_s:.2f} s late; {waited}"

    def gaps_s(self) -> set[float]:
        """Return what lies between moments that follow one another, seconds."""
        return {(after - before) / timedelta(seconds=1) for before, after in itertools.pairwise(self.moments)}


@asynccontextmanager
async def ticking(stack: Stack) -> AsyncIterator[Ticks]:
    """Have a schedule tick until the block ends; what came of it is there then, and nothing of it is under way."""
    ticks, control = Ticks(), ControlServiceStub(stack.channel("control"))
    await control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**_own(), workflow=json.dumps(_WORKFLOW)))
    await control.ApplySchedule(control_pb2.ApplyScheduleRequest(**_own(), schedule=json.dumps(_SCHEDULE)))
    began = time.monotonic()
    try:
        yield ticks
    finally:
        await control.DeleteSchedule(control_pb2.DeleteScheduleRequest(**_own(), name=NAME))
        ticks.ran_s = time.monotonic() - began
    asked = control_pb2.ListRunsRequest(namespace=NAMESPACE, workflow=NAME, limit=LISTED)
    made = [run.run_id for run in (await control.ListRuns(asked)).runs]
    runs = await at_once(partial(_ended, control), made)
    told = [(datetime.fromisoformat(json.loads(run.schedule_json)["logical_at"]), run) for run in runs]
    ticks.moments = sorted(at for at, _ in told)
    ticks.begun_late_s = max(run.created_at.ToNanoseconds() / 1e9 - at.timestamp() for at, run in told)
    waits = [(run.ended_at.ToNanoseconds() - run.started_at.ToNanoseconds()) / 1e9 for run in runs]
    ticks.waited_s = (min(waits), max(waits))


async def _ended(control: Any, run_id: str) -> control_pb2.Run:
    async def ended() -> control_pb2.Run | None:
        asked = control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id)
        run: control_pb2.Run = (await control.GetRun(asked)).run
        await asyncio.sleep(0 if run.state in ENDED else 0.2)
        return run if run.state in ENDED else None

    found: control_pb2.Run = await until(ended, seconds=ENDED_S)
    return found


def _own() -> dict[str, str]:
    return {"namespace": NAMESPACE, "request_id": str(uuid4())}
