"""What is asked of runs that go on or have ended: translated, handed over, translated back."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.api.messages import change_message, run_message
from millrace.control.commands import SignalRun, read_data
from millrace.control.commands.operations import (
    CancelRun,
    ChangeRuns,
    PauseRun,
    RerunRun,
    ResumeRun,
    SetTaskResult,
)
from millrace.control.domain.changes import Change
from millrace.control.handlers import (
    cancel_run,
    change_runs,
    pause_run,
    rerun_run,
    resume_run,
    set_task_result,
    signal_run,
)
from millrace.control.store import Store
from millrace.runtime.caller import caller
from millrace.runtime.errors import InvalidInput


class Operations:
    """What control answers of operations on runs."""

    async def CancelRun(self, request: pb.CancelRunRequest, tx: Store) -> pb.CancelRunResponse:
        command = CancelRun(**_one(request), **_grace(request), force=request.force)
        return pb.CancelRunResponse(**_told(await cancel_run(command, tx)))

    async def PauseRun(self, request: pb.PauseRunRequest, tx: Store) -> pb.PauseRunResponse:
        return pb.PauseRunResponse(**_told(await pause_run(PauseRun(**_one(request)), tx)))

    async def ResumeRun(self, request: pb.ResumeRunRequest, tx: Store) -> pb.ResumeRunResponse:
        return pb.ResumeRunResponse(**_told(await resume_run(ResumeRun(**_one(request)), tx)))

    async def RerunRun(self, request: pb.RerunRunRequest, tx: Store) -> pb.RerunRunResponse:
        command = RerunRun(
            namespace=request.namespace, principal=caller().principal, run_id=request.run_id, **_scope(request)
        )
        return pb.RerunRunResponse(**_told(await rerun_run(command, tx)))

    async def SetTaskResult(self, request: pb.SetTaskResultRequest, tx: Store) -> pb.SetTaskResultResponse:
        output = read_data(request.output_json, "output_json")
        command = SetTaskResult(**_one(request), task=request.task, state=request.state, output=output)
        return pb.SetTaskResultResponse(**_told(await set_task_result(command, tx)))

    async def SignalRun(self, request: pb.SignalRunRequest, tx: Store) -> pb.SignalRunResponse:
        command = SignalRun(
            namespace=request.namespace,
            principal=caller().principal,
            run_id=request.run_id,
            signal=request.signal,
            data=read_data(request.data_json),
        )
        return pb.SignalRunResponse(**_told(await signal_run(command, tx)))

    async def ChangeRuns(self, request: pb.ChangeRunsRequest, tx: Store) -> pb.ChangeRunsResponse:
        told, next_before = await change_runs(_many(request), tx)
        return pb.ChangeRunsResponse(
            runs=[change_message(one) for one in told], next_before_run_id=str(next_before or "")
        )


def _one(
    request: pb.CancelRunRequest | pb.PauseRunRequest | pb.ResumeRunRequest | pb.SetTaskResultRequest,
) -> Mapping[str, Any]:
    who = {"namespace": request.namespace, "principal": caller().principal}
    return {**who, "run_id": request.run_id, "reason": request.reason}


def _grace(request: pb.CancelRunRequest | pb.CancelRuns) -> Mapping[str, float]:
    return {"grace_s": request.grace_s} if request.HasField("grace_s") else {}


def _scope(request: pb.RerunRunRequest | pb.RerunRuns) -> Mapping[str, Any]:
    version = {"version": request.version} if request.version else {}
    return {"from_task": request.from_task, "refresh": request.refresh, **version}


def _many(request: pb.ChangeRunsRequest) -> ChangeRuns:
    """Return what is to be done with many runs.

    Raises:
        InvalidInput: It is not said what.
    """
    about = request.filter
    given: dict[str, Any] = {
        "namespace": request.namespace,
        "principal": caller().principal,
        "workflow": about.workflow,
        "trigger": about.trigger,
        "states": tuple(about.states),
        "since": _moment(about.since),
        "until": _moment(about.until),
        "before_run_id": request.before_run_id,
        "dry_run": request.dry_run,
        "reason": request.reason,
        **({"limit": request.limit} if request.limit else {}),
    }
    match action := request.WhichOneof("action"):
        case None:
            raise InvalidInput("action is not set: one of pause, resume, cancel, rerun, signal")
        case "cancel":
            given |= {**_grace(request.cancel), "force": request.cancel.force}
        case "rerun":
            given |= _scope(request.rerun)
        case "signal":
            given |= {"signal": request.signal.signal, "data": read_data(request.signal.data_json)}
    return ChangeRuns(**given, action=action)


def _moment(stamp: Timestamp) -> Any:  # noqa: ANN401 - a datetime or None
    return stamp.ToDatetime(UTC) if stamp.seconds or stamp.nanos else None


def _told(change: Change) -> dict[str, Any]:
    return {"run": run_message(change.kept, tasks=False), "changes": change.lines}
