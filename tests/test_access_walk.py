"""Every RPC of every proto says who may call it, and everybody else is denied."""

import asyncio
import importlib
import json
import pkgutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import millrace.contracts.rpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from jwt.algorithms import OKPAlgorithm
from millrace.runtime.access import Access, Action
from millrace.runtime.database import Database, Transactions
from millrace.runtime.rpc import RpcServer
from millrace.runtime.rpc.methods import rpcs_of
from millrace.runtime.testing import fresh_database
from millrace.runtime.transaction import Transaction

KEY = Ed25519PrivateKey.generate()
ROLES = ("READ", "EDIT", "MANAGE")
NOBODY = "nobody"


def services() -> Iterator[ServiceDescriptor]:
    """Yield the services of all generated protos."""
    root = millrace.contracts.rpc
    for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()


SERVICES = sorted(services(), key=lambda service: service.full_name)


def servicer_of(service: ServiceDescriptor) -> object:
    """Make a servicer that answers everything with nothing."""

    def answer(method: MethodDescriptor) -> Any:
        response = GetMessageClass(method.output_type)

        async def once(*_: object) -> Any:
            return response()

        async def stream(*_: object) -> AsyncIterator[Any]:
            yield response()

        return stream if method.server_streaming else once

    return type("Servicer", (), {method.name: answer(method) for method in service.methods})()


@pytest.fixture(scope="module")
async def begin(postgres: Any) -> AsyncIterator[Transactions[Transaction]]:
    async with Database(await fresh_database(postgres, "runtime")) as database:
        yield Transactions(database, Transaction)


@pytest.fixture(scope="module")
async def channel(begin: Transactions[Transaction], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    folder: Path = tmp_path_factory.mktemp("access")
    public = {**OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))
    (folder / "grants.json").write_text(json.dumps({role: {"own": role} for role in ROLES}))
    server = RpcServer("walk", Access(folder / "jwks.json", folder / "grants.json"))
    for service in SERVICES:
        server.serve(service, servicer_of(service), begin)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.drain(5)


def token(principal: str) -> str:
    claims = {"sub": principal, "iss": "millrace", "aud": "millrace", "exp": time.time() + 300}
    return jwt.encode(claims, KEY, algorithm="EdDSA", headers={"kid": "k"})


async def outcome(channel: Any, method: MethodDescriptor, namespace: str, principal: str) -> grpc.StatusCode:
    """Call a method as somebody, or as nobody at all, and return how it went."""
    fields = {"namespace": namespace}
    if "request_id" in method.input_type.fields_by_name:
        fields["request_id"] = f"{principal}-{namespace}"
    body = GetMessageClass(method.input_type)(**fields).SerializeToString()
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = (("authorization", f"Bearer {token(principal)}"),) if principal else ()
    try:
        if method.server_streaming:
            [_ async for _ in channel.unary_stream(path)(body, metadata=metadata, timeout=30)]
        else:
            await channel.unary_unary(path)(body, metadata=metadata, timeout=30)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_the_walk_meets_all_seven_services_and_the_runtime() -> None:
    met = {service.full_name.split(".")[1] for service in SERVICES}

    assert met >= {"control", "data", "feature", "training", "inference", "lineage", "observability", "runtime"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_who_was_not_granted_a_role_is_denied(
    channel: Any, begin: Transactions[Transaction], service: ServiceDescriptor
) -> None:
    needed = {rpc.name.rpartition("/")[2]: rpc.action for rpc in rpcs_of(service, servicer_of(service), begin)}
    for method in service.methods:
        action = needed[method.name]
        assert isinstance(action, Action), f"{method.full_name} is open to everybody"
        callers = ["", NOBODY, *ROLES]
        found = await asyncio.gather(
            *(outcome(channel, method, namespace, who) for who in callers for namespace in ("own", "other", ""))
        )
        for at, who in enumerate(callers):
            own, other, everywhere = found[3 * at : 3 * at + 3]
            refused = grpc.StatusCode.PERMISSION_DENIED if who else grpc.StatusCode.UNAUTHENTICATED
            allowed = who in ROLES and Action[who] >= action
            assert (method.full_name, who, own) == (method.full_name, who, grpc.StatusCode.OK if allowed else refused)
            assert (method.full_name, who, other, everywhere) == (method.full_name, who, refused, refused)
