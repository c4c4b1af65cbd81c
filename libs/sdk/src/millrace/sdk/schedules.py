"""Schedules of a namespace: put in force, looked at, paused, and made up for."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.client import Channels
from millrace.sdk.pages import PAGE, pages

if TYPE_CHECKING:
    from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceAsyncStub


class Schedules:
    """The schedules of one namespace; `Client.schedules` is one."""

    def __init__(self, channels: Channels, namespace: str) -> None:
        self._control: ControlServiceAsyncStub = ControlServiceStub(channels.to("control"))
        self._namespace = namespace

    async def apply(self, schedule: str) -> pb.ApplyScheduleResponse:
        """Put a schedule (YAML or JSON) in force."""
        request = pb.ApplyScheduleRequest(namespace=self._namespace, request_id=_new(), schedule=schedule)
        return await self._control.ApplySchedule(request)

    async def get(self, name: str) -> pb.GetScheduleResponse:
        """Return a schedule, what it has started last and what not, and its backfills."""
        return await self._control.GetSchedule(pb.GetScheduleRequest(namespace=self._namespace, name=name))

    async def list(self) -> Sequence[pb.Schedule]:
        """Return the schedules in force, by name."""
        found = pages(self._control.ListSchedules, pb.ListSchedulesRequest(namespace=self._namespace, limit=PAGE))
        return [one async for page in found for one in page.schedules]

    async def pause(self, name: str) -> pb.Schedule:
        """Let a schedule start nothing until it is resumed."""
        request = pb.PauseScheduleRequest(namespace=self._namespace, request_id=_new(), name=name)
        return (await self._control.PauseSchedule(request)).schedule

    async def resume(self, name: str) -> pb.Schedule:
        """Let a schedule go on."""
        request = pb.ResumeScheduleRequest(namespace=self._namespace, request_id=_new(), name=name)
        return (await self._control.ResumeSchedule(request)).schedule

    async def delete(self, name: str) -> pb.DeleteScheduleResponse:
        """Take a schedule out of force; runs that have not begun are cancelled."""
        request = pb.DeleteScheduleRequest(namespace=self._namespace, request_id=_new(), name=name)
        return await self._control.DeleteSchedule(request)

    async def preview(
        self, name: str = "", *, document: str = "", count: int = 10, after: datetime | None = None
    ) -> Sequence[pb.PlannedFire]:
        """Return the next moments of a schedule in force, or of a document that need not be.

        Args:
            name: A schedule in force.
            document: Or else one, YAML or JSON.
            count: How many, at most.
            after: Where to begin; None for now.
        """
        request = pb.PreviewScheduleRequest(
            namespace=self._namespace, name=name, schedule=document, count=count, after=_stamp(after)
        )
        return (await self._control.PreviewSchedule(request)).fires

    async def backfill(
        self,
        name: str,
        start: datetime,
        end: datetime,
        *,
        backfill_id: str = "",
        at_once: int = 1,
        newest_first: bool = False,
        dry_run: bool = False,
    ) -> pb.BackfillResponse:
        """Start runs for a schedule's moments of the past; the same again goes on where it was.

        Args:
            name: The schedule.
            start: From this moment on.
            end: Before this one, which is not later than now.
            backfill_id: With one, moments that had a run have another, once for this id.
            at_once: How many of its runs may be under way together.
            newest_first: In which order.
            dry_run: Only say what would be done.
        """
        request = pb.BackfillRequest(
            namespace=self._namespace,
            request_id=_new(),
            schedule=name,
            backfill_id=backfill_id,
            newest_first=newest_first,
            at_once=at_once,
            dry_run=dry_run,
            **{"from": _stamp(start), "to": _stamp(end)},
        )
        return await self._control.Backfill(request)

    async def cancel_backfill(self, name: str, backfill_id: str, *, cancel_runs: bool = False) -> pb.BackfillProgress:
        """Start no more of a backfill, and cancel its runs where that is said too."""
        request = pb.CancelBackfillRequest(
            namespace=self._namespace,
            request_id=_new(),
            schedule=name,
            backfill_id=backfill_id,
            cancel_runs=cancel_runs,
        )
        return (await self._control.CancelBackfill(request)).backfill


def _stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _new() -> str:
    return str(uuid4())
