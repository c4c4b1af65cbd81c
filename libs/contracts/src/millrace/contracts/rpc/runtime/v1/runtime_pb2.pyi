import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.contracts.rpc.options.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HeldFilter(_message.Message):
    __slots__ = ("topic", "partition", "offset", "key", "event_id", "type", "reason", "state", "since", "until")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    key: str
    event_id: str
    type: str
    reason: str
    state: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., key: _Optional[str] = ..., event_id: _Optional[str] = ..., type: _Optional[str] = ..., reason: _Optional[str] = ..., state: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class HeldServiceListRequest(_message.Message):
    __slots__ = ("namespace", "limit", "filter", "page_token")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    filter: HeldFilter
    page_token: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., filter: _Optional[_Union[HeldFilter, _Mapping]] = ..., page_token: _Optional[str] = ...) -> None: ...

class HeldServiceListResponse(_message.Message):
    __slots__ = ("held", "next_page_token")
    HELD_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[HeldEvent]
    next_page_token: str
    def __init__(self, held: _Optional[_Iterable[_Union[HeldEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class HeldServiceShowRequest(_message.Message):
    __slots__ = ("namespace", "topic", "partition", "offset")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    topic: str
    partition: int
    offset: int
    def __init__(self, namespace: _Optional[str] = ..., topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class HeldServiceShowResponse(_message.Message):
    __slots__ = ("held", "value", "headers")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HELD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    held: HeldEvent
    value: bytes
    headers: _containers.ScalarMap[str, str]
    def __init__(self, held: _Optional[_Union[HeldEvent, _Mapping]] = ..., value: _Optional[bytes] = ..., headers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class HeldServiceReplayRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "filter", "limit", "page_token", "accept_duplicate", "dry_run")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    filter: HeldFilter
    limit: int
    page_token: str
    accept_duplicate: bool
    dry_run: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., filter: _Optional[_Union[HeldFilter, _Mapping]] = ..., limit: _Optional[int] = ..., page_token: _Optional[str] = ..., accept_duplicate: bool = ..., dry_run: bool = ...) -> None: ...

class HeldServiceReplayResponse(_message.Message):
    __slots__ = ("handled", "failed", "reason", "next_page_token", "matched")
    HANDLED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    handled: int
    failed: int
    reason: str
    next_page_token: str
    matched: int
    def __init__(self, handled: _Optional[int] = ..., failed: _Optional[int] = ..., reason: _Optional[str] = ..., next_page_token: _Optional[str] = ..., matched: _Optional[int] = ...) -> None: ...

class HeldServiceDropRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "filter", "limit", "dry_run")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    filter: HeldFilter
    limit: int
    dry_run: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., filter: _Optional[_Union[HeldFilter, _Mapping]] = ..., limit: _Optional[int] = ..., dry_run: bool = ...) -> None: ...

class HeldServiceDropResponse(_message.Message):
    __slots__ = ("dropped", "more", "matched")
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    dropped: int
    more: bool
    matched: int
    def __init__(self, dropped: _Optional[int] = ..., more: bool = ..., matched: _Optional[int] = ...) -> None: ...

class HeldServiceListKeysRequest(_message.Message):
    __slots__ = ("namespace", "topic", "key", "limit", "page_token", "filter")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    topic: str
    key: str
    limit: int
    page_token: str
    filter: HeldFilter
    def __init__(self, namespace: _Optional[str] = ..., topic: _Optional[str] = ..., key: _Optional[str] = ..., limit: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[HeldFilter, _Mapping]] = ...) -> None: ...

class HeldServiceListKeysResponse(_message.Message):
    __slots__ = ("keys", "next_page_token")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[ParkedKey]
    next_page_token: str
    def __init__(self, keys: _Optional[_Iterable[_Union[ParkedKey, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ParkedKey(_message.Message):
    __slots__ = ("topic", "key", "namespace", "reason", "parked_at", "events")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PARKED_AT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    key: bytes
    namespace: str
    reason: str
    parked_at: _timestamp_pb2.Timestamp
    events: int
    def __init__(self, topic: _Optional[str] = ..., key: _Optional[bytes] = ..., namespace: _Optional[str] = ..., reason: _Optional[str] = ..., parked_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., events: _Optional[int] = ...) -> None: ...

class HeldServiceUnparkRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "topic", "key", "limit", "dry_run")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    topic: str
    key: bytes
    limit: int
    dry_run: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., topic: _Optional[str] = ..., key: _Optional[bytes] = ..., limit: _Optional[int] = ..., dry_run: bool = ...) -> None: ...

class HeldServiceUnparkResponse(_message.Message):
    __slots__ = ("handled", "flows", "reason", "matched")
    HANDLED_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    handled: int
    flows: bool
    reason: str
    matched: int
    def __init__(self, handled: _Optional[int] = ..., flows: bool = ..., reason: _Optional[str] = ..., matched: _Optional[int] = ...) -> None: ...

class HeldEvent(_message.Message):
    __slots__ = ("topic", "partition", "offset", "key", "event_id", "type", "reason", "attempts", "state", "sha256", "held_at", "namespace", "size_bytes")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    HELD_AT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    key: str
    event_id: str
    type: str
    reason: str
    attempts: int
    state: str
    sha256: str
    held_at: _timestamp_pb2.Timestamp
    namespace: str
    size_bytes: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., key: _Optional[str] = ..., event_id: _Optional[str] = ..., type: _Optional[str] = ..., reason: _Optional[str] = ..., attempts: _Optional[int] = ..., state: _Optional[str] = ..., sha256: _Optional[str] = ..., held_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., namespace: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class AuditServiceListRequest(_message.Message):
    __slots__ = ("namespace", "before", "limit")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    before: _timestamp_pb2.Timestamp
    limit: int
    def __init__(self, namespace: _Optional[str] = ..., before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class AuditServiceListResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[AuditRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[AuditRow, _Mapping]]] = ...) -> None: ...

class AuditRow(_message.Message):
    __slots__ = ("time", "service", "principal", "method", "request_id", "trace_id", "body_sha256")
    TIME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_SHA256_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    service: str
    principal: str
    method: str
    request_id: str
    trace_id: str
    body_sha256: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., service: _Optional[str] = ..., principal: _Optional[str] = ..., method: _Optional[str] = ..., request_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., body_sha256: _Optional[str] = ...) -> None: ...
