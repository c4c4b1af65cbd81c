"""What is too large: calls, events, bombs, workflows, JSON. It is refused with a reason, in bounded memory."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.errors import InvalidInput, Overloaded
from millrace.runtime.testing import until
from millrace.runtime.testing.batches import MIB, batch, bomb, produce
from millrace.sdk.held import Which

from tests.faults.cgroup import memory_limit, needs_group, peak_mib
from tests.faults.declared import NAMESPACE
from tests.faults.judge import Judged
from tests.faults.reported import LISTENER, TOPIC, headers, held_events, made
from tests.faults.rows import row
from tests.faults.stack import Stack

#: Read by lineage as it comes, and by nothing else.
OUTSIDE = "openlineage.events"
#: What infra/k8s gives a service that has nothing but messages to do.
LIMIT_MIB = 512
#: What a refusal may cost a process for good.
GROWTH_MIB = 64
BOMB = 400 * MIB
HELD_S = 60.0


@contextmanager
def limited(stack: Stack, part: str) -> Iterator[Path]:
    """Have a part live in so much memory from its next start on."""
    with memory_limit(LIMIT_MIB) as folder:
        stack.parts[part].prefix = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "sh"]
        try:
            yield folder
        finally:
            stack.parts[part].prefix = []


@row(29)
async def test_row_29_what_is_too_large_is_refused_with_a_reason_in_bounded_memory(
    stack: Stack, judged: Judged
) -> None:
    control = stack.pid("control")
    async with judged(29, stack, "5 MB call, 10 MB event, 1e6-node DAG, 10k-deep JSON") as fault:
        before = {part: rss_mib(stack, part) for part in ("control", LISTENER)}
        for ask in (large_call, wide_workflow, less_wide_workflow, deep_workflow):
            with pytest.raises((InvalidInput, Overloaded)) as refused:
                await ask(stack)
            assert 0 < len(str(refused.value)) < 2000
        with pytest.raises(KafkaError) as too_large:
            await large_event(stack)
        assert isinstance(too_large.value, MessageSizeTooLargeError)
        deep = await deep_event(stack)
        fault.over()
    grown = {part: rss_mib(stack, part) - before[part] for part in before}
    print(f"\ngrown by {grown}")

    assert (await held_events(stack).list(10, Which(LISTENER, TOPIC, deep))).events
    assert stack.pid("control") == control
    assert all(mib < GROWTH_MIB for mib in grown.values()), grown
    await held_events(stack).drop(Which(LISTENER, TOPIC, deep))


@row(29)
async def test_row_29_a_bomb_is_held_without_its_body_in_bounded_memory(stack: Stack, judged: Judged) -> None:
    needs_group("memory")
    async with judged(29, stack, f"400 MB bomb at a service that has {LIMIT_MIB} MiB") as fault:
        with limited(stack, LISTENER) as memory:
            await stack.restart(LISTENER)
            starts, before = stack.parts[LISTENER].starts, rss_mib(stack, LISTENER)
            key = await exploded(stack)
            most, grown = peak_mib(memory), rss_mib(stack, LISTENER) - before
            assert stack.parts[LISTENER].starts == starts
        fault.over()
    print(f"\n{LISTENER} took at most {most:.0f} of {LIMIT_MIB} MiB; grown by {grown:.0f} MiB")

    held = held_events(stack)
    for one in (await held.list(10, Which(LISTENER, OUTSIDE, key))).events:
        shown = await held.show(one.place)
        assert (one.event.size_bytes, len(one.event.sha256), shown.value) == (BOMB, 64, b"")
        assert "its value is not kept" in one.event.reason
    assert grown < GROWTH_MIB
    for spoiled in (key, f"{key}-after"):
        await held.drop(Which(LISTENER, OUTSIDE, spoiled))


async def exploded(stack: Stack) -> str:
    """Publish a bomb in two partitions, and what is held at once behind one; return the bomb's key once all is held."""
    key = f"bomb-{uuid4().hex[:8]}"
    packed = await asyncio.to_thread(bomb, BOMB, key=key.encode())
    await asyncio.gather(*(produce(stack.servers, OUTSIDE, partition, packed) for partition in range(2)))
    await produce(stack.servers, OUTSIDE, 0, batch([(f"{key}-after".encode(), b"{", [])]))
    await until(lambda: are_held(stack, key, 2, OUTSIDE), seconds=HELD_S)
    await until(lambda: are_held(stack, f"{key}-after", 1, OUTSIDE), seconds=HELD_S)
    return key


async def are_held(stack: Stack, key: str, count: int, topic: str = TOPIC) -> bool:
    """Return whether lineage holds so many events of a key."""
    return len((await held_events(stack).list(10, Which(LISTENER, topic, key))).events) == count


async def large_call(stack: Stack) -> None:
    """Ask with 5 MB."""
    await start(stack, json.dumps({"text": "x" * (5 * MIB)}))


async def start(stack: Stack, data: str) -> None:
    """Ask for a run."""
    asked = control_pb2.StartRunRequest(
        namespace=NAMESPACE, request_id=str(uuid4()), workflow="faults.light", data_json=data
    )
    await ControlServiceStub(stack.channel("control")).StartRun(asked)


async def wide_workflow(stack: Stack, nodes: int = 1_000_000) -> None:
    """Declare a workflow of 1e6 tasks."""
    tasks = ",".join(f'{{"name":"t{n}","kind":"data.effect"}}' for n in range(nodes))
    await declare(stack, f'{{"name":"wide","tasks":[{tasks}]}}')


async def less_wide_workflow(stack: Stack) -> None:
    """Declare as many tasks as one message takes."""
    await wide_workflow(stack, 100_000)


async def deep_workflow(stack: Stack) -> None:
    """Declare a workflow whose input is 10,000 lists deep."""
    deep = "[" * 10_000 + "]" * 10_000
    await declare(stack, '{"name":"deep","tasks":[{"name":"t","kind":"data.effect","input":{"x":' + deep + "}}]}")


async def declare(stack: Stack, workflow: str) -> None:
    """Ask for a workflow to be applied."""
    asked = control_pb2.ApplyWorkflowRequest(namespace=NAMESPACE, request_id=str(uuid4()), workflow=workflow)
    await ControlServiceStub(stack.channel("control")).ApplyWorkflow(asked)


async def large_event(stack: Stack) -> None:
    """Publish an event of 10 MB."""
    async with AIOKafkaProducer(bootstrap_servers=stack.servers, max_request_size=20 * MIB) as producer:
        await producer.send_and_wait(TOPIC, b"x" * (10 * MIB), key=b"large")


async def deep_event(stack: Stack) -> str:
    """Publish an event whose JSON is 10,000 lists deep; return its key once it is held."""
    run_id = uuid4()
    event = made(run_id, f"deep-{run_id}")
    deep = event.model_copy(update={"event": {"x": 1}})
    value = deep.model_dump_json().replace('{"x":1}', '{"x":' + "[" * 10_000 + "]" * 10_000 + "}").encode()
    async with AIOKafkaProducer(bootstrap_servers=stack.servers) as producer:
        await producer.send_and_wait(TOPIC, value, key=str(run_id).encode(), headers=list(headers(event).items()))
    await until(lambda: are_held(stack, str(run_id), 1), seconds=HELD_S)
    return str(run_id)


def rss_mib(stack: Stack, part: str) -> float:
    """Return what a part has in memory."""
    return psutil.Process(stack.pid(part)).memory_info().rss / MIB
