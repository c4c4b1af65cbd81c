import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.contracts.rpc.options.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_UPSTREAM: _ClassVar[Direction]
    DIRECTION_DOWNSTREAM: _ClassVar[Direction]
    DIRECTION_BOTH: _ClassVar[Direction]
DIRECTION_UNSPECIFIED: Direction
DIRECTION_UPSTREAM: Direction
DIRECTION_DOWNSTREAM: Direction
DIRECTION_BOTH: Direction

class GetGraphRequest(_message.Message):
    __slots__ = ("namespace", "node", "direction", "depth", "max_nodes", "as_of")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    node: str
    direction: Direction
    depth: int
    max_nodes: int
    as_of: _timestamp_pb2.Timestamp
    def __init__(self, namespace: _Optional[str] = ..., node: _Optional[str] = ..., direction: _Optional[_Union[Direction, str]] = ..., depth: _Optional[int] = ..., max_nodes: _Optional[int] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetGraphResponse(_message.Message):
    __slots__ = ("nodes", "edges", "truncated", "reason")
    NODES_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    edges: _containers.RepeatedCompositeFieldContainer[Edge]
    truncated: bool
    reason: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., edges: _Optional[_Iterable[_Union[Edge, _Mapping]]] = ..., truncated: bool = ..., reason: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "kind", "name", "facts_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    name: str
    facts_json: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., name: _Optional[str] = ..., facts_json: _Optional[str] = ...) -> None: ...

class Edge(_message.Message):
    __slots__ = ("from_node", "to_node")
    FROM_NODE_FIELD_NUMBER: _ClassVar[int]
    TO_NODE_FIELD_NUMBER: _ClassVar[int]
    from_node: str
    to_node: str
    def __init__(self, from_node: _Optional[str] = ..., to_node: _Optional[str] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("namespace", "prediction_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    prediction_id: str
    def __init__(self, namespace: _Optional[str] = ..., prediction_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("predicted_at", "prediction_json", "hops", "complete", "missing")
    PREDICTED_AT_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_JSON_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    predicted_at: _timestamp_pb2.Timestamp
    prediction_json: str
    hops: _containers.RepeatedCompositeFieldContainer[Hop]
    complete: bool
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, predicted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., prediction_json: _Optional[str] = ..., hops: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., complete: bool = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("depth", "node", "made_by_run", "made_by", "made_from", "made_by_task", "made_by_kind")
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MADE_BY_RUN_FIELD_NUMBER: _ClassVar[int]
    MADE_BY_FIELD_NUMBER: _ClassVar[int]
    MADE_FROM_FIELD_NUMBER: _ClassVar[int]
    MADE_BY_TASK_FIELD_NUMBER: _ClassVar[int]
    MADE_BY_KIND_FIELD_NUMBER: _ClassVar[int]
    depth: int
    node: Node
    made_by_run: str
    made_by: str
    made_from: _containers.RepeatedScalarFieldContainer[str]
    made_by_task: str
    made_by_kind: str
    def __init__(self, depth: _Optional[int] = ..., node: _Optional[_Union[Node, _Mapping]] = ..., made_by_run: _Optional[str] = ..., made_by: _Optional[str] = ..., made_from: _Optional[_Iterable[str]] = ..., made_by_task: _Optional[str] = ..., made_by_kind: _Optional[str] = ...) -> None: ...
