"""Rows of runs, tasks and attempts, and what they are in a decision."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from millrace.control.domain.runs import KeptRun, Parent
from millrace.core.plan import Plan
from millrace.core.state import AttemptEnded, Carried, Failure, Pause, Run, RunState, TaskRun, TaskState

#: Kept as JSON in a column of its own.
K = TypeVar("K", Failure, Carried)


def holds_up(last_run: str) -> str:
    """Return the condition that the run of a strict sequence has failed, and none that does it again has succeeded.

    It is no EXISTS: what is said so may be answered by reading all runs that have failed, once.
    """
    return f"""(SELECT f.state = 'failed' AND NOT EXISTS (
    WITH RECURSIVE again AS (
        SELECT run_id, state FROM run WHERE rerun_of = f.run_id
        UNION ALL SELECT n.run_id, n.state FROM run n JOIN again a ON n.rerun_of = a.run_id
    ) SELECT FROM again WHERE state = 'succeeded') FROM run f WHERE f.run_id = {last_run}) IS TRUE"""


def everywhere(table: str) -> str:
    """Return all that a table has of runs, also of those in the archive, as part of a query."""
    return f"(TABLE {table} UNION ALL TABLE {table}_archive)"


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any] | None]:
    """Return rows as the columns of one `unnest` over several arrays; an array without any value is a NULL.

    PostgreSQL pads that with NULLs to the length of the others, and asyncpg need not encode each element. At least one
    column has values; `ANY`, and an `unnest` of one array, would find nothing in a NULL.
    """
    return [None if column.count(None) == len(column) else list(column) for column in zip(*rows, strict=True)]


def kept_run(row: asyncpg.Record, plans: Mapping[str, Plan], tasks: dict[str, TaskRun]) -> KeptRun:
    """Return a run as it is kept."""
    run = Run(
        run_id=row["run_id"],
        state=RunState(row["state"]),
        trigger=row["trigger"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        due_at=row["due_at"],
        outcome=RunState(row["outcome"]) if row["outcome"] else None,
        cause=row["cause"],
        output=row["output"],
        pause=_pause(row["pause"]),
        signals=tuple((name, data) for name, data in row["signals"]),
        refresh=row["refresh"],
        deadline_at=row["deadline_at"],
        missed_at=row["missed_at"],
        tasks=tasks,
    )
    plan = plans[row["planned_sha256"] or row["sha256"]]
    return KeptRun(
        run=run,
        plan=plan,
        namespace=row["namespace"],
        workflow=row["workflow"],
        sha256=row["sha256"],
        principal=row["principal"],
        trigger_name=row["trigger_name"],
        place=row["place"],
        traceparent=row["traceparent"],
        created_at=row["created_at"],
        parent=Parent(row["parent_run_id"], row["parent_task"], row["parent_task_id"], row["depth"])
        if row["parent_run_id"]
        else None,
        planned_sha256=row["planned_sha256"],
        rerun_of=row["rerun_of"],
        version=row["version"],
        locker=row.get("locker"),
    )


def task_run(row: asyncpg.Record) -> TaskRun:
    """Return a task as it is kept."""
    failure = row["failure"]
    return TaskRun(
        name=row["name"],
        task_id=row["task_id"],
        state=TaskState(row["state"]),
        began_at=row["began_at"],
        attempt=row["attempt"],
        token=row["token"],
        failures=row["failures"],
        losses=row["losses"],
        dispatched_at=row["dispatched_at"],
        started_at=row["started_at"],
        seen_at=row["seen_at"],
        ended_at=row["ended_at"],
        due_at=row["due_at"],
        output=row["output"],
        failure=_known(Failure, failure) if failure is not None else None,
        fraction=row["fraction"],
        message=row["message"],
        outcome=TaskState(row["outcome"]) if row["outcome"] else None,
        inner=row["inner_state"],
        carried=_known(Carried, row["carried"]) if row["carried"] is not None else None,
        deadline_at=row["deadline_at"],
        missed_at=row["missed_at"],
    )


def task_row(run_id: UUID, task: TaskRun) -> tuple[Any, ...]:
    """Return a task as it is to be kept."""
    times: tuple[datetime | None, ...] = (task.dispatched_at, task.started_at, task.seen_at, task.ended_at, task.due_at)
    return (
        *(run_id, task.name, task.task_id, task.state, task.began_at, task.attempt, task.token),
        *(task.failures, task.losses, *times, json_of(task.output)),
        json_of(_told(task.failure) if task.failure is not None else None),
        *(task.fraction, task.message, task.outcome, json_of(task.inner)),
        json_of(_told(task.carried) if task.carried is not None else None),
        *(task.deadline_at, task.missed_at),
    )


def run_row(kept: KeptRun) -> tuple[Any, ...]:
    """Return a run as it is to be kept anew."""
    run = kept.run
    return (
        *(run.run_id, run.state, run.outcome, run.cause, run.started_at, run.ended_at, run.due_at),
        *(json_of(run.output), json.dumps(run.signals), kept.planned_sha256, _pause_json(run.pause)),
        *(run.deadline_at, run.missed_at, kept.version, None if kept.ours else kept.locker),
    )


def place_of(kept: KeptRun) -> tuple[UUID, int, int | None]:
    """Return by what the row of a run is known, if it is as it was."""
    return (kept.run.run_id, kept.version, None if kept.ours else kept.locker)


def size_of(task: TaskRun) -> int:
    """Return how many bytes a task takes in memory, about."""
    return 1000 + sum(len(repr(value)) for value in (task.output, task.inner, task.carried))


def json_of(value: Any) -> str | None:  # noqa: ANN401 - a JSON value
    """Return JSON as text; nothing for nothing."""
    return json.dumps(value) if value is not None else None


def _told(kept: Failure | Carried) -> dict[str, Any]:
    """Return what differs from the default: a replica of a former version reads it too, where it has no newer field."""
    values = {field.name: (getattr(kept, field.name), field.default) for field in fields(kept)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _known(cls: type[K], kept: Mapping[str, Any]) -> K:
    """Return what was kept, as far as this version knows its fields: a later one may have kept more."""
    return cls(**{field.name: kept[field.name] for field in fields(cls) if field.name in kept})


def _pause_json(pause: Pause | None) -> str | None:
    return json.dumps({**asdict(pause), "at": pause.at.isoformat()}) if pause is not None else None


def attempt_row(run_id: UUID, effect: AttemptEnded) -> tuple[Any, ...]:
    """Return an attempt that ended without a result, as it is to be kept."""
    task, failure = effect.task, effect.failure
    said = (failure.error, failure.message, failure.lost)
    return (task.task_id, task.attempt, run_id, task.name, *said, task.dispatched_at, task.started_at, task.ended_at)


def _pause(kept: dict[str, Any] | None) -> Pause | None:
    return Pause(datetime.fromisoformat(kept["at"]), kept["cause"], kept["left_s"]) if kept is not None else None
