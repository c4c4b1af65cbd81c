import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.contracts.rpc.options.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HeldServiceListRequest(_message.Message):
    __slots__ = ("namespace", "limit")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class HeldServiceListResponse(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[HeldEvent]
    def __init__(self, held: _Optional[_Iterable[_Union[HeldEvent, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("namespace", "request_id", "topic", "partition", "offset", "accept_duplicate")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    topic: str
    partition: int
    offset: int
    accept_duplicate: bool
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., accept_duplicate: bool = ...) -> None: ...

class HeldServiceReplayResponse(_message.Message):
    __slots__ = ("handled", "reason")
    HANDLED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    handled: bool
    reason: str
    def __init__(self, handled: bool = ..., reason: _Optional[str] = ...) -> None: ...

class HeldServiceDropRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "topic", "partition", "offset")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    topic: str
    partition: int
    offset: int
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class HeldServiceDropResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeldEvent(_message.Message):
    __slots__ = ("topic", "partition", "offset", "key", "event_id", "type", "reason", "attempts", "state", "sha256", "held_at", "namespace")
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
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., key: _Optional[str] = ..., event_id: _Optional[str] = ..., type: _Optional[str] = ..., reason: _Optional[str] = ..., attempts: _Optional[int] = ..., state: _Optional[str] = ..., sha256: _Optional[str] = ..., held_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., namespace: _Optional[str] = ...) -> None: ...

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
