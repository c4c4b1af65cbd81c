import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.runtime.v1 import runtime_pb2
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import HeldServiceStub
from millrace.contracts.tasks import TaskDispatched, TaskReport, TaskSucceeded
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound
from millrace.runtime.testing import create_topics, publish, until
from millrace.runtime.testing.process import Deployment, ServiceProcess, deployed
from millrace.sdk.stack.ports import free_ports

WORKFLOW = """
name: monthly
tasks:
  ingest: {kind: data.ingest, input: {uri: {$from: /trigger/data/uri}}, retries: {backoff_s: 0}}
  tune: {kind: training.tune, needs: [ingest], input: {version: {$from: /tasks/ingest/output/version}}}
"""
GRANTS = {"dev": {"demo": "EDIT"}, "guest": {"demo": "READ"}, "lead": {"demo": "MANAGE"}}


class World:
    """A running control, with what is around it: upstream and the services that do the work."""

    def __init__(self, deployment: Deployment, servers: str, topic: str, orders: AIOKafkaConsumer) -> None:
        self.deployment = deployment
        self.servers = servers
        self.topic = topic
        self.orders = orders
        self.told: list[TaskDispatched] = []
        self.taken: list[TaskDispatched] = []

    @property
    def control(self) -> Any:
        return ControlServiceStub(self.deployment.channel("control"))

    def stub_of(self, principal: str) -> Any:
        return ControlServiceStub(self.deployment.channel("control", principal))

    async def apply(self, workflow: str = WORKFLOW, **trigger: Any) -> None:
        await self.control.ApplyWorkflow(
            pb.ApplyWorkflowRequest(namespace="demo", request_id=str(uuid4()), workflow=workflow)
        )
        made = {"name": "landed", "workflow": "monthly", "source": {"topic": self.topic}, **trigger}
        await self.control.ApplyTrigger(
            pb.ApplyTriggerRequest(namespace="demo", request_id=str(uuid4()), trigger=json.dumps(made))
        )

    async def land(
        self,
        event_id: str,
        *,
        times: int = 1,
        value: bytes = b'{"uri": "file:///x"}',
        topic: str = "",
        partition: int = 0,
    ) -> None:
        headers = {"ce_specversion": "1.0", "ce_id": event_id, "ce_source": "/airport", "ce_type": "landed"}
        async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer:
            for _ in range(times):
                sent = [(name, text.encode()) for name, text in headers.items() if text]
                await producer.send_and_wait(topic or self.topic, value, headers=sent, partition=partition)

    async def order(self, kind: str) -> TaskDispatched:
        """Return the next order of a kind; those of other kinds, which may come first, are left for later."""
        async with asyncio.timeout(30):
            while not (waiting := [order for order in self.told if order.kind == kind and order not in self.taken]):
                record = await self.orders.getone()
                if dict(record.headers)["ce_type"] == b"millrace.tasks.TaskDispatched":
                    self.told.append(TaskDispatched.model_validate_json(record.value))
        self.taken.append(waiting[0])
        return waiting[0]

    async def succeed(self, order: TaskDispatched, *, times: int = 1, **output: Any) -> None:
        names = ("namespace", "task_id", "attempt", "token", "run_id", "kind", "name", "workflow")
        about = {name: getattr(order, name) for name in names}
        report: TaskReport = TaskSucceeded(**about, service=order.queue, output=output, duration_s=1.0, cpu_s=1.0)
        await publish(self.servers, [report], times=times)

    async def ended(self, run_id: str) -> pb.Run:
        """Watch a run to its end."""
        last = pb.Run()
        async for response in self.control.WatchRun(pb.WatchRunRequest(namespace="demo", run_id=run_id), timeout=30):
            last = response.run
        return last

    async def runs(self) -> list[pb.Run]:
        return list((await self.control.ListRuns(pb.ListRunsRequest(namespace="demo"))).runs)


@asynccontextmanager
async def world_of(postgres: Any, broker: Any, folder: Path) -> AsyncIterator[World]:
    topic = f"landed-{uuid4().hex[:8]}"
    await create_topics(broker.servers, {topic: 2})
    async with deployed(("control",), postgres, broker.servers, folder, grants=GRANTS) as deployment:
        orders = AIOKafkaConsumer(
            "control.tasks.data", "control.tasks.training", bootstrap_servers=broker.servers, auto_offset_reset="latest"
        )
        await orders.start()
        await orders.seek_to_end()
        try:
            yield World(deployment, broker.servers, topic, orders)
        finally:
            await orders.stop()


