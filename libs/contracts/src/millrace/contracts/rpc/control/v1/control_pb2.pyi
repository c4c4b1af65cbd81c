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
    __slots__ = ("name", "hash", "unchanged", "differences", "warnings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    hash: str
    unchanged: bool
    differences: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., hash: _Optional[str] = ..., unchanged: bool = ..., differences: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

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
    __slots__ = ("namespace", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListWorkflowsResponse(_message.Message):
    __slots__ = ("workflows", "next_after")
    WORKFLOWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    workflows: _containers.RepeatedCompositeFieldContainer[Workflow]
    next_after: str
    def __init__(self, workflows: _Optional[_Iterable[_Union[Workflow, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("namespace", "request_id", "workflow", "data_json", "refresh")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    workflow: str
    data_json: str
    refresh: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., workflow: _Optional[str] = ..., data_json: _Optional[str] = ..., refresh: bool = ...) -> None: ...

class StartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("namespace", "run_id", "items", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    run_id: str
    items: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., run_id: _Optional[str] = ..., items: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run", "next_after")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    run: Run
    next_after: str
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., next_after: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("namespace", "request_id", "run_id", "from_task", "version", "refresh")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    run_id: str
    from_task: str
    version: str
    refresh: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., run_id: _Optional[str] = ..., from_task: _Optional[str] = ..., version: _Optional[str] = ..., refresh: bool = ...) -> None: ...

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
    __slots__ = ("from_task", "version", "refresh")
    FROM_TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    from_task: str
    version: str
    refresh: bool
    def __init__(self, from_task: _Optional[str] = ..., version: _Optional[str] = ..., refresh: bool = ...) -> None: ...

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
    __slots__ = ("namespace", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals", "next_after")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    next_after: str
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

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

class ApplyQueueRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "queue", "transport")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    queue: str
    transport: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., queue: _Optional[str] = ..., transport: _Optional[str] = ...) -> None: ...

class ApplyQueueResponse(_message.Message):
    __slots__ = ("queue", "unchanged")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    unchanged: bool
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ..., unchanged: bool = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ("namespace", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues", "next_after")
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    next_after: str
    def __init__(self, queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("name", "principal", "applied_at", "live", "transport")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    name: str
    principal: str
    applied_at: _timestamp_pb2.Timestamp
    live: bool
    transport: str
    def __init__(self, name: _Optional[str] = ..., principal: _Optional[str] = ..., applied_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., live: bool = ..., transport: _Optional[str] = ...) -> None: ...

class ApplyPoolRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name", "slots", "rate", "shares")
    class SharesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    slots: int
    rate: Rate
    shares: _containers.ScalarMap[str, int]
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ..., slots: _Optional[int] = ..., rate: _Optional[_Union[Rate, _Mapping]] = ..., shares: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Rate(_message.Message):
    __slots__ = ("count", "per_s", "burst")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PER_S_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    count: int
    per_s: float
    burst: int
    def __init__(self, count: _Optional[int] = ..., per_s: _Optional[float] = ..., burst: _Optional[int] = ...) -> None: ...

class ApplyPoolResponse(_message.Message):
    __slots__ = ("pool", "unchanged")
    POOL_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    pool: Pool
    unchanged: bool
    def __init__(self, pool: _Optional[_Union[Pool, _Mapping]] = ..., unchanged: bool = ...) -> None: ...

class GetPoolRequest(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetPoolResponse(_message.Message):
    __slots__ = ("pool", "holders", "waiters")
    POOL_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    WAITERS_FIELD_NUMBER: _ClassVar[int]
    pool: Pool
    holders: _containers.RepeatedCompositeFieldContainer[PoolUse]
    waiters: _containers.RepeatedCompositeFieldContainer[PoolUse]
    def __init__(self, pool: _Optional[_Union[Pool, _Mapping]] = ..., holders: _Optional[_Iterable[_Union[PoolUse, _Mapping]]] = ..., waiters: _Optional[_Iterable[_Union[PoolUse, _Mapping]]] = ...) -> None: ...

class PoolUse(_message.Message):
    __slots__ = ("run_id", "task", "weight", "priority", "fairness_key", "since")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FAIRNESS_KEY_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    task: str
    weight: int
    priority: int
    fairness_key: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, run_id: _Optional[str] = ..., task: _Optional[str] = ..., weight: _Optional[int] = ..., priority: _Optional[int] = ..., fairness_key: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListPoolsRequest(_message.Message):
    __slots__ = ("namespace", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListPoolsResponse(_message.Message):
    __slots__ = ("pools", "next_after")
    POOLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    pools: _containers.RepeatedCompositeFieldContainer[Pool]
    next_after: str
    def __init__(self, pools: _Optional[_Iterable[_Union[Pool, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class DeletePoolRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeletePoolResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Pool(_message.Message):
    __slots__ = ("name", "slots", "rate", "shares", "principal", "applied_at", "taken", "leases", "waiting")
    class SharesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    name: str
    slots: int
    rate: Rate
    shares: _containers.ScalarMap[str, int]
    principal: str
    applied_at: _timestamp_pb2.Timestamp
    taken: int
    leases: int
    waiting: int
    def __init__(self, name: _Optional[str] = ..., slots: _Optional[int] = ..., rate: _Optional[_Union[Rate, _Mapping]] = ..., shares: _Optional[_Mapping[str, int]] = ..., principal: _Optional[str] = ..., applied_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., taken: _Optional[int] = ..., leases: _Optional[int] = ..., waiting: _Optional[int] = ...) -> None: ...

class ApplyQuotaRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "max_leases")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_LEASES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    max_leases: int
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., max_leases: _Optional[int] = ...) -> None: ...

class ApplyQuotaResponse(_message.Message):
    __slots__ = ("quota", "unchanged")
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    quota: Quota
    unchanged: bool
    def __init__(self, quota: _Optional[_Union[Quota, _Mapping]] = ..., unchanged: bool = ...) -> None: ...

class GetQuotaRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class GetQuotaResponse(_message.Message):
    __slots__ = ("quota",)
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    quota: Quota
    def __init__(self, quota: _Optional[_Union[Quota, _Mapping]] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("max_leases", "leases", "waiting", "principal", "applied_at")
    MAX_LEASES_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    max_leases: int
    leases: int
    waiting: int
    principal: str
    applied_at: _timestamp_pb2.Timestamp
    def __init__(self, max_leases: _Optional[int] = ..., leases: _Optional[int] = ..., waiting: _Optional[int] = ..., principal: _Optional[str] = ..., applied_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("received", "received_at", "deliveries", "matches", "source")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    received: bool
    received_at: _timestamp_pb2.Timestamp
    deliveries: int
    matches: _containers.RepeatedCompositeFieldContainer[TriggerMatch]
    source: str
    def __init__(self, received: bool = ..., received_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deliveries: _Optional[int] = ..., matches: _Optional[_Iterable[_Union[TriggerMatch, _Mapping]]] = ..., source: _Optional[str] = ...) -> None: ...

class TriggerMatch(_message.Message):
    __slots__ = ("trigger", "disposition", "reason", "run_id", "key", "slot", "waits_until")
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    WAITS_UNTIL_FIELD_NUMBER: _ClassVar[int]
    trigger: str
    disposition: str
    reason: str
    run_id: str
    key: str
    slot: str
    waits_until: _timestamp_pb2.Timestamp
    def __init__(self, trigger: _Optional[str] = ..., disposition: _Optional[str] = ..., reason: _Optional[str] = ..., run_id: _Optional[str] = ..., key: _Optional[str] = ..., slot: _Optional[str] = ..., waits_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExplainRunRequest(_message.Message):
    __slots__ = ("namespace", "run_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    run_id: str
    def __init__(self, namespace: _Optional[str] = ..., run_id: _Optional[str] = ...) -> None: ...

class ExplainRunResponse(_message.Message):
    __slots__ = ("run", "reasons", "events")
    RUN_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    run: Run
    reasons: _containers.RepeatedScalarFieldContainer[str]
    events: _containers.RepeatedCompositeFieldContainer[RunEvent]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., reasons: _Optional[_Iterable[str]] = ..., events: _Optional[_Iterable[_Union[RunEvent, _Mapping]]] = ...) -> None: ...

class RunEvent(_message.Message):
    __slots__ = ("source", "event_id", "type", "time", "slot")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    source: str
    event_id: str
    type: str
    time: str
    slot: str
    def __init__(self, source: _Optional[str] = ..., event_id: _Optional[str] = ..., type: _Optional[str] = ..., time: _Optional[str] = ..., slot: _Optional[str] = ...) -> None: ...

class GetTriggerRequest(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetTriggerResponse(_message.Message):
    __slots__ = ("trigger",)
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    trigger: Trigger
    def __init__(self, trigger: _Optional[_Union[Trigger, _Mapping]] = ...) -> None: ...

class ListTriggersRequest(_message.Message):
    __slots__ = ("namespace", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListTriggersResponse(_message.Message):
    __slots__ = ("triggers", "next_after")
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    triggers: _containers.RepeatedCompositeFieldContainer[Trigger]
    next_after: str
    def __init__(self, triggers: _Optional[_Iterable[_Union[Trigger, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class PauseTriggerRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class PauseTriggerResponse(_message.Message):
    __slots__ = ("trigger",)
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    trigger: Trigger
    def __init__(self, trigger: _Optional[_Union[Trigger, _Mapping]] = ...) -> None: ...

class ResumeTriggerRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ResumeTriggerResponse(_message.Message):
    __slots__ = ("trigger",)
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    trigger: Trigger
    def __init__(self, trigger: _Optional[_Union[Trigger, _Mapping]] = ...) -> None: ...

class UnblockTriggerRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class UnblockTriggerResponse(_message.Message):
    __slots__ = ("trigger",)
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    trigger: Trigger
    def __init__(self, trigger: _Optional[_Union[Trigger, _Mapping]] = ...) -> None: ...

class DeleteTriggerRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteTriggerResponse(_message.Message):
    __slots__ = ("cancelled_runs", "dropped_events")
    CANCELLED_RUNS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    cancelled_runs: int
    dropped_events: int
    def __init__(self, cancelled_runs: _Optional[int] = ..., dropped_events: _Optional[int] = ...) -> None: ...

class Trigger(_message.Message):
    __slots__ = ("name", "workflow", "document_json", "principal", "applied_at", "paused_at", "paused_by", "blocked_by", "waiting_runs", "queued_events", "waiting_events", "next_at", "last_match_at", "last_error_at", "last_error")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_BY_FIELD_NUMBER: _ClassVar[int]
    WAITING_RUNS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_MATCH_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    workflow: str
    document_json: str
    principal: str
    applied_at: _timestamp_pb2.Timestamp
    paused_at: _timestamp_pb2.Timestamp
    paused_by: str
    blocked_by: str
    waiting_runs: int
    queued_events: int
    waiting_events: int
    next_at: _timestamp_pb2.Timestamp
    last_match_at: _timestamp_pb2.Timestamp
    last_error_at: _timestamp_pb2.Timestamp
    last_error: str
    def __init__(self, name: _Optional[str] = ..., workflow: _Optional[str] = ..., document_json: _Optional[str] = ..., principal: _Optional[str] = ..., applied_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., paused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., paused_by: _Optional[str] = ..., blocked_by: _Optional[str] = ..., waiting_runs: _Optional[int] = ..., queued_events: _Optional[int] = ..., waiting_events: _Optional[int] = ..., next_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_match_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_error_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_error: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run_id", "workflow", "workflow_hash", "state", "cause", "principal", "trigger", "event_source", "event_id", "trigger_data_json", "created_at", "started_at", "ended_at", "tasks", "trace_id", "output_json", "schedule_json", "rerun_of", "paused_at", "paused_by", "refresh", "deadline_at", "missed_at")
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
    SCHEDULE_JSON_FIELD_NUMBER: _ClassVar[int]
    RERUN_OF_FIELD_NUMBER: _ClassVar[int]
    PAUSED_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_FIELD_NUMBER: _ClassVar[int]
    MISSED_AT_FIELD_NUMBER: _ClassVar[int]
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
    schedule_json: str
    rerun_of: str
    paused_at: _timestamp_pb2.Timestamp
    paused_by: str
    refresh: bool
    deadline_at: _timestamp_pb2.Timestamp
    missed_at: _timestamp_pb2.Timestamp
    def __init__(self, run_id: _Optional[str] = ..., workflow: _Optional[str] = ..., workflow_hash: _Optional[str] = ..., state: _Optional[str] = ..., cause: _Optional[str] = ..., principal: _Optional[str] = ..., trigger: _Optional[str] = ..., event_source: _Optional[str] = ..., event_id: _Optional[str] = ..., trigger_data_json: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., trace_id: _Optional[str] = ..., output_json: _Optional[str] = ..., schedule_json: _Optional[str] = ..., rerun_of: _Optional[str] = ..., paused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., paused_by: _Optional[str] = ..., refresh: bool = ..., deadline_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., missed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("task_id", "name", "kind", "state", "attempts", "duration_s", "output_json", "error", "progress", "progress_message", "dispatched_at", "ended_at", "set_by", "taken_from", "pool", "waits_for", "external_ref", "deadline_at", "missed_at", "cache_json", "resources_json", "ended_attempts", "skipped_because")
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
    POOL_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_REF_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_FIELD_NUMBER: _ClassVar[int]
    MISSED_AT_FIELD_NUMBER: _ClassVar[int]
    CACHE_JSON_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_JSON_FIELD_NUMBER: _ClassVar[int]
    ENDED_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_BECAUSE_FIELD_NUMBER: _ClassVar[int]
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
    pool: str
    waits_for: str
    external_ref: str
    deadline_at: _timestamp_pb2.Timestamp
    missed_at: _timestamp_pb2.Timestamp
    cache_json: str
    resources_json: str
    ended_attempts: _containers.RepeatedCompositeFieldContainer[EndedAttempt]
    skipped_because: str
    def __init__(self, task_id: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[str] = ..., state: _Optional[str] = ..., attempts: _Optional[int] = ..., duration_s: _Optional[float] = ..., output_json: _Optional[str] = ..., error: _Optional[str] = ..., progress: _Optional[float] = ..., progress_message: _Optional[str] = ..., dispatched_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., set_by: _Optional[str] = ..., taken_from: _Optional[str] = ..., pool: _Optional[str] = ..., waits_for: _Optional[str] = ..., external_ref: _Optional[str] = ..., deadline_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., missed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cache_json: _Optional[str] = ..., resources_json: _Optional[str] = ..., ended_attempts: _Optional[_Iterable[_Union[EndedAttempt, _Mapping]]] = ..., skipped_because: _Optional[str] = ...) -> None: ...

class EndedAttempt(_message.Message):
    __slots__ = ("attempt", "error", "lost", "dispatched_at", "ended_at")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    error: str
    lost: bool
    dispatched_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    def __init__(self, attempt: _Optional[int] = ..., error: _Optional[str] = ..., lost: bool = ..., dispatched_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ApplyScheduleRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "schedule")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    schedule: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., schedule: _Optional[str] = ...) -> None: ...

class ApplyScheduleResponse(_message.Message):
    __slots__ = ("schedule", "unchanged")
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    schedule: Schedule
    unchanged: bool
    def __init__(self, schedule: _Optional[_Union[Schedule, _Mapping]] = ..., unchanged: bool = ...) -> None: ...

class GetScheduleRequest(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetScheduleResponse(_message.Message):
    __slots__ = ("schedule", "fires", "passed", "backfills")
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    FIRES_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    BACKFILLS_FIELD_NUMBER: _ClassVar[int]
    schedule: Schedule
    fires: _containers.RepeatedCompositeFieldContainer[Fire]
    passed: _containers.RepeatedCompositeFieldContainer[PassedMoments]
    backfills: _containers.RepeatedCompositeFieldContainer[BackfillProgress]
    def __init__(self, schedule: _Optional[_Union[Schedule, _Mapping]] = ..., fires: _Optional[_Iterable[_Union[Fire, _Mapping]]] = ..., passed: _Optional[_Iterable[_Union[PassedMoments, _Mapping]]] = ..., backfills: _Optional[_Iterable[_Union[BackfillProgress, _Mapping]]] = ...) -> None: ...

class ListSchedulesRequest(_message.Message):
    __slots__ = ("namespace", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListSchedulesResponse(_message.Message):
    __slots__ = ("schedules", "next_after")
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    schedules: _containers.RepeatedCompositeFieldContainer[Schedule]
    next_after: str
    def __init__(self, schedules: _Optional[_Iterable[_Union[Schedule, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class PauseScheduleRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class PauseScheduleResponse(_message.Message):
    __slots__ = ("schedule",)
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    schedule: Schedule
    def __init__(self, schedule: _Optional[_Union[Schedule, _Mapping]] = ...) -> None: ...

class ResumeScheduleRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ResumeScheduleResponse(_message.Message):
    __slots__ = ("schedule",)
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    schedule: Schedule
    def __init__(self, schedule: _Optional[_Union[Schedule, _Mapping]] = ...) -> None: ...

class DeleteScheduleRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteScheduleResponse(_message.Message):
    __slots__ = ("cancelled_runs", "cancelled_backfills")
    CANCELLED_RUNS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_BACKFILLS_FIELD_NUMBER: _ClassVar[int]
    cancelled_runs: int
    cancelled_backfills: int
    def __init__(self, cancelled_runs: _Optional[int] = ..., cancelled_backfills: _Optional[int] = ...) -> None: ...

class PreviewScheduleRequest(_message.Message):
    __slots__ = ("namespace", "name", "schedule", "count", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    schedule: str
    count: int
    after: _timestamp_pb2.Timestamp
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., schedule: _Optional[str] = ..., count: _Optional[int] = ..., after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PreviewScheduleResponse(_message.Message):
    __slots__ = ("fires",)
    FIRES_FIELD_NUMBER: _ClassVar[int]
    fires: _containers.RepeatedCompositeFieldContainer[PlannedFire]
    def __init__(self, fires: _Optional[_Iterable[_Union[PlannedFire, _Mapping]]] = ...) -> None: ...

class PlannedFire(_message.Message):
    __slots__ = ("logical_at", "due_at", "local")
    LOGICAL_AT_FIELD_NUMBER: _ClassVar[int]
    DUE_AT_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    logical_at: _timestamp_pb2.Timestamp
    due_at: _timestamp_pb2.Timestamp
    local: str
    def __init__(self, logical_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., due_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., local: _Optional[str] = ...) -> None: ...

class BackfillRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "schedule", "backfill_id", "to", "newest_first", "at_once", "dry_run")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    BACKFILL_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    schedule: str
    backfill_id: str
    to: _timestamp_pb2.Timestamp
    newest_first: bool
    at_once: int
    dry_run: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., schedule: _Optional[str] = ..., backfill_id: _Optional[str] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., newest_first: bool = ..., at_once: _Optional[int] = ..., dry_run: bool = ..., **kwargs) -> None: ...

class BackfillResponse(_message.Message):
    __slots__ = ("backfill", "would_start")
    BACKFILL_FIELD_NUMBER: _ClassVar[int]
    WOULD_START_FIELD_NUMBER: _ClassVar[int]
    backfill: BackfillProgress
    would_start: _containers.RepeatedCompositeFieldContainer[PlannedFire]
    def __init__(self, backfill: _Optional[_Union[BackfillProgress, _Mapping]] = ..., would_start: _Optional[_Iterable[_Union[PlannedFire, _Mapping]]] = ...) -> None: ...

class CancelBackfillRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "schedule", "backfill_id", "cancel_runs")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    BACKFILL_ID_FIELD_NUMBER: _ClassVar[int]
    CANCEL_RUNS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    schedule: str
    backfill_id: str
    cancel_runs: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., schedule: _Optional[str] = ..., backfill_id: _Optional[str] = ..., cancel_runs: bool = ...) -> None: ...

class CancelBackfillResponse(_message.Message):
    __slots__ = ("backfill",)
    BACKFILL_FIELD_NUMBER: _ClassVar[int]
    backfill: BackfillProgress
    def __init__(self, backfill: _Optional[_Union[BackfillProgress, _Mapping]] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("name", "workflow", "document_json", "principal", "applied_at", "next_at", "paused_at", "paused_by", "blocked_by", "decided_until")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_BY_FIELD_NUMBER: _ClassVar[int]
    DECIDED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    workflow: str
    document_json: str
    principal: str
    applied_at: _timestamp_pb2.Timestamp
    next_at: _timestamp_pb2.Timestamp
    paused_at: _timestamp_pb2.Timestamp
    paused_by: str
    blocked_by: str
    decided_until: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., workflow: _Optional[str] = ..., document_json: _Optional[str] = ..., principal: _Optional[str] = ..., applied_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., paused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., paused_by: _Optional[str] = ..., blocked_by: _Optional[str] = ..., decided_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Fire(_message.Message):
    __slots__ = ("logical_at", "kind", "backfill_id", "run_id", "fired_at")
    LOGICAL_AT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BACKFILL_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FIRED_AT_FIELD_NUMBER: _ClassVar[int]
    logical_at: _timestamp_pb2.Timestamp
    kind: str
    backfill_id: str
    run_id: str
    fired_at: _timestamp_pb2.Timestamp
    def __init__(self, logical_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[str] = ..., backfill_id: _Optional[str] = ..., run_id: _Optional[str] = ..., fired_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PassedMoments(_message.Message):
    __slots__ = ("first_at", "last_at", "reason", "run_id", "decided_at")
    FIRST_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    first_at: _timestamp_pb2.Timestamp
    last_at: _timestamp_pb2.Timestamp
    reason: str
    run_id: str
    decided_at: _timestamp_pb2.Timestamp
    def __init__(self, first_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., run_id: _Optional[str] = ..., decided_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BackfillProgress(_message.Message):
    __slots__ = ("schedule", "backfill_id", "state", "to", "newest_first", "at_once", "principal", "created_at", "ended_at", "total", "started", "skipped", "ended")
    class EndedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    BACKFILL_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    schedule: str
    backfill_id: str
    state: str
    to: _timestamp_pb2.Timestamp
    newest_first: bool
    at_once: int
    principal: str
    created_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    total: int
    started: int
    skipped: int
    ended: _containers.ScalarMap[str, int]
    def __init__(self, schedule: _Optional[str] = ..., backfill_id: _Optional[str] = ..., state: _Optional[str] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., newest_first: bool = ..., at_once: _Optional[int] = ..., principal: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., total: _Optional[int] = ..., started: _Optional[int] = ..., skipped: _Optional[int] = ..., ended: _Optional[_Mapping[str, int]] = ..., **kwargs) -> None: ...
