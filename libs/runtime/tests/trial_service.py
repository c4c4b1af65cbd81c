"""A service made for tests: its proto, its servicer, its callers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from jwt.algorithms import OKPAlgorithm
from millrace.contracts.rpc.options.v1 import access_pb2
from millrace.runtime.access import Access
from millrace.runtime.caller import Caller, caller
from millrace.runtime.client import Channels, Token
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Conflict, InvalidInput, NotFound, Overloaded, Unavailable
from millrace.runtime.rpc import RpcServer
from runtime_effects import Effects, version

SERVICE = "millrace.trial.v1.TrialService"
SECRET = "hunter2-canary"
KEY = Ed25519PrivateKey.generate()

NONE = access_pb2.TRANSACTION_MODE_NONE
ACCESS: Any = access_pb2.access
METHODS: dict[str, tuple[bool, dict[str, Any] | None]] = {  # name -> whether it streams, access
    "Look": (False, {"action": access_pb2.ACTION_READ}),
    "Change": (False, {"action": access_pb2.ACTION_EDIT}),
    "Order": (False, {"action": access_pb2.ACTION_EDIT, "transaction": NONE}),
    "Watch": (True, {"action": access_pb2.ACTION_READ, "transaction": NONE}),
}


def file_of(name: str, methods: dict[str, tuple[bool, dict[str, Any] | None]], fields: tuple[str, ...]) -> Any:
    """Build a proto file with one service whose methods all take Asked and return Told."""
    file = FileDescriptorProto(name=f"{name}.proto", package=f"millrace.{name}.v1", syntax="proto3")
    file.dependency.append(access_pb2.DESCRIPTOR.name)
    for message, own in (("Asked", fields), ("Told", ("text",))):
        made = file.message_type.add(name=message)
        for number, field in enumerate(own, 1):
            made.field.add(
                name=field,
                number=number,
                type=FieldDescriptorProto.TYPE_STRING,
                label=FieldDescriptorProto.LABEL_OPTIONAL,
            )
    service = file.service.add(name=f"{name.capitalize()}Service")
    for method, (streams, access) in methods.items():
        package = f".millrace.{name}.v1"
        added = service.method.add(
            name=method, input_type=f"{package}.Asked", output_type=f"{package}.Told", server_streaming=streams
        )
        if access is not None:
            options = MethodOptions()
            options.Extensions[ACCESS].CopyFrom(access_pb2.Access(**{"resource": "thing"} | access))
            added.options.CopyFrom(options)
    Default().Add(file)
    return Default().FindFileByName(file.name)


FILE = file_of("trial", METHODS, ("namespace", "request_id", "text"))
TRIAL = FILE.services_by_name["TrialService"]
Asked = GetMessageClass(FILE.message_types_by_name["Asked"])
Told = GetMessageClass(FILE.message_types_by_name["Told"])

FAILURES = {
    "invalid": InvalidInput("text is not what it should be"),
    "missing": NotFound("thing 7 does not exist"),
    "conflict": Conflict("thing 7 is closed, not open"),
    "unavailable": Unavailable("the other side is down"),
    "overloaded": Overloaded("too much to do", retry_after_s=2.5),
    "bug": RuntimeError(f"password is {SECRET}"),
    "timeout": TimeoutError(SECRET),
}


class TrialApi:
    """Does what it is told by the text."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.done = 0
        self.callers: list[Caller] = []

    async def Look(self, request: Any, tx: Effects) -> Any:
        self.callers.append(caller())
        if request.text == "wait":
            self.entered.set()
            await self.go_on.wait()
        if request.text == "large":
            return Told(text="x" * 5_000_000)
        if request.text in FAILURES:
            raise FAILURES[request.text]
        return Told(text=",".join(await tx.names()))

    async def Change(self, request: Any, tx: Effects) -> Any:
        tx.add(request.text)
        if request.text == "told":
            tx.emit(version(request.text))
        if request.text == "wait":
            self.entered.set()
            await self.go_on.wait()
        self.done += 1
        if request.text in FAILURES:
            raise FAILURES[request.text]
        return Told(text=f"{request.text} {tx.new_id()}")

    async def Order(self, request: Any, begin: Transactions[Effects]) -> Any:
        async with begin() as tx:
            tx.add(request.text)
        self.entered.set()
        if request.text == "wait":
            await self.go_on.wait()
        return Told(text=f"{request.text} {tx.new_id()}")

    async def Watch(self, request: Any, begin: Transactions[Effects]) -> AsyncIterator[Any]:
        async with begin() as tx:
            names = await tx.names()
        yield Told(text=",".join(names))
        if request.text in FAILURES:
            raise FAILURES[request.text]
        if request.text == "wait":
            self.entered.set()
            await self.go_on.wait()


def token(subject: str = "alice", lasting_s: float = 60) -> str:
    claims = {"sub": subject, "iss": "millrace", "aud": "millrace", "exp": time.time() + lasting_s}
    return jwt.encode(claims, KEY, algorithm="EdDSA", headers={"kid": "k"})


def bearer(subject: str = "alice", **more: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token(subject)}"), *((k.replace("_", "-"), v) for k, v in more.items()))


GRANTS = {
    "alice": {"demo": "EDIT"},
    "reader": {"demo": "READ"},
    "manager": {"demo": "MANAGE"},
    "root": {"*": "MANAGE"},
    "service:trial": {"*": "EDIT"},
}


def access_in(folder: Path) -> Access:
    public = {**OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))
    (folder / "grants.json").write_text(json.dumps(GRANTS))
    return Access(folder / "jwks.json", folder / "grants.json")


@asynccontextmanager
async def serving(server: RpcServer) -> AsyncIterator[str]:
    """Start a server; yield where it answers."""
    port = await server.start()
    await server.set_serving(serving=True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.drain(5)


def call(channel: Any, method: str) -> Any:
    """Return a method of the trial service on a channel, with the stub's own conversions."""
    make = channel.unary_stream if METHODS[method][0] else channel.unary_unary
    return make(
        f"/{SERVICE}/{method}", request_serializer=Asked.SerializeToString, response_deserializer=Told.FromString
    )


@asynccontextmanager
async def raw(target: str) -> AsyncIterator[Any]:
    """Open a plain gRPC channel."""
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel


@asynccontextmanager
async def ours(folder: Path, target: str, subject: str = "alice") -> AsyncIterator[Channels]:
    """Open our own channels to the trial service."""
    (folder / "token").write_text(token(subject) + "\n")
    async with Channels({"trial": target}, Token(folder / "token")) as channels:
        yield channels
