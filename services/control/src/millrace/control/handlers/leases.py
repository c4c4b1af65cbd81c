"""What workers that lease their tasks are given, and what they say of them.

Leases are read first, then their runs are locked, as everywhere in the order of their ids; only under a run's lock are
its leases written, and what counts is decided by the run.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from millrace.contracts.control import LeasedTaskEnded, TaskLeased
from millrace.contracts.tasks import TaskDispatched, TaskFailed, TaskProgressed, TaskReport, TaskStarted, TaskSucceeded
from millrace.control.commands.workers import CompleteTasks, KeepAlive, LeaseTasks, OfAttempt, Result
from millrace.control.domain.runs import KeptRun
from millrace.control.handlers.deciding import advance
from millrace.control.handlers.orders import about_leased
from millrace.control.handlers.runs import inputs_of
from millrace.control.store import Store
from millrace.core.state import ATTEMPT_OPEN, TaskState
from millrace.runtime.errors import Conflict, InvalidInput, NotFound

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stop:
    """An attempt that its worker is to stop.

    Attributes:
        cause: `cancelled`, or `lost`: it is no longer this worker's.
    """

    task_id: UUID
    attempt: int
    cause: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A result that did not count, and why."""

    task_id: UUID
    attempt: int
    error: Conflict


async def lease_tasks(command: LeaseTasks, tx: Store) -> Sequence[Row]:
    """Return orders that are the worker's from now on; what it had in a former life is lost.

    Raises:
        NotFound: The namespace has no such queue.
        InvalidInput: The queue's tasks go out on a topic.
    """
    await _check_queue(command, tx)
    queue, worker = command.queue, command.worker
    if again := await tx.leased_by(queue, worker, command.request_id):
        return again
    former: Sequence[Row] = await tx.of_other_lives(queue, worker, command.life)
    waiting = await tx.waiting_orders(queue, command.except_kinds, command.max_tasks)
    if not former and not waiting:
        return ()
    runs = {kept.run.run_id: kept for kept in await tx.hold_runs(row["run_id"] for row in (*former, *waiting))}
    places = [(row["task_id"], row["attempt"]) for row in waiting if row["run_id"] in runs]
    taken = await tx.take_leases(places, worker, command.life, command.request_id) if places else []
    reports: list[TaskReport] = [_lost(row) for row in former if row["run_id"] in runs]
    reports += [TaskStarted(**_about(row)) for row in taken]
    for row in taken:
        task = runs[row["run_id"]].run.tasks[row["dispatched"]["name"]]
        about = about_leased(runs[row["run_id"]], task)
        tx.emit(TaskLeased(**about, dispatched_at=task.dispatched_at or tx.now))
    await _tell(reports, runs, tx)
    return sorted(taken, key=lambda row: row["place"])


async def keep_alive(command: KeepAlive, tx: Store) -> Sequence[Stop]:
    """Take that attempts go on, and what they leave to the next ones; return those that are to stop."""
    held, runs = await _held(command.namespace, command.beats, tx)
    reports = [
        TaskProgressed(**_about(row), fraction=beat.fraction, message=beat.message, carried=beat.carried)
        for beat in command.beats
        if (row := held.get(beat.place[:2])) is not None and row["ended_at"] is None and row["run_id"] in runs
    ]
    await _tell(reports, runs, tx)
    return [stop for beat in command.beats if (stop := _stop(beat, held.get(beat.place[:2]), runs)) is not None]


