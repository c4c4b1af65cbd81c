"""A worker that leases its tasks and control that gives them, in one process: no Kafka is anywhere."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
import structlog
from millrace.contracts.rpc.control.v1 import worker_pb2 as pb
from millrace.contracts.rpc.control.v1.worker_pb2_grpc import WorkerServiceStub
from millrace.control.api.workers import WorkerApi
from millrace.control.commands import ApplyQueue, ApplyWorkflow, StartRun
from millrace.control.commands.operations import CancelRun
from millrace.control.handlers import apply_queue, apply_workflow, cancel_run, fire_due, start_run
from millrace.control.store import Store
from millrace.core.parse import parse_workflow
from millrace.runtime.access import Access
from millrace.runtime.client import Channels, FixedToken
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.runtime.rpc import RpcServer
from millrace.runtime.testing import Server, fresh_database, until
from millrace.runtime.testing.authority import Authority
from millrace.sdk.worker import kinds_of
from millrace.sdk.worker.leases import Leases

Begin = Transactions[Store]
TASKS = """
import asyncio
import time

from millrace.contracts.tasks import Carried
from millrace.sdk.flows import task
from millrace.sdk.work import attempt, checkpoint, external_ref, preempted, progress


@task("{queue}.add")
def add(a, b):
    progress(0.5, "half")
    return {{"sum": a + b, "task_id": attempt().task_id}}


@task("{queue}.wait")
async def wait(most=1000):
    await external_ref("job-1")
    at = attempt().last_checkpoint or 0
    while at < most:
        at += 1
        await checkpoint(at)
        if attempt().number > 1:
            break
        await asyncio.sleep(0.01)
    return {{"at": at, "job": attempt().last_external_ref}}


@task("{queue}.hold")
def hold():
    external_ref("job-2")
    while not preempted():
        time.sleep(0.01)
    checkpoint("here")
    return {{}}


@task("{queue}.spoil")
async def spoil():
    await attempt().keep(Carried.model_construct(checkpoint="\\x00", external_ref=""))


@task("{queue}.large")
async def large():
    return {{"text": "x" * 70_000}}
"""


class Beside:
    """Control's side: its database, and where it answers workers."""

    def __init__(self, begin: Begin, channels: Channels, queue: str, authority: Authority) -> None:
        self.begin, self.queue, self.authority = begin, queue, authority
        self.stub = WorkerServiceStub(channels.to("control"))

    async def run(self, **tasks: dict[str, Any]) -> UUID:
        """Start a run of tasks of the queue."""
        retries = {"retries": {"backoff_s": 0, "max_attempts": 1}}
        named = {name: {**retries, **task, "kind": f"{self.queue}.{task['kind']}"} for name, task in tasks.items()}
        made = parse_workflow({"name": "w", "tasks": named})
        async with self.begin() as tx:
            await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=made), tx)
            return (await start_run(StartRun(namespace="demo", principal="ada", workflow="w"), tx)).run.run_id

    async def task(self, run_id: UUID, name: str = "a") -> Any:
        async with self.begin() as tx:
            return (await tx.run("demo", run_id)).run.tasks[name]

    async def when(self, run_id: UUID, holds: Callable[[Any], bool], name: str = "a") -> Any:
        """Return a task once something holds of it; what is due happens meanwhile."""

        async def found() -> Any:
            async with self.begin() as tx:
                await fire_due((await tx.due())[0], tx)
            task = await self.task(run_id, name)
            return task if holds(task) else None

        return await until(found, seconds=60)

    @asynccontextmanager
    async def working(self, worker: str = "w", at_once: int = 2) -> AsyncIterator[asyncio.Event]:
        """Have a worker until the block ends, or until what is yielded is set and it has left in order."""
        kinds = kinds_of(f"{self.queue}_tasks", self.queue)
        leases, leaving = Leases(self.stub, self.queue, kinds, "demo", worker, at_once), asyncio.Event()
        running = asyncio.create_task(leases.run(leaving))
        try:
            yield leaving
            if leaving.is_set():
                await running
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.fixture
async def control(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Beside]:
    queue = f"q{uuid4().hex[:8]}"
    (tmp_path / f"{queue}_tasks.py").write_text(TASKS.format(queue=queue))
    monkeypatch.syspath_prepend(tmp_path)
    authority = Authority(tmp_path)
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        server = RpcServer("control", Access(authority.jwks, authority.grants))
        server.serve(pb.DESCRIPTOR.services_by_name["WorkerService"], WorkerApi(), begin)
        port = await server.start()
        async with Channels({"control": f"127.0.0.1:{port}"}, FixedToken(authority.token("dev"))) as channels:
            async with begin() as tx:
                await apply_queue(ApplyQueue(namespace="demo", principal="ada", queue=queue, transport="grpc"), tx)
            yield Beside(begin, channels, queue, authority)
            await server.drain(1)