@pytest.fixture
async def world(postgres: Any, broker: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(postgres, broker, tmp_path) as made:
        yield made


@asynccontextmanager
async def second(world: World) -> AsyncIterator[ServiceProcess]:
    """Another replica of control."""
    own, (grpc_port, http_port) = world.deployment.services["control"], free_ports(2)
    told = {"CONTROL_GRPC_PORT": str(grpc_port), "CONTROL_HTTP_PORT": str(http_port), "CONTROL_INSTANCE": "1"}
    log = own.log.with_name("control-1.log")
    process = ServiceProcess("control", own.environment | told, (grpc_port, http_port), log)
    await process.start()
    try:
        yield process
    finally:
        process.kill()


async def test_a_new_trigger_is_live_in_2_s_on_every_replica(world: World) -> None:
    another = f"{world.topic}-another"
    await create_topics(world.servers, {another: 2})
    async with second(world):
        await world.apply()
        await world.land("e1")
        await world.order("data.ingest")  # both read that topic from now on

        await world.apply(name="another", source={"topic": another})
        applied_at = time.monotonic()
        for partition in (0, 1):
            await world.land(f"another{partition}", topic=another, partition=partition)
        orders = [await world.order("data.ingest") for _ in (0, 1)]
        took_s = time.monotonic() - applied_at

    assert len({order.run_id for order in orders}) == 2
    assert took_s < 2


async def test_e9_two_events_of_two_topics_start_one_run_also_when_control_is_killed_between_them(world: World) -> None:
    topics = [f"{world.topic}.{name}" for name in ("orders", "stock")]
    await create_topics(world.servers, dict.fromkeys(topics, 1))
    members = [{"name": topic.rpartition(".")[2], "source": {"topic": topic}} for topic in topics]
    workflow = "{name: monthly, tasks: {ingest: {kind: data.ingest, input: {all: {$from: /trigger/data}}}}}"
    await world.apply(workflow, source=None, join={"members": members}, key="/data/day")
    await world.land("e1", value=b'{"day": 1, "n": 1}', topic=topics[0])
    await world.land("e2", value=b'{"day": 2, "n": 2}', topic=topics[1])
    process = world.deployment.services["control"]

    async def waits() -> bool:
        (shown,) = (await world.control.ListTriggers(pb.ListTriggersRequest(namespace="demo"))).triggers
        return bool(shown.waiting_events == 2)

    assert await until(waits)
    process.kill()
    await world.land("e3", value=b'{"day": 1, "n": 3}', topic=topics[1], times=2)
    await process.start()
    order = await world.order("data.ingest")

    found = order.input["all"]
    assert (found["key"], found["complete"]) == ("1", True)
    assert {name: event["data"]["n"] for name, event in found["members"].items()} == {"orders": 1, "stock": 3}
    assert len(await world.runs()) == 1


async def test_a_topic_that_is_made_later_is_read_when_a_pattern_names_it(world: World) -> None:
    await world.apply(source={"topic": f"{world.topic}.*"})
    await create_topics(world.servers, {f"{world.topic}.eu": 1, f"{world.topic}.tasks": 1})

    await world.land("e0", topic=f"{world.topic}.tasks")
    await world.land("e1", topic=f"{world.topic}.eu")

    assert (await world.order("data.ingest")).kind == "data.ingest"
    assert [run.event_id for run in await world.runs()] == ["e1"]


async def test_an_event_that_comes_three_times_becomes_one_run_that_is_watched_to_its_end(world: World) -> None:
    await world.apply()
    await world.land("e1", times=3)
    ingest = await world.order("data.ingest")
    await world.succeed(ingest, times=2, version="v1")
    tune = await world.order("training.tune")
    watching = asyncio.create_task(world.ended(str(tune.run_id)))
    await world.succeed(tune)

    run = await watching

    assert ingest.input == {"uri": "file:///x"}
    assert tune.input == {"version": "v1"}
    assert (run.state, run.trigger, run.event_id, len(run.trace_id)) == ("succeeded", "landed", "e1", 32)
    assert [(task.name, task.state, task.attempts) for task in run.tasks] == [
        ("ingest", "succeeded", 1),
        ("tune", "succeeded", 1),
    ]
    assert len(await world.runs()) == 1

    async def all_came() -> bool:
        told = await world.control.ExplainEvent(
            pb.ExplainEventRequest(namespace="demo", source="/airport", event_id="e1")
        )
        return bool(told.deliveries == 3 and told.matches[0].disposition == "started")

    assert await until(all_came)


async def test_a_killed_control_goes_on_where_it_was(world: World) -> None:
    await world.apply()
    await world.land("e1")
    ingest = await world.order("data.ingest")
    process = world.deployment.services["control"]

    process.kill()
    await world.succeed(ingest, version="v1")
    await world.land("e2")
    await process.start()
    tune = await world.order("training.tune")
    await world.succeed(tune)

    assert (await world.ended(str(tune.run_id))).state == "succeeded"
    second = await world.order("data.ingest")
    assert second.run_id != ingest.run_id
    assert len(await world.runs()) == 2


async def test_the_clock_retries_what_nobody_took(world: World) -> None:
    await world.apply(WORKFLOW.replace("backoff_s: 0}", "backoff_s: 0}, queue_timeout_s: 0.5"))
    await world.land("e1")
    first = await world.order("data.ingest")
    second = await world.order("data.ingest")

    assert (second.task_id, second.attempt) == (first.task_id, 2)
    assert second.token != first.token


async def test_queued_runs_wait_for_one_another(world: World) -> None:
    await world.apply("{name: monthly, tasks: {ingest: {kind: data.ingest}}}", strategy="queue")
    await world.land("e1")
    await world.land("e2")
    first = await world.order("data.ingest")
    states = {run.event_id: run.state for run in await world.runs()}
    await world.succeed(first)
    second = await world.order("data.ingest")

    assert states.get("e2", "pending") == "pending"
    assert second.run_id != first.run_id


async def test_a_record_that_is_no_event_is_held_and_its_neighbours_go_on(world: World) -> None:
    await world.apply()
    await world.land("")
    await world.land("e2")
    await world.order("data.ingest")

    held = HeldServiceStub(world.deployment.channel("control"))
    rows = (await held.List(runtime_pb2.HeldServiceListRequest(namespace="demo"))).held
    rows = rows or (await until(lambda: _held(world))).held
    assert [row.topic for row in rows] == [world.topic]
    assert "attributes missing: id" in rows[0].reason


async def _held(world: World) -> Any:
    held = HeldServiceStub(world.deployment.channel("control", "service:control"))
    return await held.List(runtime_pb2.HeldServiceListRequest())


async def test_each_error_has_its_status(world: World) -> None:
    await world.apply()
    control, guest = world.control, world.stub_of("guest")

    with pytest.raises(InvalidInput, match=r"tasks\.a\.needs: there is no task 'b'"):
        await control.ApplyWorkflow(
            pb.ApplyWorkflowRequest(
                namespace="demo", request_id="1", workflow="{name: w, tasks: {a: {kind: d.x, needs: [b]}}}"
            )
        )
    with pytest.raises(NotFound, match="workflow other in namespace demo"):
        await control.StartRun(pb.StartRunRequest(namespace="demo", request_id="2", workflow="other"))
    with pytest.raises(InvalidInput, match="run_id"):
        await control.GetRun(pb.GetRunRequest(namespace="demo", run_id="1"))
    with pytest.raises(NotFound):
        await control.GetRun(pb.GetRunRequest(namespace="demo", run_id=str(uuid4())))
    with pytest.raises(Denied):
        await guest.StartRun(pb.StartRunRequest(namespace="demo", request_id="3", workflow="monthly"))
    with pytest.raises(Denied):
        await control.ListRuns(pb.ListRunsRequest(namespace="other"))


async def test_a_start_asked_twice_is_one_run_and_a_cancel_ends_it(world: World) -> None:
    await world.apply()
    asked = pb.StartRunRequest(namespace="demo", request_id="r1", workflow="monthly", data_json='{"uri": "file:///y"}')
    first, again = (await world.control.StartRun(asked)).run, (await world.control.StartRun(asked)).run
    assert first.run_id == again.run_id

    await world.order("data.ingest")
    cancel = pb.CancelRunRequest(namespace="demo", request_id="r2", run_id=first.run_id, reason="enough")
    run = (await world.control.CancelRun(cancel)).run

    assert run.state == "ending"
    assert run.cause == "cancelled by dev: enough"
    with pytest.raises(Conflict):
        await world.control.StartRun(pb.StartRunRequest(namespace="demo", request_id="r1", workflow="other"))


async def test_an_operation_asked_twice_is_done_once_and_a_result_is_set_by_those_who_manage(world: World) -> None:
    await world.apply()
    start = pb.StartRunRequest(namespace="demo", request_id="s1", workflow="monthly", data_json='{"uri": "file:///y"}')
    run = (await world.control.StartRun(start)).run
    about = {"namespace": "demo", "run_id": run.run_id}
    dev, lead = world.control, world.stub_of("lead")

    pause = pb.PauseRunRequest(request_id="p1", **about)
    first, second = [await dev.PauseRun(pause) for _ in range(2)]
    assert first == second
    assert [*first.changes] == ["run: running -> paused"]
    with pytest.raises(Conflict, match="is paused already"):
        await dev.PauseRun(pb.PauseRunRequest(request_id="p2", **about))
    with pytest.raises(Denied):
        await world.stub_of("guest").ResumeRun(pb.ResumeRunRequest(request_id="g1", **about))

    skip = pb.SetTaskResultRequest(request_id="t1", task="ingest", state="skipped", reason="not this month", **about)
    with pytest.raises(Denied):
        await dev.SetTaskResult(skip)
    told = [await lead.SetTaskResult(skip) for _ in range(2)]
    assert [[*one.changes] for one in told] == [["ingest: dispatched -> skipped"]] * 2

    wanted = pb.ChangeRunsRequest(namespace="demo", request_id="m1", filter={"states": ["paused"]}, resume={})
    pages = [await dev.ChangeRuns(wanted) for _ in range(2)]
    assert pages[0] == pages[1]
    assert [one.state for one in pages[0].runs] == ["succeeded"]
    (task,) = [one for one in (await dev.GetRun(pb.GetRunRequest(**about))).run.tasks if one.name == "ingest"]
    assert task.set_by == "lead: not this month"


async def test_a_watch_goes_on_after_what_was_seen(world: World) -> None:
    await world.apply()
    start = pb.StartRunRequest(namespace="demo", request_id="w1", workflow="monthly", data_json='{"uri": "file:///y"}')
    about = {"namespace": "demo", "run_id": (await world.control.StartRun(start)).run.run_id}

    first = await anext(aiter(world.control.WatchRun(pb.WatchRunRequest(**about))))
    await world.control.PauseRun(pb.PauseRunRequest(request_id="w2", **about))
    second = await anext(aiter(world.control.WatchRun(pb.WatchRunRequest(after=first.offset, **about))))
    await world.control.CancelRun(pb.CancelRunRequest(request_id="w3", force=True, **about))
    rest = [told async for told in world.control.WatchRun(pb.WatchRunRequest(after=second.offset, **about))]
    over = [told async for told in world.control.WatchRun(pb.WatchRunRequest(after=rest[-1].offset, **about))]

    assert [told.run.state for told in (first, second, *rest)] == ["running", "paused", "cancelled"]
    assert over == [], "nothing is new"


TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
WINDOW_S = 8


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_replica_that_has_nothing_to_do_asks_the_database_at_most_once_a_second(
    world: World, replicas: int
) -> None:
    await world.apply()
    observer = await asyncpg.connect(world.deployment.settings["control"]["POSTGRES_DSN"])

    async def few() -> bool:
        before = await observer.fetchval(TRANSACTIONS)
        await observer.execute(f"SELECT pg_sleep({WINDOW_S})")
        asked = await observer.fetchval(TRANSACTIONS) - before - 2  # of which two are this one's own
        return bool(asked <= replicas * WINDOW_S)

    async with second(world) if replicas == 2 else nullcontext():
        assert await until(few, seconds=60), "once what was left to do is done"
    await observer.close()


async def test_a_stop_drains(world: World) -> None:
    await world.apply()

    assert world.deployment.services["control"].terminate() == 0
