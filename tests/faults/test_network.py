"""The network cut, one-way, flapping, slow, narrow, half open: in a namespace that the test makes and removes."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.runtime.errors import Unavailable
from millrace.runtime.testing import until

from tests.faults.asked import DEADLINE_S, Asked, asking
from tests.faults.declared import DATASET, NAMESPACE
from tests.faults.judge import Fault, Judged
from tests.faults.netns import BOTH, Direction, Namespace, hindrance, namespace
from tests.faults.proxy import Proxy
from tests.faults.rows import MEASURED, needs_root, row
from tests.faults.stack import Stack, running

CUT_S, ONE_WAY_S, FLAPS = 12.0, 8.0, 5
#: The shortest that a lease may be given, and its cut: control has given up on it before the cut ends.
LEASE_S, LEASE_CUT_S = 15.0, 25.0
#: How long something may take to be seen that is done several times a second.
BITTEN_S = 10.0
SLOW_S = 8.0
LATENCY_S = 0.25  # each way
BYTES_PER_S = 125_000  # 1 Mbit
SLOW, NARROW, RUDE = {"latency_s": LATENCY_S}, {"bytes_per_s": BYTES_PER_S}, {"answer_bytes": 40_000}
#: What is wrong, one after another, before control and between it and its database.
WRONG: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "slow": (SLOW, {}),
    "slow database": ({}, SLOW),
    "narrow": (NARROW, NARROW),
    "rude": (RUDE, RUDE),
}
#: An answer has so much at least: it takes a while on a narrow network, and a rude one passes no more than three.
ANSWER_BYTES = 12_000
#: What an answer may come later than its deadline, on a machine that is busy.
MARGIN_S = 1.0
#: Of gRPC's retry throttling (client.py): so many failures, and a tenth of what went well.
RETRIES, RETRIES_PER_ANSWER = 10, 0.1


@dataclass
class Far:
    """A stack whose data service is at the other end of a wire."""

    stack: Stack
    wire: Namespace
    broker: int = field(init=False)
    postgres: int = field(init=False)
    data: int = field(init=False)

    def __post_init__(self) -> None:
        assert self.stack.postgres.tcp is not None
        self.postgres = self.stack.postgres.tcp[1]
        self.broker, self.data = (
            int(place.rpartition(":")[2])
            for place in (self.stack.servers, self.stack.deployment.services["data"].target)
        )


@pytest.fixture(scope="module")
async def far(module_folder: Path) -> AsyncIterator[Far]:
    if why := hindrance():
        needs_root(why)
    with namespace() as wire:
        hosts = {"data": wire.address} | dict.fromkeys(("kafka", "postgres", "effects"), wire.host)
        async with running(module_folder, tcp=True, hosts=hosts, prefixes={"data": wire.prefix}) as stack:
            yield Far(stack, wire)


@row(14)
async def test_row_14_a_service_that_is_cut_off_loses_nothing_and_does_nothing_twice(far: Far, judged: Judged) -> None:
    try:
        await _cut_in_turn(far, judged)
        await _cut_with_a_lease(far, judged)
    finally:
        far.wire.heal()


async def _cut_in_turn(far: Far, judged: Judged) -> None:
    wire = far.wire
    async with judged(14, far.stack, "data cut off from PostgreSQL, broker, callers; one way; flapping") as fault:
        for port in (far.postgres, far.broker):
            async with _healed(wire, fault):
                await _cut_off(far, port, seconds=CUT_S)
        async with _healed(wire, fault):
            await _cut_off(far, far.data, far.postgres, directions=("in",), seconds=ONE_WAY_S)
            wire.heal()
            await _cut_off(far, far.data, far.broker, directions=("out",), seconds=ONE_WAY_S)
        for _ in range(FLAPS):
            await _cut_off(far, far.postgres, far.broker, far.data, seconds=1)
            wire.heal()
            await asyncio.sleep(1)
        fault.over()


async def _cut_off(far: Far, *ports: int, seconds: float, directions: tuple[Direction, ...] = BOTH) -> None:
    """Cut data off for so long, and until of each port something was dropped; who asks data then has no answer."""

    async def bitten() -> bool:
        dropped = await asyncio.to_thread(far.wire.dropped)
        return all(dropped[port] for port in ports)

    async def unanswered() -> None:
        data: Any = DataServiceStub(far.stack.channel("data"))
        with pytest.raises(Unavailable):
            await data.ListVersions(data_pb2.ListVersionsRequest(namespace=NAMESPACE, dataset=DATASET), timeout=1)

    far.wire.cut(*ports, directions=directions)
    asked = [unanswered()] if far.data in ports else []
    await asyncio.gather(*asked, until(bitten, seconds=BITTEN_S), asyncio.sleep(seconds))


async def _cut_with_a_lease(far: Far, judged: Judged) -> None:
    """Cut a service off until control has begun a next attempt; what the first one did then counts for nothing."""
    stack, event = far.stack, f"leased-{uuid4().hex[:6]}"
    async with judged(14, stack, "data cut off while it holds a lease") as fault:
        stack.signal("effects", signal.SIGSTOP)
        run_id = await _start_leased(stack, event)
        await until(lambda: _states(stack, run_id, {"running"}))
        far.wire.cut(far.postgres, far.broker)
        stack.signal("effects", signal.SIGCONT)
        await asyncio.sleep(LEASE_CUT_S)
        far.wire.heal()
        fault.over()

    task = (await _run(stack, run_id)).tasks[0]
    assert (task.state, task.attempts > 1) == ("succeeded", True)
    assert [effect.event for effect in stack.effects.rows() if effect.event == event] == [event]
    assert fault.seen is not None
    finished = [told for told in fault.seen.told if told.type == "TaskSucceeded" and told.key == task.task_id]
    assert len(finished) == 1


@row(15)
async def test_row_15_on_a_bad_network_deadlines_hold_and_retries_stay_within_their_budget(
    far: Far, judged: Judged, record_property: Callable[[str, object], None]
) -> None:
    stack = far.stack
    assert stack.postgres.tcp is not None
    host, _, port = stack.deployment.services["control"].target.partition(":")
    async with Proxy(stack.postgres.tcp) as database, Proxy((host, int(port))) as door:
        own = stack.postgres.dsn("control", role="control")
        there = "{}:{}".format(*stack.postgres.tcp)
        await stack.restart("control", CONTROL_POSTGRES_DSN=own.replace(there, database.address))
        try:
            async with (
                judged(15, stack, "control 500 ms, 1 Mbit, resets, half open; data 1 Mbit") as fault,
                asking(stack, door.address) as asked,
            ):
                await _bad_network(far.wire, asked, door, database)
                fault.over()
        finally:
            await stack.restart("control", CONTROL_POSTGRES_DSN=own)

    record_property(MEASURED, str(asked))
    assert max(call.took_s for call in asked.calls) < DEADLINE_S + MARGIN_S
    assert asked.answered() > len(asked.calls) / 3
    assert asked.answered() <= asked.handled <= len(asked.calls) + RETRIES + RETRIES_PER_ANSWER * asked.answered()
    assert min(asked.answers("slow")) >= 2 * LATENCY_S
    assert min([*asked.answers("slow database"), DEADLINE_S]) >= 2 * LATENCY_S
    assert min(asked.answers("narrow", ANSWER_BYTES)) >= ANSWER_BYTES / BYTES_PER_S
    assert asked.failed("rude")
    assert asked.failed("silent")
    assert not asked.answers("silent")


async def _bad_network(wire: Namespace, asked: Asked, *proxies: Proxy) -> None:
    wire.narrow("1mbit")
    for part, wrong in WRONG.items():
        for proxy, own in zip(proxies, wrong, strict=True):
            proxy.resume()
            vars(proxy).update(own)
        accepted = [proxy.accepted for proxy in proxies]
        asked.part = part
        await asyncio.sleep(SLOW_S)
    assert all(proxy.accepted > before + 1 for proxy, before in zip(proxies, accepted, strict=True)), "no resets"
    assert wire.held_up()
    wire.widen()
    for proxy in proxies:
        proxy.resume()
        proxy.silence()
    asked.part = "silent"
    await asyncio.sleep(SLOW_S)
    asked.part = ""
    for proxy in proxies:
        # What was half open is never heard of again.
        proxy.reset()
        proxy.resume()


@asynccontextmanager
async def _healed(wire: Namespace, fault: Fault) -> AsyncIterator[None]:
    """Heal the network at the end; all is as before within the row's bound."""
    yield
    wire.heal()
    async with asyncio.timeout(fault.bound_s):
        await fault.load.probe()


async def _start_leased(stack: Stack, event: str) -> str:
    """Start a run of one step that must be heard of often; return its id."""
    control: Any = ControlServiceStub(stack.channel("control"))
    step = {"kind": "data.effect", "input": {"event": event}, "heartbeat_timeout_s": LEASE_S}
    step["retries"] = {"max_attempts": 50, "backoff_s": 0.5, "max_backoff_s": 5, "lost": 100}
    workflow = json.dumps({"name": "faults.leased", "tasks": {"step": step}})
    own = {"namespace": NAMESPACE, "request_id": str(uuid4())}
    await control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**own, workflow=workflow))
    asked = control_pb2.StartRunRequest(**own, workflow="faults.leased", data_json="{}")
    return str((await control.StartRun(asked)).run.run_id)


async def _run(stack: Stack, run_id: str) -> control_pb2.Run:
    control: Any = ControlServiceStub(stack.channel("control"))
    found: control_pb2.Run = (await control.GetRun(control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id))).run
    return found


async def _states(stack: Stack, run_id: str, wanted: set[str]) -> bool:
    return {task.state for task in (await _run(stack, run_id)).tasks} <= wanted