async def complete_tasks(command: CompleteTasks, tx: Store) -> Sequence[Refusal]:
    """Take how attempts have ended, each once; return those that did not count."""
    held, runs = await _held(command.namespace, command.results, tx)
    refused: list[Refusal] = []
    reports: dict[tuple[UUID, int], TaskSucceeded | TaskFailed] = {}
    for result in command.results:
        row = held.get(result.place[:2])
        if row is None or row["run_id"] not in runs or not (row["ended_at"] or _is_open(result, row, runs)):
            told = (
                f"attempt {result.attempt} of task {result.task_id} is not under way with this token: it was cancelled,"
            )
            refused.append(Refusal(result.task_id, result.attempt, Conflict(f"{told} its lease has lapsed, or both")))
        elif row["ended_at"] is None:
            reports.setdefault(result.place[:2], _report(result, row))
    if reports:
        tx.end_leases([*reports])
    for report in reports.values():
        kept = runs[report.run_id]
        outcome: Any = "succeeded" if isinstance(report, TaskSucceeded) else "failed"
        took = {"duration_s": report.duration_s, "cpu_s": report.cpu_s}
        error = "" if isinstance(report, TaskSucceeded) else report.error
        tx.emit(
            LeasedTaskEnded(**about_leased(kept, kept.run.tasks[report.name]), outcome=outcome, error=error, **took)
        )
    await _tell(reports.values(), runs, tx)
    return refused


async def _check_queue(command: LeaseTasks, tx: Store) -> None:
    rows = await tx.queues(command.namespace)
    found = next((row for row in rows if row["name"] == command.queue), None)
    if found is None:
        raise NotFound(
            f"queue {command.queue} in namespace {command.namespace} does not exist: ask for it by ApplyQueue"
        )
    if found["transport"] != "grpc":
        raise InvalidInput(f"queue: the tasks of {command.queue} go out on Kafka; one of grpc has another name")


async def _held(
    namespace: str, said: Sequence[OfAttempt], tx: Store
) -> tuple[Mapping[tuple[UUID, int], Row], Mapping[UUID, KeptRun]]:
    """Return the leases that something is said of, and their runs, locked, those of other namespaces left out."""
    found = await tx.held_leases([one.place for one in said])
    runs = await tx.hold_runs_anywhere(row["run_id"] for row in found.values()) if found else []
    # Again, as they are under the locks.
    held = await tx.held_leases([one.place for one in said]) if runs else {}
    return held, {kept.run.run_id: kept for kept in runs if kept.namespace == namespace}


async def _tell(reports: Iterable[TaskReport], runs: Mapping[UUID, KeptRun], tx: Store) -> None:
    by_run: defaultdict[UUID, list[TaskReport]] = defaultdict(list)
    for report in reports:
        by_run[report.run_id].append(report)
    told = [(runs[run_id], await inputs_of(mine, runs[run_id], tx), None) for run_id, mine in by_run.items()]
    await advance(told, tx)


def _is_open(said: OfAttempt, row: Row, runs: Mapping[UUID, KeptRun]) -> bool:
    task = runs[row["run_id"]].run.tasks.get(row["dispatched"]["name"])
    return task is not None and task.state in ATTEMPT_OPEN and task.token == said.token


def _stop(said: OfAttempt, row: Row | None, runs: Mapping[UUID, KeptRun]) -> Stop | None:
    if row is None or row["run_id"] not in runs or row["ended_at"] is not None or not _is_open(said, row, runs):
        return Stop(said.task_id, said.attempt, "lost", "it is no longer this worker's")
    if runs[row["run_id"]].run.tasks[row["dispatched"]["name"]].state is TaskState.CANCELLING:
        return Stop(said.task_id, said.attempt, "cancelled", row["cancelled"] or "it is no longer wanted")
    return None


def _about(row: Row) -> dict[str, Any]:
    order = TaskDispatched.model_validate(row["dispatched"])
    same = ("namespace", "task_id", "attempt", "token", "run_id", "kind", "name", "workflow")
    return {"service": order.queue} | {name: getattr(order, name) for name in same}


def _lost(row: Row) -> TaskFailed:
    why = f"the worker of attempt {row['attempt']} is gone"
    return TaskFailed(**_about(row), error="lost", message=why, retryable=True)


def _report(result: Result, row: Row) -> TaskSucceeded | TaskFailed:
    took = {"duration_s": result.duration_s, "cpu_s": result.cpu_s}
    if result.output is not None:
        return TaskSucceeded(**_about(row), **took, output=result.output)
    said = {name: getattr(result, name) for name in ("error", "message", "retryable", "carried")}
    return TaskFailed(**_about(row), **took, **said)
