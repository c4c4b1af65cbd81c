"""Schedules over gRPC: translate, hand over, translate back."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.api.pages import asked_page, cut
from millrace.control.commands.schedules import (
    ApplySchedule,
    CancelBackfill,
    NamedSchedule,
    PreviewSchedule,
    StartBackfill,
    read_schedule,
)
from millrace.control.handlers import (
    apply_schedule,
    cancel_backfill,
    delete_schedule,
    pause_schedule,
    preview_schedule,
    resume_schedule,
    start_backfill,
)
from millrace.control.handlers.schedules import Planned
from millrace.control.store import Store
from millrace.core.schedules import Schedule
from millrace.runtime.caller import caller
from millrace.runtime.command import instant
from millrace.runtime.errors import InvalidInput


class ScheduleApi:
    """What control answers about schedules; one line each way."""

    async def ApplySchedule(self, request: pb.ApplyScheduleRequest, tx: Store) -> pb.ApplyScheduleResponse:
        schedule = read_schedule(request.schedule)
        command = ApplySchedule(namespace=request.namespace, principal=caller().principal, schedule=schedule)
        changed = await apply_schedule(command, tx)
        shown = await tx.shown_schedule(command.namespace, schedule.name)
        return pb.ApplyScheduleResponse(schedule=_schedule(shown), unchanged=not changed)

    async def GetSchedule(self, request: pb.GetScheduleRequest, tx: Store) -> pb.GetScheduleResponse:
        asked = _named(request)
        return pb.GetScheduleResponse(
            schedule=_schedule(await tx.shown_schedule(asked.namespace, asked.name)),
            fires=[_fire(row) for row in await tx.fires(asked.namespace, asked.name)],
            passed=[_passed(row) for row in await tx.passed(asked.namespace, asked.name)],
            backfills=[_backfill(row) for row in await tx.backfills(asked.namespace, asked.name)],
        )

    async def ListSchedules(self, request: pb.ListSchedulesRequest, tx: Store) -> pb.ListSchedulesResponse:
        asked = asked_page(request)
        found = await tx.shown_schedules(asked.namespace, asked.after, asked.limit + 1)
        page, after = cut(found, asked, itemgetter("name"))
        return pb.ListSchedulesResponse(schedules=map(_schedule, page), next_after=after)

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, tx: Store) -> pb.PauseScheduleResponse:
        return pb.PauseScheduleResponse(schedule=_schedule(await pause_schedule(_named(request), tx)))

    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, tx: Store) -> pb.ResumeScheduleResponse:
        return pb.ResumeScheduleResponse(schedule=_schedule(await resume_schedule(_named(request), tx)))

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, tx: Store) -> pb.DeleteScheduleResponse:
        runs, backfills = await delete_schedule(_named(request), tx)
        return pb.DeleteScheduleResponse(cancelled_runs=runs, cancelled_backfills=backfills)

    async def PreviewSchedule(self, request: pb.PreviewScheduleRequest, tx: Store) -> pb.PreviewScheduleResponse:
        asked = PreviewSchedule(
            namespace=request.namespace,
            name=request.name,
            schedule=read_schedule(request.schedule) if request.schedule else None,
            count=request.count or PreviewSchedule.model_fields["count"].default,
            after=instant(request.after, "after") if request.HasField("after") else None,
        )
        schedule, found = await preview_schedule(asked, tx)
        return pb.PreviewScheduleResponse(
            fires=_planned(schedule, ((one.logical_at, one.due_at) for one in found)),
        )

    async def Backfill(self, request: pb.BackfillRequest, tx: Store) -> pb.BackfillResponse:
        for field in ("from", "to"):
            if not request.HasField(field):
                raise InvalidInput(f"{field}: is missing; it is a moment such as 2026-01-01T00:00:00Z")
        command = StartBackfill(
            namespace=request.namespace,
            principal=caller().principal,
            schedule=request.schedule,
            backfill_id=request.backfill_id,
            from_at=instant(getattr(request, "from"), "from"),
            to_at=instant(request.to, "to"),
            newest_first=request.newest_first,
            at_once=request.at_once or StartBackfill.model_fields["at_once"].default,
            dry_run=request.dry_run,
        )
        planned = await start_backfill(command, tx)
        return pb.BackfillResponse(
            backfill=_backfill(planned.row),
            would_start=_planned(planned.schedule, ((one, one) for one in planned.moments)),
        )

    async def CancelBackfill(self, request: pb.CancelBackfillRequest, tx: Store) -> pb.CancelBackfillResponse:
        command = CancelBackfill(
            namespace=request.namespace,
            principal=caller().principal,
            schedule=request.schedule,
            backfill_id=request.backfill_id,
            cancel_runs=request.cancel_runs,
        )
        planned: Planned = await cancel_backfill(command, tx)
        return pb.CancelBackfillResponse(backfill=_backfill(planned.row))


def _named(
    request: pb.GetScheduleRequest | pb.PauseScheduleRequest | pb.ResumeScheduleRequest | pb.DeleteScheduleRequest,
) -> NamedSchedule:
    return NamedSchedule(namespace=request.namespace, principal=caller().principal, name=request.name)


def _schedule(row: Mapping[str, Any]) -> pb.Schedule:
    return pb.Schedule(
        name=row["name"],
        workflow=row["workflow"],
        document_json=json.dumps(row["document"]),
        principal=row["principal"],
        applied_at=_time(row["applied_at"]),
        next_at=_time(row["next_at"]),
        paused_at=_time(row["paused_at"]),
        paused_by=row["paused_by"],
        blocked_by=str(row["blocked_by"] or ""),
        decided_until=_time(row["decided_until"]),
    )


def _fire(row: Mapping[str, Any]) -> pb.Fire:
    return pb.Fire(
        logical_at=_time(row["logical_at"]),
        kind=row["kind"],
        backfill_id=row["backfill_id"],
        run_id=str(row["run_id"]),
        fired_at=_time(row["fired_at"]),
    )


def _passed(row: Mapping[str, Any]) -> pb.PassedMoments:
    return pb.PassedMoments(
        first_at=_time(row["first_at"]),
        last_at=_time(row["last_at"]),
        reason=row["reason"],
        run_id=str(row["run_id"] or ""),
        decided_at=_time(row["decided_at"]),
    )


def _backfill(row: Mapping[str, Any]) -> pb.BackfillProgress:
    return pb.BackfillProgress(
        schedule=row["schedule"],
        backfill_id=row["backfill_id"],
        state=row["state"],
        newest_first=row["newest_first"],
        at_once=row["at_once"],
        principal=row["principal"],
        created_at=_time(row["created_at"]),
        ended_at=_time(row["ended_at"]),
        total=row["total"],
        started=row["started"],
        skipped=row["skipped"],
        ended=row["ended"],
        **{"from": _time(row["from_at"]), "to": _time(row["to_at"])},
    )


def _planned(schedule: Schedule, moments: Iterable[tuple[datetime, datetime]]) -> list[pb.PlannedFire]:
    return [
        pb.PlannedFire(
            logical_at=_time(logical_at), due_at=_time(due_at), local=logical_at.astimezone(schedule.tz).isoformat()
        )
        for logical_at, due_at in moments
    ]


def _time(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
