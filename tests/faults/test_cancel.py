"""Row 35: a cancel races the end of what it cancels."""

import asyncio
import json
import time
from collections import Counter
from functools import partial
from uuid import uuid4

from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.errors import Conflict, MillraceError
from millrace.runtime.testing import until

from tests.faults.declared import LIGHT, NAMESPACE
from tests.faults.facts import once
from tests.faults.judge import Judged
from tests.faults.places import end, start_armed
from tests.faults.rows import row
from tests.faults.stack import Stack
from tests.journeys.shop import ENDED

RACES = 24
#: Over how long the cancels are spread, in times of what a run takes that nobody cancels.
SPREAD = 3.0
ANSWER_S = 5.0


@row(35, short=True)
async def test_row_35_a_cancel_races_the_end_of_a_run(stack: Stack, judged: Judged) -> None:
    async with judged(35, stack, f"{RACES} cancels while steps finish, both held up at failpoints") as fault:
        await asyncio.gather(end(stack, "data"), end(stack, "control"))
        start_armed(stack, "data", "tasks.finishing=sleep:0.2; tasks.cancelled=sleep:0.2")
        start_armed(stack, "control", "control.cancel_run=sleep:0.1; control.decided=sleep:0.1")
        await stack.ready("data", "control")
        began = time.monotonic()
        await until(partial(_ended, stack, await _started(stack)), seconds=60)
        apart_s = SPREAD * (time.monotonic() - began) / RACES
        raced = await asyncio.gather(*(_race(stack, apart_s * n) for n in range(RACES)))
        fault.over()

    assert {(cancelled, run.state) for cancelled, run in raced} == {(True, "cancelled"), (False, "succeeded")}
    assert fault.seen is not None
    ended = Counter(
        (one.value["task_id"], one.value["attempt"])
        for one in once(fault.seen.told)
        if one.type in {"TaskSucceeded", "TaskFailed"}
    )
    assert [attempt for attempt, count in ended.items() if count > 1] == []


async def _race(stack: Stack, cancel_after_s: float) -> tuple[bool, control_pb2.Run]:
    """Start a run and cancel it a while later; return whether that was granted, and how the run ended."""
    run_id = await _started(stack)
    await asyncio.sleep(cancel_after_s)
    granted = await _cancelled(stack, control_pb2.CancelRunRequest(**_own(), run_id=run_id))
    return granted, await until(partial(_ended, stack, run_id), seconds=60)


async def _started(stack: Stack) -> str:
    """Start a run of three steps; return its id."""
    asked = control_pb2.StartRunRequest(**_own(), workflow=LIGHT, data_json=json.dumps({"event": str(uuid4())}))
    return (await ControlServiceStub(stack.channel("control")).StartRun(asked, timeout=ANSWER_S)).run.run_id


async def _ended(stack: Stack, run_id: str) -> control_pb2.Run | None:
    """Return a run once it has ended."""
    asked = control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id)
    run = (await ControlServiceStub(stack.channel("control")).GetRun(asked)).run
    await asyncio.sleep(0.1)
    return run if run.state in ENDED else None


async def _cancelled(stack: Stack, asked: control_pb2.CancelRunRequest) -> bool:
    """Whether a cancel is granted; asked again, as the same request, while it is not answered."""
    while True:
        try:
            await ControlServiceStub(stack.channel("control")).CancelRun(asked, timeout=ANSWER_S)
        except Conflict:
            return False
        except MillraceError:
            await asyncio.sleep(0.2)
        else:
            return True


def _own() -> dict[str, str]:
    return {"namespace": NAMESPACE, "request_id": str(uuid4())}
