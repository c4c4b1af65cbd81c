"""The functions of a package as kinds of tasks that a worker takes."""

import importlib
import inspect
from asyncio import to_thread
from functools import partial
from typing import Any

from millrace.contracts.tasks import Carried, Output
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.subscriptions import TaskKind as Row
from millrace.runtime.subscriptions import task
from millrace.runtime.tasks import Job
from millrace.runtime.transaction import Transaction
from millrace.sdk import work
from millrace.sdk.flows.steps import TaskKind
from millrace.sdk.local.bodies import LocalBody, called_with, name_of, output_of
from millrace.sdk.modules import modules_of
from millrace.sdk.values import NoArtifacts, artifacts_of_environment, by_reference, in_full
from pydantic import BaseModel, ConfigDict

Place = tuple[str, str]
"""Where a function is found: its module, and the name there of the kind of task that it is the body of."""


class Fields(BaseModel):
    """What a task is given: whatever its function takes."""

    model_config = ConfigDict(extra="allow")


def kinds_of(package: str, queue: str) -> tuple[Row, ...]:
    """Return the kinds of tasks of a queue whose functions are in a package: in its module, and in those within it.

    Raises:
        NotFound: There is no such package, or no function in it is for the queue.
        InvalidInput: Two of its functions are for one kind.
    """
    found: dict[str, tuple[Place, LocalBody]] = {}
    for module in modules_of(package):
        for name, kind in vars(module).items():
            if isinstance(kind, TaskKind) and kind.body is not None and kind.queue == queue:
                before = found.setdefault(kind.kind, ((module.__name__, name), kind.body))
                if before[1] is not kind.body:
                    raise InvalidInput(f"{kind.kind} is {'.'.join(before[0])} and {module.__name__}.{name}: keep one")
    if not found:
        raise NotFound(f'no function of {package} is for queue {queue}: write @task("{queue}.<verb>") above one')
    return tuple(_row(kind, place, body) for kind, (place, body) in sorted(found.items()))


def _row(kind: str, place: Place, body: LocalBody) -> Row:
    if inspect.iscoroutinefunction(body):
        return task(kind, Fields, partial(_wait, place), _hand_on)
    return task(kind, Fields, Computing(place), _hand_on)


class Computing:
    """A plain function as work: sent to a child process as the place where that finds it.

    Attributes:
        func: The function; its module is imported once for all child processes.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.func = _body(place)

    def __reduce__(self) -> tuple[type["Computing"], tuple[Place]]:
        return Computing, (self._place,)

    def __call__(self, step: Fields, job: Job) -> dict[str, Any]:
        """Return what the function hands on."""
        given = _given(step, job)
        with work.doing(_attempt(job)):
            output = output_of(name_of(self.func), self.func(**called_with(self.func, given)))
        return by_reference(name_of(self.func), output, _artifacts(job))


async def _wait(place: Place, step: Fields, job: Job) -> dict[str, Any]:
    body = _body(place)
    given = await to_thread(_given, step, job)
    with work.doing(_attempt(job)):
        output = output_of(name_of(body), await body(**called_with(body, given)))
    return await to_thread(by_reference, name_of(body), output, _artifacts(job))


async def _hand_on(output: dict[str, Any], _: Transaction) -> Output:
    return output


def _attempt(job: Job) -> work.Attempt:
    about = job.task
    return work.Attempt(
        str(about.run_id),
        about.name,
        about.kind,
        about.attempt,
        moved=job.progress,
        task_id=str(about.task_id),
        carried=about.carried or Carried(),
        keep=job.carry,
        preempted=lambda: job.preempted,
        resources=about.resources.model_dump(exclude_none=True) if about.resources is not None else {},
    )


def _given(step: Fields, job: Job) -> Any:  # noqa: ANN401 - a JSON value
    """Return an input in full.

    Raises:
        InvalidInput: What it refers to is gone or damaged: to try again would find the same.
    """
    try:
        return in_full(step.model_dump(), _artifacts(job))
    except (NotFound, Conflict) as error:
        raise InvalidInput(str(error)) from error


def _artifacts(job: Job) -> Artifacts | NoArtifacts:
    return job.artifacts if hasattr(job, "artifacts") else artifacts_of_environment()


def _body(place: Place) -> LocalBody:
    found: TaskKind = getattr(importlib.import_module(place[0]), place[1])
    return found.fn
