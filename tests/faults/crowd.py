"""A tenant with much to compute."""

import asyncio
import json
from typing import Any
from uuid import uuid4

from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub

from tests.faults.declared import CONTRACT, land_readings
from tests.faults.stack import Stack
from tests.journeys.shop import ENDED

TENANT = DATASET = "crowd"
SCHEMA: Any = CONTRACT["schema"]
OWN = CONTRACT | {"id": DATASET, "name": DATASET, "schema": [SCHEMA[0] | {"name": DATASET}]}
_GIVEN = ("partition", "landed_at", "uri", "sha256")
WORKFLOW = {
    "name": "crowd.ingest",
    "tasks": {
        "ingest": {
            "kind": "data.ingest",
            "input": {"dataset": DATASET, **{name: {"$from": f"/trigger/data/{name}"} for name in _GIVEN}},
        }
    },
}


class Crowd:
    """Runs that each compute a moment, all of one tenant.

    Args:
        size: How many.
    """

    def __init__(self, stack: Stack, size: int) -> None:
        self._stack = stack
        self._size = size
        self._runs: list[str] = []
        self._control: Any = ControlServiceStub(stack.channel("control"))

    async def come(self) -> None:
        """Start all runs."""
        data: Any = DataServiceStub(self._stack.channel("data"))
        await data.ApplyContract(data_pb2.ApplyContractRequest(**_own(), odcs_yaml=json.dumps(OWN)))
        await self._control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**_own(), workflow=json.dumps(WORKFLOW)))
        name = f"crowd-{uuid4().hex[:6]}"
        landed = await asyncio.to_thread(land_readings, self._stack.landing, name)
        self._runs = [await self._start(f"{name}-{n}", landed) for n in range(self._size)]

    async def left(self) -> int:
        """Return how many runs have not ended."""
        asked = [control_pb2.GetRunRequest(namespace=TENANT, run_id=run_id) for run_id in self._runs]
        runs = [(await self._control.GetRun(one)).run for one in asked]
        return sum(run.state not in ENDED for run in runs)

    async def _start(self, partition: str, landed: dict[str, str]) -> str:
        given = {**landed, "partition": partition, "landed_at": "2024-01-01T00:00:00Z"}
        asked = control_pb2.StartRunRequest(**_own(), workflow=WORKFLOW["name"], data_json=json.dumps(given))
        return str((await self._control.StartRun(asked)).run.run_id)


def _own() -> dict[str, str]:
    return {"namespace": TENANT, "request_id": str(uuid4())}
