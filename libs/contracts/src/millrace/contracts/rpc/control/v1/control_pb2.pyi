import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.contracts.rpc.options.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApplyWorkflowRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "workflow")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    workflow: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., workflow: _Optional[str] = ...) -> None: ...

class ApplyWorkflowResponse(_message.Message):
    __slots__ = ("name", "hash", "unchanged", "differences")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    name: str
    hash: str
    unchanged: bool
    differences: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., hash: _Optional[str] = ..., unchanged: bool = ..., differences: _Optional[_Iterable[str]] = ...) -> None: ...

class GetWorkflowRequest(_message.Message):
    __slots__ = ("namespace", "name", "hash")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    hash: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., hash: _Optional[str] = ...) -> None: ...

class GetWorkflowResponse(_message.Message):
    __slots__ = ("workflow",)
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    workflow: Workflow
    def __init__(self, workflow: _Optional[_Union[Workflow, _Mapping]] = ...) -> None: ...

class ListWorkflowsRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class ListWorkflowsResponse(_message.Message):
    __slots__ = ("workflows",)
    WORKFLOWS_FIELD_NUMBER: _ClassVar[int]
    workflows: _containers.RepeatedCompositeFieldContainer[Workflow]
    def __init__(self, workflows: _Optional[_Iterable[_Union[Workflow, _Mapping]]] = ...) -> None: ...

class Workflow(_message.Message):
    __slots__ = ("name", "hash", "document_json", "principal", "applied_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    hash: str
    document_json: str
    principal: str
    applied_at: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., hash: _Optional[str] = ..., document_json: _Optional[str] = ..., principal: _Optional[str] = ..., applied_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ApplyTriggerRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "trigger")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    trigger: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., trigger: _Optional[str] = ...) -> None: ...

class ApplyTriggerResponse(_message.Message):
    __slots__ = ("name", "unchanged")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    name: str
    unchanged: bool
    def __init__(self, name: _Optional[str] = ..., unchanged: bool = ...) -> None: ...

class StartRunRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "workflow", "data_json")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    workflow: str
    data_json: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., workflow: _Optional[str] = ..., data_json: _Optional[str] = ...) -> None: ...

class StartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("namespace", "run_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    run_id: str
    def __init__(self, namespace: _Optional[str] = ..., run_id: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("namespace", "run_id", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    run_id: str
    after: str
    def __init__(self, namespace: _Optional[str] = ..., run_id: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("run", "offset")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    run: Run
    offset: str
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., offset: _Optional[str] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("namespace", "workflow", "state", "limit", "before_run_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    workflow: str
    state: str
    limit: int
    before_run_id: str
    def __init__(self, namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., state: _Optional[str] = ..., limit: _Optional[int] = ..., before_run_id: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "run_id", "reason", "grace_s", "force")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    reason: str
    grace_s: float
    force: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., reason: _Optional[str] = ..., grace_s: _Optional[float] = ..., force: bool = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ("run", "changes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    run: Run
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class PauseRunRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "run_id", "reason")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    reason: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PauseRunResponse(_message.Message):
    __slots__ = ("run", "changes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    run: Run
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class ResumeRunRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "run_id", "reason")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    reason: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ResumeRunResponse(_message.Message):
    __slots__ = ("run", "changes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    run: Run
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class RerunRunRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "run_id", "from_task", "version")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    from_task: str
    version: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., from_task: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class RerunRunResponse(_message.Message):
    __slots__ = ("run", "changes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    run: Run
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class SetTaskResultRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "run_id", "task", "state", "output_json", "reason")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    task: str
    state: str
    output_json: str
    reason: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., task: _Optional[str] = ..., state: _Optional[str] = ..., output_json: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SetTaskResultResponse(_message.Message):
    __slots__ = ("run", "changes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    run: Run
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class RunFilter(_message.Message):
    __slots__ = ("workflow", "trigger", "states", "since", "until")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    trigger: str
    states: _containers.RepeatedScalarFieldContainer[str]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, workflow: _Optional[str] = ..., trigger: _Optional[str] = ..., states: _Optional[_Iterable[str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ChangeRunsRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "filter", "before_run_id", "limit", "dry_run", "reason", "pause", "resume", "cancel", "rerun", "signal")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    RERUN_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    filter: RunFilter
    before_run_id: str
    limit: int
    dry_run: bool
    reason: str
    pause: PauseRuns
    resume: ResumeRuns
    cancel: CancelRuns
    rerun: RerunRuns
    signal: SignalRuns
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., filter: _Optional[_Union[RunFilter, _Mapping]] = ..., before_run_id: _Optional[str] = ..., limit: _Optional[int] = ..., dry_run: bool = ..., reason: _Optional[str] = ..., pause: _Optional[_Union[PauseRuns, _Mapping]] = ..., resume: _Optional[_Union[ResumeRuns, _Mapping]] = ..., cancel: _Optional[_Union[CancelRuns, _Mapping]] = ..., rerun: _Optional[_Union[RerunRuns, _Mapping]] = ..., signal: _Optional[_Union[SignalRuns, _Mapping]] = ...) -> None: ...

class PauseRuns(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRuns(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelRuns(_message.Message):
    __slots__ = ("grace_s", "force")
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    grace_s: float
    force: bool
    def __init__(self, grace_s: _Optional[float] = ..., force: bool = ...) -> None: ...

class RerunRuns(_message.Message):
    __slots__ = ("from_task", "version")
    FROM_TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    from_task: str
    version: str
    def __init__(self, from_task: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class SignalRuns(_message.Message):
    __slots__ = ("signal", "data_json")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    signal: str
    data_json: str
    def __init__(self, signal: _Optional[str] = ..., data_json: _Optional[str] = ...) -> None: ...

class ChangeRunsResponse(_message.Message):
    __slots__ = ("runs", "next_before_run_id")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_BEFORE_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[RunChange]
    next_before_run_id: str
    def __init__(self, runs: _Optional[_Iterable[_Union[RunChange, _Mapping]]] = ..., next_before_run_id: _Optional[str] = ...) -> None: ...

class RunChange(_message.Message):
    __slots__ = ("run_id", "workflow", "state", "outcome", "changes", "reason", "rerun_run_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RERUN_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    workflow: str
    state: str
    outcome: str
    changes: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    rerun_run_id: str
    def __init__(self, run_id: _Optional[str] = ..., workflow: _Optional[str] = ..., state: _Optional[str] = ..., outcome: _Optional[str] = ..., changes: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., rerun_run_id: _Optional[str] = ...) -> None: ...

class SignalRunRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "run_id", "signal", "data_json")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    signal: str
    data_json: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., signal: _Optional[str] = ..., data_json: _Optional[str] = ...) -> None: ...

class SignalRunResponse(_message.Message):
    __slots__ = ("run", "changes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    run: Run
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class DecideTaskRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "run_id", "task", "approve", "comment", "form_json")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    FORM_JSON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    task: str
    approve: bool
    comment: str
    form_json: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., task: _Optional[str] = ..., approve: bool = ..., comment: _Optional[str] = ..., form_json: _Optional[str] = ...) -> None: ...

class DecideTaskResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("namespace", "limit")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals",)
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("run_id", "workflow", "task", "title", "since", "expires_at", "need", "approved_by", "assignees", "role", "form_json")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NEED_FIELD_NUMBER: _ClassVar[int]
    APPROVED_BY_FIELD_NUMBER: _ClassVar[int]
    ASSIGNEES_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FORM_JSON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    workflow: str
    task: str
    title: str
    since: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    need: int
    approved_by: _containers.RepeatedScalarFieldContainer[str]
    assignees: _containers.RepeatedScalarFieldContainer[str]
    role: str
    form_json: str
    def __init__(self, run_id: _Optional[str] = ..., workflow: _Optional[str] = ..., task: _Optional[str] = ..., title: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., need: _Optional[int] = ..., approved_by: _Optional[_Iterable[str]] = ..., assignees: _Optional[_Iterable[str]] = ..., role: _Optional[str] = ..., form_json: _Optional[str] = ...) -> None: ...

class ExplainEventRequest(_message.Message):
    __slots__ = ("namespace", "source", "event_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    source: str
    event_id: str
    def __init__(self, namespace: _Optional[str] = ..., source: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class ExplainEventResponse(_message.Message):
    __slots__ = ("received", "received_at", "deliveries", "matches")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    received: bool
    received_at: _timestamp_pb2.Timestamp
    deliveries: int
    matches: _containers.RepeatedCompositeFieldContainer[TriggerMatch]
    def __init__(self, received: bool = ..., received_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deliveries: _Optional[int] = ..., matches: _Optional[_Iterable[_Union[TriggerMatch, _Mapping]]] = ...) -> None: ...

class TriggerMatch(_message.Message):
    __slots__ = ("trigger", "disposition", "reason", "run_id")
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    trigger: str
    disposition: str
    reason: str
    run_id: str
    def __init__(self, trigger: _Optional[str] = ..., disposition: _Optional[str] = ..., reason: _Optional[str] = ..., run_id: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run_id", "workflow", "workflow_hash", "state", "cause", "principal", "trigger", "event_source", "event_id", "trigger_data_json", "created_at", "started_at", "ended_at", "tasks", "trace_id", "output_json", "rerun_of", "paused_at", "paused_by")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    EVENT_SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    RERUN_OF_FIELD_NUMBER: _ClassVar[int]
    PAUSED_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    workflow: str
    workflow_hash: str
    state: str
    cause: str
    principal: str
    trigger: str
    event_source: str
    event_id: str
    trigger_data_json: str
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    trace_id: str
    output_json: str
    rerun_of: str
    paused_at: _timestamp_pb2.Timestamp
    paused_by: str
    def __init__(self, run_id: _Optional[str] = ..., workflow: _Optional[str] = ..., workflow_hash: _Optional[str] = ..., state: _Optional[str] = ..., cause: _Optional[str] = ..., principal: _Optional[str] = ..., trigger: _Optional[str] = ..., event_source: _Optional[str] = ..., event_id: _Optional[str] = ..., trigger_data_json: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., trace_id: _Optional[str] = ..., output_json: _Optional[str] = ..., rerun_of: _Optional[str] = ..., paused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., paused_by: _Optional[str] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("task_id", "name", "kind", "state", "attempts", "duration_s", "output_json", "error", "progress", "progress_message", "dispatched_at", "ended_at", "set_by", "taken_from")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    SET_BY_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FROM_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    name: str
    kind: str
    state: str
    attempts: int
    duration_s: float
    output_json: str
    error: str
    progress: float
    progress_message: str
    dispatched_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    set_by: str
    taken_from: str
    def __init__(self, task_id: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[str] = ..., state: _Optional[str] = ..., attempts: _Optional[int] = ..., duration_s: _Optional[float] = ..., output_json: _Optional[str] = ..., error: _Optional[str] = ..., progress: _Optional[float] = ..., progress_message: _Optional[str] = ..., dispatched_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., set_by: _Optional[str] = ..., taken_from: _Optional[str] = ...) -> None: ...
