"""How a service comes to be at each named place, and what to do for those that the usual load never reaches."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.runtime.testing import until
from millrace.sdk.publish import CloudEvent, Publisher

from tests.faults.declared import CONTRACT
from tests.faults.stack import Stack

NAMESPACE = "places"
#: How long a place may take to be reached under load.
REACHED_S = 60.0
RECOVERED_S = 15.0

#: Who is killed where.
LANES: dict[str, tuple[str, ...]] = {
    "control": (
        "control.start_run",
        "control.runs_held",
        "control.decided",
        "control.events_kept",
        "control.runs_begun",
        "control.cancel_run",
        "control.due",
        "control.fired",
        "control.turn",
        "consume.held",
        "transaction.flushed",
        "rpc.claimed",
        "rpc.kept",
        "rpc.committed",
        "outbox.after_send",
    ),
    "data": (
        "tasks.accepted",
        "tasks.started",
        "tasks.worked",
        "tasks.ended",
        "tasks.finishing",
        "tasks.finished",
        "tasks.told",
        "tasks.cancelled",
        "tasks.child_began",
        "tasks.child_worked",
        "artifacts.noted",
        "artifacts.before_rename",
        "artifacts.after_rename",
        "rpc.done",
        "tasks.lapsed",
    ),
    "feature": ("tasks.beat", "outbox.locked", "outbox.read"),
    "training": ("tasks.recovered", "migrate.locked"),
    "inference": ("service.draining", "housekeeping.removed", "transaction.committed", "outbox.deleted"),
    "lineage": ("consume.polled", "consume.claimed", "consume.handling", "consume.handled", "consume.after_commit"),
    "observability": ("consume.before_offsets", "consume.after_offsets", "consume.assigned", "consume.revoked"),
}
#: What must happen first, or be slow, for a place to be reached.
BESIDES = {"tasks.told": "tasks.worked=sleep:3"}
#: What a service is told, for a place that is reached seldom.
TOLD = {"housekeeping.removed": {"INFERENCE_HOUSEKEEPING_EVERY_S": "1"}}
#: The child process that computes is there; the service lives on.
IN_A_CHILD = frozenset(
    {"tasks.child_began", "tasks.child_worked", "artifacts.noted", "artifacts.before_rename", "artifacts.after_rename"}
)


def start_armed(stack: Stack, name: str, rules: str, **environment: str) -> None:
    """Start a part that is held down with rules; its later starts have none."""
    part = stack.parts[name]
    own, part.environment = part.environment, part.environment | environment | {"MILLRACE_FAILPOINTS": rules}
    part.start()
    part.environment = own
    part.held = False


async def end(stack: Stack, name: str, number: signal.Signals = signal.SIGKILL) -> None:
    """End a part and hold it down."""
    stack.hold_down(name)
    await asyncio.to_thread(stack.parts[name].end, number)


async def acted(stack: Stack, name: str, place: str, since: int, seconds: float = REACHED_S) -> None:
    """Wait until a part says that a failpoint acted.

    Args:
        stack: Where the part is.
        name: The part.
        place: The failpoint.
        since: How many bytes of the part's log are of before.
        seconds: How long that may take.

    Raises:
        AssertionError: It did not.
    """
    said = f"failpoint {place} ".encode()

    async def told() -> bool:
        with stack.parts[name].log.open("rb") as log:
            log.seek(since)
            return said in log.read()

    try:
        await until(told, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"{name} was not at {place} within {seconds:g} s of load") from None


async def killed_at(stack: Stack, name: str, place: str) -> float:
    """Kill a part at a place; return how long it took until it was ready again.

    Raises:
        AssertionError: It never was there, or was not ready again in time.
    """
    part = stack.parts[name]
    await end(stack, name)
    since = part.log.stat().st_size
    start_armed(stack, name, "; ".join(filter(None, (f"{place}=kill", BESIDES.get(place)))), **TOLD.get(place, {}))
    starts = part.starts
    if place == "service.draining":
        await stack.ready(name)
        part.signal(signal.SIGTERM)
    await acted(stack, name, place, since)
    if place in IN_A_CHILD:
        await end(stack, name, signal.SIGTERM)
        stack.let_up(name)
    return await started_again(stack, name, starts)


async def started_again(stack: Stack, name: str, starts: int, seconds: float = RECOVERED_S) -> float:
    """Return how long it took a part, which has died, until it was started anew and ready."""
    began = time.monotonic()

    async def again() -> bool:
        return stack.parts[name].starts > starts

    await until(again, seconds=seconds)
    await stack.ready(name, seconds=seconds - (time.monotonic() - began))
    return time.monotonic() - began


async def anew(stack: Stack, name: str) -> None:
    """Have a part end in good order and start anew as it is usually told."""
    starts = stack.parts[name].starts
    await end(stack, name, signal.SIGTERM)
    stack.let_up(name)
    await started_again(stack, name, starts, seconds=2 * RECOVERED_S)


async def killed_at_lapse(stack: Stack) -> float:
    """Kill data where it reports that the lease of another process has lapsed: of itself under another name."""
    await end(stack, "data")
    since = stack.parts["data"].log.stat().st_size
    start_armed(stack, "data", "tasks.started=sleep:20; tasks.beat=kill@2")
    stack.hold_down("data")
    await acted(stack, "data", "tasks.beat", since)
    await end(stack, "data")
    start_armed(stack, "data", "tasks.lapsed=kill", DATA_INSTANCE="1")
    starts = stack.parts["data"].starts
    await acted(stack, "data", "tasks.lapsed", since)
    # The other name is a member of the group until its session has timed out.
    return await started_again(stack, "data", starts, seconds=2 * RECOVERED_S)


class Seldom:
    """What a main job does seldom: queues, cancels, timeouts, calls that store nothing first, records that are none."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._control: Any = ControlServiceStub(stack.channel("control"))
        self._data: Any = DataServiceStub(stack.channel("data"))

    async def declare(self) -> None:
        """Put its workflows and its queue in force."""
        act = {"kind": "data.effect", "input": {"event": {"$from": "/run/id"}}, "heartbeat_timeout_s": 15}
        patient = {"retries": {"max_attempts": 50, "backoff_s": 0.2, "max_backoff_s": 1, "lost": 100}}
        tasks = {
            "calm": act | patient,
            "hasty": act | {"queue_timeout_s": 0.005, "retries": {"lost": 2, "backoff_s": 0.1}},
        }
        for name, task in tasks.items():
            workflow = json.dumps({"name": f"places.{name}", "timeout_s": 120, "tasks": {"act": task}})
            await self._control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**_own(), workflow=workflow))
        trigger = {"name": "places.queue", "workflow": "places.calm", "strategy": "queue"}
        trigger |= {"source": {"topic": "triggers"}, "filter": {"type": "places.queue"}}
        await self._control.ApplyTrigger(control_pb2.ApplyTriggerRequest(**_own(), trigger=json.dumps(trigger)))

    async def once(self, publisher: Publisher, producer: AIOKafkaProducer) -> None:
        """Do all of it once; what does not answer is done again the next time."""
        event = CloudEvent(type="places.queue", source="/places", id=str(uuid4()), data={})
        hasty = control_pb2.StartRunRequest(**_own(), workflow="places.hasty", data_json="{}")
        calm = control_pb2.StartRunRequest(**_own(), workflow="places.calm", data_json="{}")
        contract = data_pb2.ApplyContractRequest(**_own(), odcs_yaml=json.dumps(CONTRACT))

        async def cancel() -> None:
            run_id = (await self._control.StartRun(calm, timeout=5)).run.run_id
            await self._control.CancelRun(control_pb2.CancelRunRequest(**_own(), run_id=run_id), timeout=5)

        await asyncio.gather(
            publisher.send("triggers", event, key="places"),
            producer.send("triggers", b"{", key=b"places", headers=[("ce_specversion", b"1.0")]),
            self._control.StartRun(hasty, timeout=5),
            self._data.ApplyContract(contract, timeout=5),
            cancel(),
            return_exceptions=True,
        )


@asynccontextmanager
async def seldom(stack: Stack, every_s: float = 1.0) -> AsyncIterator[Seldom]:
    """Do the seldom things every so often until the block ends."""
    made = Seldom(stack)
    await made.declare()
    async with Publisher(stack.servers) as publisher, AIOKafkaProducer(bootstrap_servers=stack.servers) as producer:

        async def go_on() -> None:
            while True:
                await asyncio.gather(made.once(publisher, producer), asyncio.sleep(every_s))

        going = asyncio.create_task(go_on())
        try:
            yield made
        finally:
            going.cancel()
            await asyncio.wait([going])


def _own() -> dict[str, str]:
    return {"namespace": NAMESPACE, "request_id": str(uuid4())}
