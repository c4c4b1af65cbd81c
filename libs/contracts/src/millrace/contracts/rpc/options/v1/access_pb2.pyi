from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_READ: _ClassVar[Action]
    ACTION_EDIT: _ClassVar[Action]
    ACTION_MANAGE: _ClassVar[Action]

class TransactionMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSACTION_MODE_UNSPECIFIED: _ClassVar[TransactionMode]
    TRANSACTION_MODE_NONE: _ClassVar[TransactionMode]
ACTION_UNSPECIFIED: Action
ACTION_READ: Action
ACTION_EDIT: Action
ACTION_MANAGE: Action
TRANSACTION_MODE_UNSPECIFIED: TransactionMode
TRANSACTION_MODE_NONE: TransactionMode
ACCESS_FIELD_NUMBER: _ClassVar[int]
access: _descriptor.FieldDescriptor

class Access(_message.Message):
    __slots__ = ("resource", "action", "namespace_field", "transaction", "default_deadline_s")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    resource: str
    action: Action
    namespace_field: str
    transaction: TransactionMode
    default_deadline_s: int
    def __init__(self, resource: _Optional[str] = ..., action: _Optional[_Union[Action, str]] = ..., namespace_field: _Optional[str] = ..., transaction: _Optional[_Union[TransactionMode, str]] = ..., default_deadline_s: _Optional[int] = ...) -> None: ...
