"""Row 35: a cancel races the end of what it cancels."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import uuid4

from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.errors import Conflict, MillraceError
from millrace.runtime.testing import until

from tests.faults.checker import DONE, Finding
from tests.faults.declared import LIGHT, NAMESPACE
from tests.faults.facts import once
from tests.faults.judge import Judged
from tests.faults.places import end, start_armed
from tests.faults.rows import row
from tests.faults.stack import Stack
from tests.journeys.shop import ENDED

RACES = 24
#: Tasks of a run.
STEPS = 3
#: By how much later a run's cancel comes than that of the run before it which is as far, seconds.
APART_S = 0.1
ANSWER_S = 5.0
ANSWERED_S = 60.0


@row(35, short=True)
async def test_row_35_a_cancel_races_the_end_of_a_run(stack: Stack, judged: Judged) -> None:
    cancelled: set[str] = set()

    def asked_for(finding: Finding) -> bool:
        return finding.claim == DONE and finding.about in cancelled

    told = f"{RACES} cancels while steps finish, both held up at failpoints"
    async with judged(35, stack, told, expected=asked_for) as fault:
        await asyncio.gather(end(stack, "data"), end(stack, "control"))
        start_armed(stack, "data", "tasks.finishing=sleep:0.2; tasks.cancelled=sleep:0.2")
        start_armed(stack, "control", "control.cancel_run=sleep:0.1; control.decided=sleep:0.1")
        await stack.ready("data", "control")
        raced = await asyncio.gather(*(_race(stack, n) for n in range(RACES)))
        cancelled |= {run.run_id for granted, run in raced if granted}
        fault.over()

    assert {(granted, run.state) for granted, run in raced} == {(True, "cancelled"), (False, "succeeded")}
    assert {finding.about for finding in fault.findings} == cancelled
    assert fault.seen is not None
    ended = Counter(
        (one.value["task_id"], one.value["attempt"])
        for one in once(fault.seen.told)
        if one.type in {"TaskSucceeded", "TaskFailed"}
    )
    assert [attempt for attempt, count in ended.items() if count > 1] == []


async def _race(stack: Stack, number: int) -> tuple[bool, control_pb2.Run]:
    """Start a run and cancel it once some of its tasks are done; return whether that was granted, and how it ended."""
    run_id = await _started(stack)
    await until(partial(_come_to, stack, run_id, number % (STEPS + 1)), seconds=60)
    await asyncio.sleep(APART_S * (number // (STEPS + 1)))
    granted = await _cancelled(stack, control_pb2.CancelRunRequest(**_own(), run_id=run_id))
    return granted, await until(partial(_ended, stack, run_id), seconds=60)


async def _started(stack: Stack) -> str:
    """Start a run of three steps; return its id."""
    asked = control_pb2.StartRunRequest(**_own(), workflow=LIGHT, data_json=json.dumps({"event": str(uuid4())}))
    return (await _answered(lambda control: control.StartRun(asked, timeout=ANSWER_S), stack)).run.run_id


async def _ended(stack: Stack, run_id: str) -> control_pb2.Run | None:
    """Return a run once it has ended."""
    run = await _seen(stack, run_id)
    return run if run.state in ENDED else None


async def _come_to(stack: Stack, run_id: str, tasks: int) -> bool:
    """Whether so many tasks of a run are done."""
    return sum(task.state == "succeeded" for task in (await _seen(stack, run_id)).tasks) >= tasks


async def _seen(stack: Stack, run_id: str) -> control_pb2.Run:
    """Return a run as it is, a moment later, so that many who look at once leave control its time."""
    await asyncio.sleep(0.1)
    asked = control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id)
    return (await _answered(lambda control: control.GetRun(asked, timeout=ANSWER_S), stack)).run


async def _cancelled(stack: Stack, asked: control_pb2.CancelRunRequest) -> bool:
    """Whether a cancel is granted."""
    try:
        await _answered(lambda control: control.CancelRun(asked, timeout=ANSWER_S), stack)
    except Conflict:
        return False
    return True


async def _answered(call: Callable[[Any], Awaitable[Any]], stack: Stack) -> Any:
    """Return control's answer; asked again, as the same request, while there is none."""
    async with asyncio.timeout(ANSWERED_S):
        while True:
            try:
                return await call(ControlServiceStub(stack.channel("control")))
            except Conflict:
                raise
            except MillraceError:
                await asyncio.sleep(0.2)


def _own() -> dict[str, str]:
    return {"namespace": NAMESPACE, "request_id": str(uuid4())}
