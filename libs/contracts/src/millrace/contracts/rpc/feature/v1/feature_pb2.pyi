import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.contracts.rpc.options.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApplyViewsRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "views_yaml")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VIEWS_YAML_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    views_yaml: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., views_yaml: _Optional[str] = ...) -> None: ...

class ApplyViewsResponse(_message.Message):
    __slots__ = ("views",)
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[View]
    def __init__(self, views: _Optional[_Iterable[_Union[View, _Mapping]]] = ...) -> None: ...

class GetViewRequest(_message.Message):
    __slots__ = ("namespace", "view")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    view: str
    def __init__(self, namespace: _Optional[str] = ..., view: _Optional[str] = ...) -> None: ...

class GetViewResponse(_message.Message):
    __slots__ = ("view",)
    VIEW_FIELD_NUMBER: _ClassVar[int]
    view: View
    def __init__(self, view: _Optional[_Union[View, _Mapping]] = ...) -> None: ...

class ListViewsRequest(_message.Message):
    __slots__ = ("namespace", "limit", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    limit: int
    after: str
    def __init__(self, namespace: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListViewsResponse(_message.Message):
    __slots__ = ("views", "next_after")
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[View]
    next_after: str
    def __init__(self, views: _Optional[_Iterable[_Union[View, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("view", "view_hash", "entity", "features", "sources", "online", "declaration_yaml", "generation")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    DECLARATION_YAML_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    view: str
    view_hash: str
    entity: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    online: bool
    declaration_yaml: str
    generation: str
    def __init__(self, view: _Optional[str] = ..., view_hash: _Optional[str] = ..., entity: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., online: bool = ..., declaration_yaml: _Optional[str] = ..., generation: _Optional[str] = ...) -> None: ...

class GetOnlineRequest(_message.Message):
    __slots__ = ("namespace", "views", "entities_json")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_JSON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    views: _containers.RepeatedScalarFieldContainer[str]
    entities_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., views: _Optional[_Iterable[str]] = ..., entities_json: _Optional[_Iterable[str]] = ...) -> None: ...

class GetOnlineResponse(_message.Message):
    __slots__ = ("features", "rows", "generations")
    class GenerationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedCompositeFieldContainer[FeatureRow]
    generations: _containers.ScalarMap[str, str]
    def __init__(self, features: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[_Union[FeatureRow, _Mapping]]] = ..., generations: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FeatureRow(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class ComputeRequest(_message.Message):
    __slots__ = ("namespace", "views", "spine_arrow", "sources_arrow")
    class SourcesArrowEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    SPINE_ARROW_FIELD_NUMBER: _ClassVar[int]
    SOURCES_ARROW_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    views: _containers.RepeatedScalarFieldContainer[str]
    spine_arrow: bytes
    sources_arrow: _containers.ScalarMap[str, bytes]
    def __init__(self, namespace: _Optional[str] = ..., views: _Optional[_Iterable[str]] = ..., spine_arrow: _Optional[bytes] = ..., sources_arrow: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class ComputeResponse(_message.Message):
    __slots__ = ("features_arrow",)
    FEATURES_ARROW_FIELD_NUMBER: _ClassVar[int]
    features_arrow: bytes
    def __init__(self, features_arrow: _Optional[bytes] = ...) -> None: ...

class GetTrainingSetRequest(_message.Message):
    __slots__ = ("namespace", "training_set_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    TRAINING_SET_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    training_set_id: str
    def __init__(self, namespace: _Optional[str] = ..., training_set_id: _Optional[str] = ...) -> None: ...

class GetTrainingSetResponse(_message.Message):
    __slots__ = ("training_set_id", "sha256", "spine_rows", "features", "version_ids", "view_hashes", "request_features", "online_views", "built_at")
    TRAINING_SET_ID_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SPINE_ROWS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    VERSION_IDS_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASHES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FEATURES_FIELD_NUMBER: _ClassVar[int]
    ONLINE_VIEWS_FIELD_NUMBER: _ClassVar[int]
    BUILT_AT_FIELD_NUMBER: _ClassVar[int]
    training_set_id: str
    sha256: str
    spine_rows: int
    features: _containers.RepeatedScalarFieldContainer[str]
    version_ids: _containers.RepeatedScalarFieldContainer[str]
    view_hashes: _containers.RepeatedScalarFieldContainer[str]
    request_features: _containers.RepeatedScalarFieldContainer[str]
    online_views: _containers.RepeatedCompositeFieldContainer[View]
    built_at: _timestamp_pb2.Timestamp
    def __init__(self, training_set_id: _Optional[str] = ..., sha256: _Optional[str] = ..., spine_rows: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., version_ids: _Optional[_Iterable[str]] = ..., view_hashes: _Optional[_Iterable[str]] = ..., request_features: _Optional[_Iterable[str]] = ..., online_views: _Optional[_Iterable[_Union[View, _Mapping]]] = ..., built_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
