"""What a worker and control say to one another of leased tasks, as messages."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message
from millrace.contracts.rpc.control.v1 import worker_pb2 as pb
from millrace.contracts.tasks import Carried, Resources, TaskDispatched, TaskFailed, TaskSucceeded
from millrace.runtime.tasks.attempts import Attempt, output_json, plain

MOST_SAID = 500
MAX_SAID_BYTES = 2 * 1024 * 1024

M = TypeVar("M", bound=Message)


def order_of(task: pb.LeasedTask, namespace: str, queue: str) -> TaskDispatched:
    """Return a leased task as the order that it is on any transport."""
    left = None
    if task.HasField("carried"):
        said = task.carried
        checkpoint = json.loads(said.checkpoint_json) if said.checkpoint_json else None
        left = Carried(checkpoint=checkpoint, external_ref=said.external_ref)
    return TaskDispatched(
        namespace=namespace,
        queue=queue,
        task_id=UUID(task.task_id),
        attempt=task.attempt,
        token=UUID(task.token),
        kind=task.kind,
        input=json.loads(task.input_json),
        run_id=UUID(task.run_id),
        workflow=task.workflow,
        name=task.name,
        principal=task.principal,
        deadline=task.deadline.ToDatetime(UTC),
        heartbeat_timeout_s=task.heartbeat_timeout_s,
        carried=left,
        resources=_resources(task.resources) if task.HasField("resources") else None,
    )


def _resources(said: pb.Resources) -> Resources:
    given = {field.name: value for field, value in said.ListFields()}
    return Resources(**given)


def beat_of(attempt: Attempt, carried: Carried | None) -> pb.Heartbeat:
    """Return that an attempt goes on, and what it leaves, where there is news of that."""
    task = attempt.task
    left = None
    if carried is not None:
        checkpoint = json.dumps(carried.checkpoint) if carried.checkpoint is not None else ""
        left = pb.Carried(checkpoint_json=checkpoint, external_ref=carried.external_ref)
    return pb.Heartbeat(
        task_id=str(task.task_id),
        attempt=task.attempt,
        token=str(task.token),
        fraction=min(1.0, max(0.0, attempt.fraction)),
        message=plain(attempt.message, 200),
        carried=left,
    )


def result_of(report: TaskSucceeded | TaskFailed) -> pb.Result:
    """Return the report of how an attempt has ended."""
    result = pb.Result(
        task_id=str(report.task_id),
        attempt=report.attempt,
        token=str(report.token),
        duration_s=report.duration_s,
        cpu_s=report.cpu_s,
    )
    if isinstance(report, TaskSucceeded):
        result.success.output_json = output_json(report.output).decode()
    else:
        result.failure.CopyFrom(_failure(report.error, report.message, retryable=report.retryable))
    return result


def refused_of(result: pb.Result, reason: str) -> pb.Result:
    """Return that an attempt has failed whose output control does not take."""
    told = pb.Result()
    told.CopyFrom(result)
    told.failure.CopyFrom(_failure("InvalidInput", reason, retryable=False))
    return told


def _failure(error: str, message: str, *, retryable: bool) -> pb.Failure:
    return pb.Failure(error=error[:256], message=plain(message, 2000), retryable=retryable)


def pages(said: Iterable[M]) -> Iterator[list[M]]:
    """Yield messages in lists that fit into one call each."""
    page: list[M] = []
    size = 0
    for one in said:
        if page and (len(page) == MOST_SAID or size + one.ByteSize() > MAX_SAID_BYTES):
            yield page
            page, size = [], 0
        page.append(one)
        size += one.ByteSize()
    if page:
        yield page
