"""A worker of Temporal's, and a client that starts its workflow."""

import asyncio
import sys
import uuid
from datetime import timedelta
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from tests.benchmarks.peers.load import STEPS, answer

QUEUE = "bench"
READY_S = 60


@activity.defn
async def add_one(n: int) -> int:
    return n + 1


@workflow.defn
class Five:
    @workflow.run
    async def run(self, n: int) -> int:
        for _ in range(STEPS):
            n = await workflow.execute_activity(add_one, n, start_to_close_timeout=timedelta(minutes=1))
        return n


async def work(client: Client, told: Path) -> None:
    kept = Duration(seconds=24 * 3600)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=client.namespace, workflow_execution_retention_period=kept)
    )
    async with Worker(client, task_queue=QUEUE, workflows=[Five], activities=[add_one]):
        told.touch()
        await asyncio.Event().wait()


async def ask(client: Client) -> None:
    async def run() -> int:
        return await client.execute_workflow(Five.run, 0, id=str(uuid.uuid4()), task_queue=QUEUE)

    async with asyncio.timeout(READY_S):
        while not await begun(run):
            await asyncio.sleep(0.5)
    await answer(run)


async def begun(run) -> bool:  # noqa: ANN001 - see above
    """Whether the server has come to know the namespace."""
    try:
        await run()
    except RPCError:
        return False
    return True


async def main(address: str, role: str, *rest: str) -> None:
    client = await Client.connect(address, namespace="bench")
    await (work(client, Path(rest[0])) if role == "worker" else ask(client))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