def succeeded(task: Any) -> bool:
    assert task.state in {"dispatched", "running", "retry_wait", "succeeded"}, task.failure
    return bool(task.state == "succeeded")


def failed(task: Any) -> bool:
    return bool(task.state == "failed")


async def test_functions_of_both_kinds_are_done_and_what_nobody_does_fails_at_once(control: Beside) -> None:
    added = await control.run(a={"kind": "add", "input": {"a": 1, "b": 2}})
    nothing = await control.run(a={"kind": "nothing"})
    large = await control.run(a={"kind": "large"})

    async with control.working():
        task = await control.when(added, succeeded)
        unknown = await control.when(nothing, failed)
        refused = await control.when(large, failed)

    assert task.output == {"sum": 3, "task_id": str(task.task_id)}
    assert unknown.failure.message.startswith(f"{control.queue} has no task {control.queue}.nothing: it has")
    assert (refused.failure.error, refused.attempt) == ("InvalidInput", 1)
    assert "needs a store of artifacts: set WORKER_ARTIFACTS_URL" in refused.failure.message


@pytest.mark.parametrize(("kind", "job"), [("wait", "job-1"), ("hold", "job-2")])
async def test_what_is_begun_elsewhere_is_known_to_control_when_the_work_goes_on(
    control: Beside, kind: str, job: str
) -> None:
    run_id = await control.run(a={"kind": kind})

    async with control.working():
        task = await control.when(run_id, lambda task: task.carried is not None)

    assert task.carried.external_ref == job


async def test_m5_a_worker_that_is_gone_and_comes_again_goes_on_where_it_was(control: Beside) -> None:
    run_id = await control.run(a={"kind": "wait"})
    async with control.working():
        before = await control.when(run_id, lambda task: task.carried is not None and task.carried.checkpoint)
    async with control.working():
        task = await control.when(run_id, succeeded)

    assert (task.attempt, task.losses, task.output["job"]) == (2, 1, "job-1")
    assert task.output["at"] > before.carried.checkpoint


@pytest.mark.parametrize("kind", ["wait", "hold"])
async def test_a_worker_that_leaves_has_its_work_keep_how_far_it_is_and_gives_it_back(
    control: Beside, kind: str
) -> None:
    run_id = await control.run(a={"kind": kind})
    async with control.working() as leaving:
        await control.when(run_id, lambda task: task.carried is not None)
        leaving.set()
    task = await control.task(run_id)

    assert (task.state, task.failure.error, task.losses, task.failures) == ("retry_wait", "preempted", 1, 0)
    assert task.carried.checkpoint is not None


async def test_r9_a_cancel_reaches_the_work_with_a_heartbeat(control: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.sdk.worker.leases.BEATS_EVERY_S", 0.1)
    run_id = await control.run(a={"kind": "hold"})

    async with control.working():
        await control.when(run_id, lambda task: task.carried is not None)
        async with control.begin() as tx:
            await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=run_id), tx)
        task = await control.when(run_id, lambda task: task.state == "cancelled")

    assert task.failure.message == "the worker stopped"


async def test_no_more_is_taken_than_there_is_room_for(control: Beside) -> None:
    run_id = await control.run(**{f"t{n}": {"kind": "hold"} for n in range(4)})

    async with control.working(at_once=2):
        await control.when(run_id, lambda task: task.carried is not None, "t0")
        await control.when(run_id, lambda task: task.carried is not None, "t1")
        async with control.begin() as tx:
            rows = await tx.fetch("SELECT worker IS NOT NULL AS taken FROM task_lease ORDER BY place")

    assert [row["taken"] for row in rows] == [True, True, False, False]


async def test_a_worker_of_a_queue_that_is_not_there_ends_and_says_so(control: Beside) -> None:
    leases = Leases(control.stub, "nowhere", kinds_of(f"{control.queue}_tasks", control.queue), "demo", "w", 1)

    with pytest.raises(NotFound, match="queue nowhere in namespace demo does not exist: ask for it by ApplyQueue"):
        await leases.run(asyncio.Event())


