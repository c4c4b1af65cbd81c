"""What an app does with runs that go on or have ended: one of them, or all that a filter names."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from millrace.contracts.rpc.control.v1 import control_pb2 as control

if TYPE_CHECKING:
    from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceAsyncStub

Version = Literal["pinned", "latest"]


class Operations(ABC):
    """Operations on runs; each answer has the run as it is then, and what was changed of it, a line each.

    Calls with the same `request_id` do it once, and get the same answer; where none is given, each is a new one.
    """

    namespace: str

    @property
    @abstractmethod
    def _control(self) -> "ControlServiceAsyncStub": ...

    async def pause_run(self, run_id: str, reason: str = "", *, request_id: str = "") -> control.PauseRunResponse:
        """Have nothing begin in a run until it is resumed; what has begun goes on."""
        request = control.PauseRunRequest(
            namespace=self.namespace, request_id=request_id or _new(), run_id=run_id, reason=reason
        )
        return await self._control.PauseRun(request)

    async def resume_run(self, run_id: str, reason: str = "", *, request_id: str = "") -> control.ResumeRunResponse:
        """Have a paused run go on."""
        request = control.ResumeRunRequest(
            namespace=self.namespace, request_id=request_id or _new(), run_id=run_id, reason=reason
        )
        return await self._control.ResumeRun(request)

    async def cancel_run(
        self,
        run_id: str,
        reason: str = "",
        *,
        grace_s: float | None = None,
        force: bool = False,
        request_id: str = "",
    ) -> control.CancelRunResponse:
        """Ask a run to stop.

        Args:
            run_id: Which.
            reason: Why, for those who look later.
            grace_s: How long its open attempts are waited for, seconds; 30 where it is not said.
            force: Wait for nobody, and put nothing in order.
            request_id: As above.
        """
        request = control.CancelRunRequest(
            namespace=self.namespace,
            request_id=request_id or _new(),
            run_id=run_id,
            reason=reason,
            grace_s=grace_s,
            force=force,
        )
        return await self._control.CancelRun(request)

    async def rerun_run(
        self,
        run_id: str,
        *,
        from_task: str = "",
        version: Version = "pinned",
        refresh: bool = False,
        request_id: str = "",
    ) -> control.RerunRunResponse:
        """Begin a run that does one again that has ended, with the results of what need not be done again.

        Args:
            run_id: Which.
            from_task: A task to do again with all that needs it; what failed or was not reached is done in any case.
            version: The version that the run had, or the one in force.
            refresh: Compute anew what could be taken from the cache; from a task, that is so in any case.
            request_id: As above.
        """
        request = control.RerunRunRequest(
            namespace=self.namespace,
            request_id=request_id or _new(),
            run_id=run_id,
            from_task=from_task,
            version=version,
            refresh=refresh,
        )
        return await self._control.RerunRun(request)

    async def set_task_result(
        self,
        run_id: str,
        task: str,
        state: Literal["succeeded", "failed", "skipped"],
        *,
        reason: str,
        output: Any = None,  # noqa: ANN401 - a JSON value
        request_id: str = "",
    ) -> control.SetTaskResultResponse:
        """Say how an open task ends, in place of its worker."""
        request = control.SetTaskResultRequest(
            namespace=self.namespace,
            request_id=request_id or _new(),
            run_id=run_id,
            task=task,
            state=state,
            output_json=json.dumps(output) if output is not None else "",
            reason=reason,
        )
        return await self._control.SetTaskResult(request)

    async def signal_run(
        self,
        run_id: str,
        signal: str,
        data: Any = None,  # noqa: ANN401 - a JSON value
        *,
        request_id: str = "",
    ) -> control.SignalRunResponse:
        """Send a run a signal, with what the task that waits for it is to hand on."""
        request = control.SignalRunRequest(
            namespace=self.namespace,
            request_id=request_id or _new(),
            run_id=run_id,
            signal=signal,
            data_json=json.dumps(data),
        )
        return await self._control.SignalRun(request)

    async def change_runs(
        self, wanted: control.ChangeRunsRequest, *, request_id: str = ""
    ) -> AsyncIterator[control.RunChange]:
        """Do one thing with all runs of a filter, page by page, and yield what became of each, the newest first.

        Args:
            wanted: The filter and what is to be done; its namespace, request and place are set here.
            request_id: Asked again with the same one after an interruption, what was done is told again and the rest
                is done; the filter must be the same. A dry run is always a new one.
        """
        asked = control.ChangeRunsRequest()
        asked.CopyFrom(wanted)
        begins = _new() if wanted.dry_run or not request_id else request_id
        asked.namespace, page = self.namespace, 0
        while True:
            asked.request_id = f"{begins}-{page}"
            told = await self._control.ChangeRuns(asked)
            for one in told.runs:
                yield one
            if not told.next_before_run_id:
                return
            page, asked.before_run_id = page + 1, told.next_before_run_id


def _new() -> str:
    return str(uuid4())
