"""gRPC in, for workers that lease their tasks: translate, hand over, translate back."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf.message import Message
from millrace.contracts.rpc.control.v1 import worker_pb2 as pb
from millrace.contracts.tasks import Carried, TaskDispatched
from millrace.control.api.messages import time_message
from millrace.control.commands import read_json
from millrace.control.commands.workers import MAX_OUTPUT_BYTES, CompleteTasks, KeepAlive, LeaseTasks
from millrace.control.handlers import complete_tasks, keep_alive, lease_tasks
from millrace.control.store import Store
from millrace.runtime.database import Transactions
from millrace.runtime.errors import InvalidInput


class WorkerApi:
    """What control answers to workers that lease their tasks."""

    async def Lease(self, request: pb.LeaseRequest, begin: Transactions[Store]) -> AsyncIterator[pb.LeaseResponse]:
        command = LeaseTasks(**_fields(request) | {"max_tasks": request.max_tasks or 1})
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + command.wait_s
        with Store.signals.watching(command.queue) as added:
            while True:
                async with begin() as tx:
                    taken = await lease_tasks(command, tx)
                if taken or (left_s := ends_at - loop.time()) <= 0:
                    yield pb.LeaseResponse(tasks=[_leased(row) for row in taken])
                    return
                await added.wait(left_s)

    async def Heartbeat(self, request: pb.HeartbeatRequest, tx: Store) -> pb.HeartbeatResponse:
        beats = tuple(_fields(beat, carried=_carried(beat, "heartbeats")) for beat in request.heartbeats)
        stops = await keep_alive(KeepAlive(namespace=request.namespace, beats=beats), tx)
        return pb.HeartbeatResponse(
            stops=[pb.Stop(task_id=str(s.task_id), attempt=s.attempt, cause=s.cause, reason=s.reason) for s in stops]
        )

    async def Complete(self, request: pb.CompleteRequest, tx: Store) -> pb.CompleteResponse:
        results = tuple(_result(result) for result in request.results)
        refused = await complete_tasks(CompleteTasks(namespace=request.namespace, results=results), tx)
        return pb.CompleteResponse(
            refused=[
                pb.Refusal(
                    task_id=str(one.task_id),
                    attempt=one.attempt,
                    error=type(one.error).__name__,
                    message=str(one.error),
                )
                for one in refused
            ]
        )


def _fields(message: Message, **instead: Any) -> dict[str, Any]:  # noqa: ANN401 - a field's value
    """Return a message's own fields, but for messages in it."""
    plain = [field.name for field in message.DESCRIPTOR.fields if field.message_type is None]
    repeated = {
        name: tuple(value) for name in plain if not isinstance(value := getattr(message, name), str | int | float)
    }
    return {name: getattr(message, name) for name in plain} | repeated | instead


def _carried(message: Any, where: str) -> Mapping[str, Any] | None:  # noqa: ANN401 - one that has the field
    if not message.HasField("carried"):
        return None
    said = message.carried
    value = read_json(said.checkpoint_json, f"{where}.carried.checkpoint_json") if said.checkpoint_json else None
    return {"checkpoint": value, "external_ref": said.external_ref}


def _result(result: pb.Result) -> dict[str, Any]:
    if result.WhichOneof("end") is None:
        raise InvalidInput("results.end: say success, or failure")
    about = _fields(result)
    if result.WhichOneof("end") == "failure":
        if not result.failure.error:
            raise InvalidInput("results.failure.error: an error's class is needed")
        return about | _fields(result.failure, carried=_carried(result.failure, "results.failure"))
    text = result.success.output_json or "{}"
    if (size := len(text.encode())) > MAX_OUTPUT_BYTES:
        raise InvalidInput(f"results.success.output_json: {size} bytes, more than {MAX_OUTPUT_BYTES}")
    return about | {"output": read_json(text, "results.success.output_json")}


def _leased(row: Mapping[str, Any]) -> pb.LeasedTask:
    order = TaskDispatched.model_validate(row["dispatched"])
    same = ("attempt", "kind", "workflow", "name", "principal", "heartbeat_timeout_s")
    needs = order.resources
    return pb.LeasedTask(
        **{name: getattr(order, name) for name in same},
        task_id=str(order.task_id),
        token=str(order.token),
        run_id=str(order.run_id),
        input_json=json.dumps(order.input),
        deadline=time_message(order.deadline),
        carried=_carried_message(order.carried) if order.carried is not None else None,
        traceparent=row["traceparent"],
        resources=pb.Resources(**needs.model_dump(exclude_none=True)) if needs is not None else None,
    )


def _carried_message(carried: Carried) -> pb.Carried:
    known = carried.checkpoint is not None
    return pb.Carried(
        checkpoint_json=json.dumps(carried.checkpoint) if known else "", external_ref=carried.external_ref
    )
