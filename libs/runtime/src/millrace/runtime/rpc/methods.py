"""What the protos say of each RPC, read once at the start."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from millrace.contracts.rpc.options.v1 import access_pb2
from millrace.runtime.access import Action

Begin = Callable[[], AbstractAsyncContextManager[Any]]
"""Opens a transaction of the service's Store: `async with begin() as tx`."""

NAMESPACE = "x-millrace-namespace"
DEFAULT_DEADLINE_S = 30.0
LONGEST_CALL_S = 300.0
LONGEST_STREAM_S = 3600.0
REQUEST_ID = "request_id"

_ACTIONS = {
    access_pb2.ACTION_READ: Action.READ,
    access_pb2.ACTION_EDIT: Action.EDIT,
    access_pb2.ACTION_MANAGE: Action.MANAGE,
}
# Protobuf's type information knows extensions of its own generator only.
_ACCESS: Any = access_pb2.access
_RUNTIME_PACKAGE = "millrace.runtime.v1"


@dataclass(frozen=True, eq=False)
class Rpc:
    """One RPC as it is served.

    Attributes:
        name: Such as `millrace.training.v1.TrainingService/SetAlias`.
        action: What its caller must be allowed to do; None where everybody may ask.
        mutates: Whether a repeated `request_id` gets the stored answer.
        transactional: Whether it runs in one transaction; otherwise it gets `begin`.
        streams: Whether it answers with a stream.
        any_namespace: Whether it may be asked of all namespaces at once.
        operates: Whether it is what an operator mends things with, and so comes first under load.
        deadline_s: How long it may take when its caller does not say.
        longest_s: How long it may take whatever its caller says.
    """

    name: str
    function: Callable[[Any, Any], Any]
    begin: Begin
    parse: Callable[[bytes], Any]
    serialise: Callable[[Any], bytes]
    namespace_of: Callable[[Any, Mapping[str, str]], str]
    action: Action | None
    mutates: bool = False
    transactional: bool = False
    streams: bool = False
    foreign: bool = False
    any_namespace: bool = False
    operates: bool = False
    deadline_s: float = DEFAULT_DEADLINE_S
    longest_s: float = LONGEST_CALL_S


def _from_metadata(_: object, metadata: Mapping[str, str]) -> str:
    return metadata.get(NAMESPACE, "")


@dataclass(frozen=True)
class ForeignMethod:
    """An RPC of a protocol that is not ours, with what our protos would say of it.

    Attributes:
        handler: Called with the request and `begin`; answers with what `serialise` takes.
        parse: Makes a request of bytes; raises protobuf's DecodeError or ValueError where they are none.
        serialise: Makes bytes of a response.
        resource: What is accessed.
        action: What the caller must be allowed to do; None where everybody may ask.
        namespace_of: Where: from the request and the metadata; nothing stands for the caller's only namespace. Without
            it, metadata `x-millrace-namespace` says.
        deadline_s: How long it may take when its caller does not say.
    """

    handler: Callable[[Any, Any], Awaitable[Any]]
    parse: Callable[[bytes], Any]
    serialise: Callable[[Any], bytes]
    resource: str
    action: Action | None
    namespace_of: Callable[[Any, Mapping[str, str]], str] = _from_metadata
    deadline_s: float = DEFAULT_DEADLINE_S


def rpcs_of(service: ServiceDescriptor, servicer: object, begin: Begin) -> list[Rpc]:
    """Return every RPC of a service with the function that answers it.

    Raises:
        TypeError: A function is missing or of the wrong form, or the proto does not say who may call it.
    """
    return [_rpc(method, servicer, begin) for method in service.methods]


def foreign_rpcs(service: str, methods: Mapping[str, ForeignMethod], begin: Begin) -> list[Rpc]:
    """Return the RPCs of a protocol that is not ours."""
    return [
        Rpc(
            name=f"{service}/{name}",
            function=method.handler,
            begin=begin,
            parse=method.parse,
            serialise=method.serialise,
            namespace_of=method.namespace_of,
            action=method.action,
            foreign=True,
            deadline_s=method.deadline_s,
        )
        for name, method in methods.items()
    ]


def _rpc(method: MethodDescriptor, servicer: object, begin: Begin) -> Rpc:
    name = f"{method.containing_service.full_name}/{method.name}"
    options = method.GetOptions()
    if not options.HasExtension(_ACCESS):
        raise TypeError(f"{name} has no access option: nobody could be allowed to call it")
    access: access_pb2.Access = options.Extensions[_ACCESS]
    if access.action not in _ACTIONS or not access.resource:
        raise TypeError(f"{name} names no resource or no action in its access option")
    transactional = access.transaction != access_pb2.TRANSACTION_MODE_NONE
    field = access.namespace_field or "namespace"
    fields = method.input_type.fields_by_name
    mutates = access.action != access_pb2.ACTION_READ and not options.idempotency_level
    if field not in fields:
        raise TypeError(f"{name} has no field {field} in its request: its namespace could not be told")
    if mutates and REQUEST_ID not in fields:
        raise TypeError(f"{name} may change something and has no field {REQUEST_ID} in its request")
    if method.client_streaming or (method.server_streaming and (transactional or mutates)):
        raise TypeError(f"{name}: only reading RPCs with transaction NONE may stream, and only answers")
    of_runtime = method.containing_service.file.package == _RUNTIME_PACKAGE
    longest_s = LONGEST_STREAM_S if method.server_streaming else LONGEST_CALL_S
    return Rpc(
        name=name,
        function=_function(name, servicer, method),
        begin=begin,
        parse=GetMessageClass(method.input_type).FromString,
        serialise=_serialise,
        namespace_of=lambda request, _: str(getattr(request, field)),
        action=_ACTIONS[access.action],
        mutates=mutates,
        transactional=transactional,
        streams=method.server_streaming,
        any_namespace=of_runtime,
        # Reading is not mending: who may do no more could take the places of those who do.
        operates=of_runtime and mutates and access.action == access_pb2.ACTION_MANAGE,
        deadline_s=access.default_deadline_s or DEFAULT_DEADLINE_S,
        longest_s=max(longest_s, access.default_deadline_s),
    )


def _function(name: str, servicer: object, method: MethodDescriptor) -> Callable[[Any, Any], Any]:
    function = getattr(servicer, method.name, None)
    if method.server_streaming:
        if not inspect.isasyncgenfunction(function):
            raise TypeError(f"{name} streams: {type(servicer).__name__} needs an async generator of that name")
    elif not inspect.iscoroutinefunction(function):
        raise TypeError(f"{type(servicer).__name__} has no `async def {method.name}(self, request, tx)` for {name}")
    return function


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
