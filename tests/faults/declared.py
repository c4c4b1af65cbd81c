"""What the load needs: contracts, views, workflows and triggers, and one model that is deployed once per stack."""

import asyncio
import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.contracts.rpc.feature.v1 import feature_pb2
from millrace.contracts.rpc.feature.v1.feature_pb2_grpc import FeatureServiceStub
from millrace.runtime.testing import until

from tests.faults.stack import Stack
from tests.journeys.orders import land, orders
from tests.journeys.shop import DECLARATIONS, ENDED, shown

NAMESPACE = "faults"
MODEL = "orders.returned"
MONTH = "2024-01"
LIGHT, FULL = "faults.light", "faults.full"
STEPS = 3
DATASET, VIEW = "readings", "sensor_last"
READINGS = 50
BOOT_S = 180.0
#: Longer than any row holds a service down for most of the time: a run ends late, but does not fail for it.
LONGEST_S = 900
_PATIENT = {"max_attempts": 50, "backoff_s": 0.5, "max_backoff_s": 5, "lost": 100}
_EVENT = {"event": {"$from": "/trigger/data/event"}}

CONTRACT = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": DATASET,
    "name": DATASET,
    "version": "1.0.0",
    "status": "active",
    "schema": [
        {
            "name": DATASET,
            "physicalType": "table",
            "properties": [
                {"name": "sensor", "logicalType": "string", "required": True},
                {"name": "seen_at", "logicalType": "timestamp", "required": True},
                {"name": "value", "logicalType": "number", "required": True},
            ],
        }
    ],
}
VIEWS = {
    "name": VIEW,
    "entity": ["sensor"],
    "sources": [{"dataset": DATASET, "partitions": 1}],
    "sql": f"SELECT sensor, seen_at, value FROM {DATASET}",
    "event_time": "seen_at",
    "known_at": "seen_at",
    "features": ["value"],
    "online": True,
}


@dataclass(frozen=True)
class Prepared:
    """What is there for every load of a stack.

    Attributes:
        version: Of the model in use.
        customers: Whom predictions are asked about.
    """

    version: int
    customers: tuple[str, ...]


async def prepared(stack: Stack) -> Prepared:
    """Declare everything and deploy the model, the first time; return what there is."""
    if stack.prepared is None:
        stack.prepared = await _prepare(stack)
    assert isinstance(stack.prepared, Prepared)
    return stack.prepared


async def _prepare(stack: Stack) -> Prepared:
    text = {name: (DECLARATIONS / f"{name}.yaml").read_text() for name in ("contract", "views")}
    data, feature = DataServiceStub(stack.channel("data")), FeatureServiceStub(stack.channel("feature"))
    control = ControlServiceStub(stack.channel("control"))
    for contract in (text["contract"], json.dumps(CONTRACT)):
        await data.ApplyContract(data_pb2.ApplyContractRequest(**_own(), odcs_yaml=contract))
    views = f"{text['views']}\n---\n{json.dumps(VIEWS)}"
    await feature.ApplyViews(feature_pb2.ApplyViewsRequest(**_own(), views_yaml=views))
    run = await _boot(stack, control)
    output = {task.name: json.loads(task.output_json or "{}") for task in run.tasks}
    version = int(output["tune"]["version"])
    for workflow in (light(), full(version)):
        await control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**_own(), workflow=json.dumps(workflow)))
        name = workflow["name"]
        trigger = {"name": name, "workflow": name, "source": {"topic": "triggers"}, "filter": {"type": name}}
        await control.ApplyTrigger(control_pb2.ApplyTriggerRequest(**_own(), trigger=json.dumps(trigger)))
    return Prepared(version, tuple(sorted({order.customer for order in orders(MONTH)})))


async def _boot(stack: Stack, control: Any) -> control_pb2.Run:
    """Run the journey's workflow as far as the first deployment; return the run."""
    landed = await asyncio.to_thread(land, stack.landing, MONTH, orders(MONTH))
    await control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**_own(), workflow=json.dumps(boot(landed.trigger()))))
    asked = control_pb2.StartRunRequest(**_own(), workflow="faults.boot", data_json="{}")
    run_id = (await control.StartRun(asked)).run.run_id

    async def ended() -> control_pb2.Run | None:
        found = (await control.GetRun(control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id))).run
        await asyncio.sleep(0.1)
        return found if found.state in ENDED else None

    run: control_pb2.Run = await until(ended, seconds=BOOT_S)
    assert run.state == "succeeded", shown(run)
    return run


def boot(landed: dict[str, str]) -> dict[str, Any]:
    """Return the workflow from a month's file to a model that answers."""
    workflow = yaml.safe_load((DECLARATIONS / "workflow.yaml").read_text())
    kept = ("ingest", "training_set", "tune", "evaluate", "materialise", "deploy", "take_all")
    tasks = {name: workflow["tasks"][name] for name in kept}
    tasks["ingest"]["input"] = {"dataset": "orders", "partition": MONTH, "landed_at": "2024-02-05T00:00:00Z"}
    tasks["ingest"]["input"] |= {"uri": landed["uri"], "sha256": landed["sha256"]}
    for name in ("training_set", "materialise"):
        tasks[name]["input"]["up_to_partition"] = MONTH
    tasks["tune"]["input"]["trials"] = 1
    return {"name": "faults.boot", "tasks": tasks}


def light() -> dict[str, Any]:
    """Return the workflow of three steps outside, one after another."""
    names = [f"step{n}" for n in range(STEPS)]
    tasks = {
        name: {"kind": "data.effect", "needs": names[max(n - 1, 0) : n], "input": _EVENT, "retries": _PATIENT}
        for n, name in enumerate(names)
    }
    return {"name": LIGHT, "timeout_s": LONGEST_S, "tasks": tasks}


def full(version: int) -> dict[str, Any]:
    """Return the workflow over three services: a file, its features, something outside, and an alias of a model."""
    event = _EVENT["event"]
    place = {"dataset": DATASET, "partition": event, "landed_at": {"$from": "/trigger/time"}}
    place |= {name: {"$from": f"/trigger/data/{name}"} for name in ("uri", "sha256")}
    features = {"views": [VIEW], "up_to_partition": event}
    alias = {"model": MODEL, "version": version, "alias": event}
    steps = {
        "ingest": ("data.ingest", place),
        "materialise": ("feature.materialise", features),
        "outside": ("data.effect", _EVENT),
        "promote": ("training.promote", alias),
    }
    names = list(steps)
    tasks = {
        name: {"kind": kind, "needs": names[max(n - 1, 0) : n], "input": given, "retries": _PATIENT}
        for n, (name, (kind, given)) in enumerate(steps.items())
    }
    return {"name": FULL, "timeout_s": LONGEST_S, "tasks": tasks}


def land_readings(folder: Path, event: str) -> dict[str, str]:
    """Write a small file that no other event has; return the data of the event that tells of it."""
    file = folder / f"{event}.csv"
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["sensor", "seen_at", "value"])
        rows.writerows([f"{event}/{n}", f"2024-01-01T00:{n:02}:00+00:00", n] for n in range(READINGS))
    return {"event": event, "uri": file.as_uri(), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _own() -> dict[str, str]:
    return {"namespace": NAMESPACE, "request_id": str(uuid4())}
