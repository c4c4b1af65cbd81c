import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.contracts.rpc.options.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApplyContractRequest(_message.Message):
    __slots__ = ("namespace", "request_id", "odcs_yaml")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ODCS_YAML_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    request_id: str
    odcs_yaml: str
    def __init__(self, namespace: _Optional[str] = ..., request_id: _Optional[str] = ..., odcs_yaml: _Optional[str] = ...) -> None: ...

class ApplyContractResponse(_message.Message):
    __slots__ = ("contract", "contract_hash", "unchanged")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_HASH_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    contract: str
    contract_hash: str
    unchanged: bool
    def __init__(self, contract: _Optional[str] = ..., contract_hash: _Optional[str] = ..., unchanged: bool = ...) -> None: ...

class GetVersionRequest(_message.Message):
    __slots__ = ("namespace", "version_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    version_id: str
    def __init__(self, namespace: _Optional[str] = ..., version_id: _Optional[str] = ...) -> None: ...

class GetVersionResponse(_message.Message):
    __slots__ = ("version", "checks")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    version: Version
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("reason", "description", "failed_rows")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    FAILED_ROWS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    description: str
    failed_rows: int
    def __init__(self, reason: _Optional[str] = ..., description: _Optional[str] = ..., failed_rows: _Optional[int] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("namespace", "dataset", "limit")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    dataset: str
    limit: int
    def __init__(self, namespace: _Optional[str] = ..., dataset: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class ReadPlanRequest(_message.Message):
    __slots__ = ("namespace", "dataset", "version_ids", "up_to_partition")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_IDS_FIELD_NUMBER: _ClassVar[int]
    UP_TO_PARTITION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    dataset: str
    version_ids: _containers.RepeatedScalarFieldContainer[str]
    up_to_partition: str
    def __init__(self, namespace: _Optional[str] = ..., dataset: _Optional[str] = ..., version_ids: _Optional[_Iterable[str]] = ..., up_to_partition: _Optional[str] = ...) -> None: ...

class ReadPlanResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class ListQuarantinedRequest(_message.Message):
    __slots__ = ("namespace", "version_id", "limit")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    version_id: str
    limit: int
    def __init__(self, namespace: _Optional[str] = ..., version_id: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListQuarantinedResponse(_message.Message):
    __slots__ = ("rows", "rows_by_reason")
    class RowsByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[QuarantinedRow]
    rows_by_reason: _containers.ScalarMap[str, int]
    def __init__(self, rows: _Optional[_Iterable[_Union[QuarantinedRow, _Mapping]]] = ..., rows_by_reason: _Optional[_Mapping[str, int]] = ...) -> None: ...

class QuarantinedRow(_message.Message):
    __slots__ = ("row_json", "reasons")
    ROW_JSON_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    row_json: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, row_json: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("version_id", "dataset", "partition", "contract", "contract_hash", "source_uri", "source_sha256", "good_rows", "quarantined_rows", "landed_at", "published_at", "good_sha256", "quarantined_sha256", "rows_by_reason")
    class RowsByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_HASH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URI_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SHA256_FIELD_NUMBER: _ClassVar[int]
    GOOD_ROWS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_ROWS_FIELD_NUMBER: _ClassVar[int]
    LANDED_AT_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_FIELD_NUMBER: _ClassVar[int]
    GOOD_SHA256_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_SHA256_FIELD_NUMBER: _ClassVar[int]
    ROWS_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    dataset: str
    partition: str
    contract: str
    contract_hash: str
    source_uri: str
    source_sha256: str
    good_rows: int
    quarantined_rows: int
    landed_at: _timestamp_pb2.Timestamp
    published_at: _timestamp_pb2.Timestamp
    good_sha256: str
    quarantined_sha256: str
    rows_by_reason: _containers.ScalarMap[str, int]
    def __init__(self, version_id: _Optional[str] = ..., dataset: _Optional[str] = ..., partition: _Optional[str] = ..., contract: _Optional[str] = ..., contract_hash: _Optional[str] = ..., source_uri: _Optional[str] = ..., source_sha256: _Optional[str] = ..., good_rows: _Optional[int] = ..., quarantined_rows: _Optional[int] = ..., landed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., published_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., good_sha256: _Optional[str] = ..., quarantined_sha256: _Optional[str] = ..., rows_by_reason: _Optional[_Mapping[str, int]] = ...) -> None: ...
