import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.contracts.rpc.options.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetRouteRequest(_message.Message):
    __slots__ = ("namespace", "model")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    model: str
    def __init__(self, namespace: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class GetRouteResponse(_message.Message):
    __slots__ = ("generation", "arms", "history")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    generation: int
    arms: _containers.RepeatedCompositeFieldContainer[Arm]
    history: _containers.RepeatedCompositeFieldContainer[Shift]
    def __init__(self, generation: _Optional[int] = ..., arms: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[Shift, _Mapping]]] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("deployment_id", "version", "weight", "tripped")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TRIPPED_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    version: int
    weight: int
    tripped: bool
    def __init__(self, deployment_id: _Optional[str] = ..., version: _Optional[int] = ..., weight: _Optional[int] = ..., tripped: bool = ...) -> None: ...

class Shift(_message.Message):
    __slots__ = ("deployment_id", "version", "weight", "generation", "reason", "time")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    version: int
    weight: int
    generation: int
    reason: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, deployment_id: _Optional[str] = ..., version: _Optional[int] = ..., weight: _Optional[int] = ..., generation: _Optional[int] = ..., reason: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListDeploymentsRequest(_message.Message):
    __slots__ = ("namespace", "model", "limit", "before_deployment_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    model: str
    limit: int
    before_deployment_id: str
    def __init__(self, namespace: _Optional[str] = ..., model: _Optional[str] = ..., limit: _Optional[int] = ..., before_deployment_id: _Optional[str] = ...) -> None: ...

class ListDeploymentsResponse(_message.Message):
    __slots__ = ("deployments", "next_before_deployment_id")
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_BEFORE_DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    next_before_deployment_id: str
    def __init__(self, deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ..., next_before_deployment_id: _Optional[str] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("deployment_id", "model", "version", "version_id", "state", "time")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model: str
    version: int
    version_id: str
    state: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, deployment_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., version_id: _Optional[str] = ..., state: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetCanaryRequest(_message.Message):
    __slots__ = ("namespace", "deployment_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    deployment_id: str
    def __init__(self, namespace: _Optional[str] = ..., deployment_id: _Optional[str] = ...) -> None: ...

class GetCanaryResponse(_message.Message):
    __slots__ = ("answers", "labelled", "wanted", "verdicts")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    answers: int
    labelled: int
    wanted: int
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    def __init__(self, answers: _Optional[int] = ..., labelled: _Optional[int] = ..., wanted: _Optional[int] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("weight", "verdict", "answers", "mean_difference", "standard_error")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    weight: int
    verdict: str
    answers: int
    mean_difference: float
    standard_error: float
    def __init__(self, weight: _Optional[int] = ..., verdict: _Optional[str] = ..., answers: _Optional[int] = ..., mean_difference: _Optional[float] = ..., standard_error: _Optional[float] = ...) -> None: ...