async def test_a_worker_that_may_not_ask_for_a_while_goes_on_with_its_work(
    control: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.sdk.worker.leases.WAITS_S", 0.5)
    run_id = await control.run(a={"kind": "wait", "input": {"most": 30}})
    grants = control.authority.grants.read_text()

    async with control.working():
        with structlog.testing.capture_logs() as logs:
            await control.when(run_id, lambda task: task.carried is not None and task.carried.checkpoint)
            control.authority.grants.write_text(grants.replace('"dev"', '"another"'))
            await until(lambda: _denied(logs, "heartbeat_failed"))
            await until(lambda: _denied(logs, "control_does_not_answer"))
        control.authority.grants.write_text(grants)
        task = await control.when(run_id, succeeded)

    assert (task.attempt, task.output["at"]) == (1, 30)


async def test_what_control_does_not_keep_of_one_task_is_told_to_it_and_spoils_nothing_for_others(
    control: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.sdk.worker.leases.AGAIN_AFTER_S", 0.1)
    spoiled = await control.run(a={"kind": "spoil"})
    others = await control.run(a={"kind": "wait", "input": {"most": 30}})

    async with control.working():
        refused = await control.when(spoiled, failed)
        task = await control.when(others, succeeded)

    assert refused.failure.error == "InvalidInput"
    assert "checkpoint_json cannot be taken: it holds a NUL character" in refused.failure.message
    assert (task.attempt, task.output["at"]) == (1, 30)


async def test_a_task_that_comes_while_a_worker_waits_is_given_to_it_at_once(control: Beside) -> None:
    async def asked() -> list[pb.LeasedTask]:
        request = pb.LeaseRequest(
            namespace="demo", queue=control.queue, worker="w", life="1", request_id="r1", wait_s=60
        )
        return [task async for answer in control.stub.Lease(request) for task in answer.tasks]

    waiting = asyncio.create_task(asked())
    await until(lambda: _watched(control.queue))
    await control.run(a={"kind": "add", "input": {"a": 1, "b": 2}})
    (task,) = await asyncio.wait_for(waiting, 30)

    assert json.loads(task.input_json) == {"a": 1, "b": 2}


async def test_a_wait_ends_in_time_and_empty(control: Beside) -> None:
    request = pb.LeaseRequest(namespace="demo", queue=control.queue, worker="w", life="1", request_id="r", wait_s=0.1)
    began = time.monotonic()

    answers = [answer async for answer in control.stub.Lease(request)]

    assert [len(answer.tasks) for answer in answers] == [0]
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda stub, about: stub.Heartbeat(pb.HeartbeatRequest(namespace="demo", heartbeats=[about])), "task_id"),
        (
            lambda stub, _: stub.Complete(pb.CompleteRequest(namespace="demo", results=[pb.Result(task_id="x")])),
            "results.end: say success, or failure",
        ),
        (
            lambda stub, _: stub.Complete(
                pb.CompleteRequest(namespace="demo", results=[pb.Result(success=pb.Success(output_json="{"))])
            ),
            "results.success.output_json is not JSON",
        ),
    ],
)
async def test_what_cannot_be_read_is_refused_with_its_field(
    control: Beside, ask: Callable[[Any, Any], Awaitable[Any]], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        await ask(control.stub, pb.Heartbeat(task_id="x", attempt=1, token="y"))


async def test_a_lease_whose_caller_is_gone_takes_nothing(control: Beside) -> None:
    request = pb.LeaseRequest(namespace="demo", queue=control.queue, worker="w", life="1", request_id="r", wait_s=60)
    call = asyncio.create_task(anext(control.stub.Lease(request)))
    await until(lambda: _watched(control.queue))

    call.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call
    await until(lambda: _unwatched(control.queue))
    run_id = await control.run(a={"kind": "hold"})

    assert (await control.task(run_id)).state == "dispatched"


async def _watched(queue: str) -> bool:
    return queue in Store.signals._watched


async def _denied(logs: list[Any], event: str) -> bool:
    return any(one["event"] == event and one["error"] == "Denied" for one in logs)


async def _unwatched(queue: str) -> bool:
    return queue not in Store.signals._watched
