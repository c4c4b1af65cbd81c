"""The judge is judged: each of six faults, planted in a service, is found by what the row asserts that exposes it."""

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.failpoints.planted import FAULTS
from millrace.runtime.testing import until
from millrace.runtime.testing.process import ServiceProcess, free_port

from tests.faults.checker import ANSWERS, COUNTED, ENDS, ONE_RUN, TASKS, TOLD, Finding, check, told_once
from tests.faults.declared import NAMESPACE, prepared
from tests.faults.facts import Facts
from tests.faults.history import History
from tests.faults.load import Load
from tests.faults.places import acted, anew, end, start_armed, started_again
from tests.faults.reads import counted, facts, settled
from tests.faults.rows import row
from tests.faults.stack import MODULES, REPOSITORY, Stack, running
from tests.faults.topics import ends
from tests.journeys.shop import ENDED

BEFORE_S, AFTER_S, SETTLE_S = 4.0, 4.0, 25.0
BRIEF = "faults.brief"


@dataclass(frozen=True)
class Armed:
    """A service that runs with a fault.

    Attributes:
        since: Where its log ended before.
        starts: How often it had been started then.
    """

    name: str
    since: int
    starts: int


Check = Callable[[Facts], list[Finding] | Iterator[Finding]]


@pytest.fixture(scope="module")
async def damaged() -> AsyncIterator[Stack]:
    """A stack of its own: what is planted loses things for good."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-planted-"))
    async with running(folder) as stack:
        await prepared(stack)
        yield stack
    shutil.rmtree(folder, ignore_errors=True)


async def _nothing(_: Load) -> None:
    await asyncio.sleep(0)


async def found(
    stack: Stack, inject: Callable[[Load], Awaitable[None]] = _nothing, look: Check = check
) -> set[tuple[str, str]]:
    """Return what the judge finds of a load with a fault in it: claims, and what is wrong."""
    load = Load(stack, History())
    begins, effects, before = await asyncio.gather(
        ends(stack.servers), asyncio.to_thread(stack.effects.rows), counted(stack)
    )
    async with load:
        await asyncio.sleep(BEFORE_S)
        await inject(load)
        await asyncio.sleep(AFTER_S)
    with suppress(AssertionError):  # what was lost does not settle
        await settled(stack, load, SETTLE_S)
    seen = await facts(stack, load, begins, effects[-1].receipt if effects else 0, before)
    return {(finding.claim, finding.kind) for finding in look(seen)}


@asynccontextmanager
async def planted(stack: Stack, name: str, fault: str, rules: str = "") -> AsyncIterator[Armed]:
    """Run a service with a fault, and with rules in its first life, until the block ends."""
    part = stack.parts[name]
    await end(stack, name)
    part.environment["MILLRACE_FAILPOINTS"] = f"plant={fault}"
    since = part.log.stat().st_size
    start_armed(stack, name, f"plant={fault}; {rules}")
    armed = Armed(name, since, part.starts)
    await stack.ready(name)
    try:
        yield armed
    finally:
        del part.environment["MILLRACE_FAILPOINTS"]
        await anew(stack, name)


@asynccontextmanager
async def second(stack: Stack, name: str, **environment: str) -> AsyncIterator[ServiceProcess]:
    """Run another process of a service until the block ends."""
    first, ports = stack.deployment.services[name], (free_port(), free_port())
    own = {"INSTANCE": "1", "GRPC_PORT": str(ports[0]), "HTTP_PORT": str(ports[1])}
    told = first.environment | stack.parts[name].environment | {f"{name.upper()}_{k}": v for k, v in own.items()}
    told["PYTHONPATH"] = str(REPOSITORY)
    log = stack.folder / f"{name}-second.log"
    process = ServiceProcess(f"{name}-1", told, ports, log, module=MODULES.get(name, "millrace.runtime"))
    await process.start(**environment)
    try:
        yield process
    finally:
        process.kill()


async def killed(stack: Stack, place: str, armed: Armed) -> None:
    """Wait until a service has died at a place and is back."""
    await acted(stack, armed.name, place, armed.since)
    await started_again(stack, armed.name, armed.starts, seconds=30)


@row(2)
async def test_an_inbox_that_forgets_is_found_where_events_come_again(damaged: Stack) -> None:
    async with planted(damaged, "observability", "inbox_forgets", "consume.after_commit=kill@8") as armed:
        findings = await found(damaged, lambda _: killed(damaged, "consume.after_commit", armed))

    assert (COUNTED, "doubled") in findings


@row(5)
async def test_a_stored_answer_that_is_not_stored_is_found_where_a_call_is_made_twice(damaged: Stack) -> None:
    async with planted(damaged, "control", "answer_not_stored"):
        findings = await found(damaged)

    assert (ANSWERS, "doubled") in findings


@row(0)
async def test_a_relay_without_its_lock_is_found_where_a_service_has_two_processes(damaged: Stack) -> None:
    fault = "relay_without_lock"
    async with planted(damaged, "control", fault), second(damaged, "control", MILLRACE_FAILPOINTS=f"plant={fault}"):
        findings = await found(damaged, look=told_once)

    assert findings == {(TOLD, "doubled")}


@row(4)
async def test_a_finish_without_its_token_is_found_where_a_worker_wakes_too_late(damaged: Stack) -> None:
    async def freeze(_: Load) -> None:
        control = ControlServiceStub(damaged.channel("control"))
        task = {"kind": "data.effect", "input": {"event": {"$from": "/run/id"}}, "heartbeat_timeout_s": 15}
        workflow = json.dumps({"name": BRIEF, "tasks": {"act": task}})
        await control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**_own(), workflow=workflow))
        asked = control_pb2.StartRunRequest(**_own(), workflow=BRIEF, data_json="{}")
        run_id = (await control.StartRun(asked)).run.run_id
        await until(lambda: _runs(damaged, run_id), seconds=30)
        damaged.signal("data", signal.SIGSTOP)
        async with second(damaged, "data"):
            await until(lambda: _ended(damaged, run_id), seconds=90)
            damaged.signal("data", signal.SIGCONT)
            await damaged.ready("data")

    async with planted(damaged, "data", "finish_without_token", "tasks.worked=sleep:5"):
        findings = await found(damaged, freeze)

    assert (TASKS, "doubled") in findings


@row(1)
async def test_an_offset_committed_early_is_found_where_a_handler_dies(damaged: Stack) -> None:
    place = "control.events_kept"
    async with planted(damaged, "control", "offset_committed_early", f"{place}=kill@8") as armed:
        findings = await found(damaged, lambda _: killed(damaged, place, armed))

    assert (ONE_RUN, "lost") in findings


@row(2)
async def test_an_outbox_that_deletes_early_is_found_where_a_relay_dies(damaged: Stack) -> None:
    async with planted(damaged, "control", "outbox_deletes_early", "outbox.read=kill@20") as armed:
        findings = await found(damaged, lambda _: killed(damaged, "outbox.read", armed))

    # What was lost is an order, and its run goes on for ever, or the telling of its end.
    assert findings & {(ENDS, "open"), (ENDS, "lost")}


def test_six_faults_can_be_planted() -> None:
    assert sorted(FAULTS) == [
        "answer_not_stored",
        "finish_without_token",
        "inbox_forgets",
        "offset_committed_early",
        "outbox_deletes_early",
        "relay_without_lock",
    ]


async def _runs(stack: Stack, run_id: str) -> bool:
    """Whether a run's only task is being worked on."""
    return [task.state for task in (await _run(stack, run_id)).tasks] == ["running"]


async def _ended(stack: Stack, run_id: str) -> bool:
    return (await _run(stack, run_id)).state in ENDED


async def _run(stack: Stack, run_id: str) -> control_pb2.Run:
    asked = control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id)
    return (await ControlServiceStub(stack.channel("control")).GetRun(asked)).run


def _own() -> dict[str, str]:
    return {"namespace": NAMESPACE, "request_id": str(uuid4())}
