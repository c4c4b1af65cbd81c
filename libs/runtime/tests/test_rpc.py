import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from millrace.contracts.rpc.options.v1 import access_pb2
from millrace.runtime.access import Action
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Conflict
from millrace.runtime.logs import add_error
from millrace.runtime.rpc import ForeignMethod, RpcServer
from millrace.runtime.rpc.methods import rpcs_of
from runtime_effects import Effects
from structlog.testing import capture_logs
from trial_service import (
    FAILURES,
    SECRET,
    SERVICE,
    TRIAL,
    Asked,
    Told,
    TrialApi,
    access_in,
    bearer,
    call,
    file_of,
    raw,
    serving,
    token,
)

Code = grpc.StatusCode


@pytest.fixture
def api() -> TrialApi:
    return TrialApi()


@pytest.fixture
def server(api: TrialApi, begin: Transactions[Effects], tmp_path: Path) -> RpcServer:
    made = RpcServer("trial", access_in(tmp_path), most_calls=4)
    made.serve(TRIAL, api, begin)
    return made


@pytest.fixture
async def channel(server: RpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(server) as target, raw(target) as opened:
        yield opened


def asked(text: str = "a", request_id: str = "r1", namespace: str = "demo") -> Any:
    return Asked(namespace=namespace, request_id=request_id, text=text)


async def refused(awaitable: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await awaitable
    return error.value


async def test_one_commit_holds_the_effect_the_answer_and_the_audit(channel: Any, begin: Transactions[Effects]) -> None:
    told = await call(channel, "Change")(asked(), metadata=bearer())

    async with begin() as tx:
        (row,) = await tx.fetch("SELECT * FROM request")
        assert await tx.names() == ["a"]
    assert (row["namespace"], row["principal"], row["method"]) == ("demo", "alice", f"{SERVICE}/Change")
    assert Told.FromString(row["response"]) == told
    assert len(row["trace_id"]) == 32


@pytest.mark.parametrize("method", ["Change", "Order"])
async def test_a_repeated_request_gets_the_stored_answer_and_no_second_effect(
    channel: Any, begin: Transactions[Effects], method: str
) -> None:
    with capture_logs() as lines:
        first = await call(channel, method)(asked(), metadata=bearer())
        second = await call(channel, method)(asked(), metadata=bearer())

    async with begin() as tx:
        assert await tx.names() == ["a"]
    assert first == second
    assert [line["repeated"] for line in lines if line["event"] == "rpc_handled"] == [False, True]


@pytest.mark.parametrize("method", ["Change", "Order"])
async def test_of_two_equal_requests_at_once_one_has_effect_and_both_get_its_answer(
    channel: Any, api: TrialApi, begin: Transactions[Effects], method: str
) -> None:
    first = asyncio.ensure_future(call(channel, method)(asked("wait"), metadata=bearer()))
    await api.entered.wait()
    second = asyncio.ensure_future(call(channel, method)(asked("wait"), metadata=bearer()))
    await asyncio.wait([second], timeout=0.1)
    api.go_on.set()

    assert await first == await second
    async with begin() as tx:
        assert await tx.names() == ["wait"]


@pytest.mark.parametrize("method", ["Change", "Order"])
async def test_the_same_request_id_with_another_body_is_a_conflict(channel: Any, method: str) -> None:
    await call(channel, method)(asked(), metadata=bearer())

    error = await refused(call(channel, method)(asked("b"), metadata=bearer()))

    assert error.code() is Code.FAILED_PRECONDITION
    assert "request_id r1 was used before" in str(error.details())


async def test_one_request_id_means_another_call_for_another_principal(channel: Any) -> None:
    mine = await call(channel, "Change")(asked(), metadata=bearer())
    theirs = await call(channel, "Change")(asked(), metadata=bearer("root"))

    assert mine != theirs


@pytest.mark.parametrize("request_id", ["", "x" * 201, "a\nb"])
async def test_a_mutating_call_needs_a_request_id(channel: Any, request_id: str) -> None:
    error = await refused(call(channel, "Change")(asked(request_id=request_id), metadata=bearer()))

    assert error.code() is Code.INVALID_ARGUMENT


async def test_a_failed_call_leaves_no_trace_and_may_be_sent_again(
    channel: Any, api: TrialApi, begin: Transactions[Effects]
) -> None:
    for _ in range(2):
        error = await refused(call(channel, "Change")(asked("conflict"), metadata=bearer()))
        assert error.code() is Code.FAILED_PRECONDITION

    async with begin() as tx:
        assert await tx.names() == []
        assert await tx.fetch("SELECT * FROM request") == []
    assert api.done == 2


async def test_what_cannot_be_committed_leaves_neither_effect_nor_event_answer_or_audit(
    channel: Any, api: TrialApi, begin: Transactions[Effects]
) -> None:
    async with begin() as tx:
        # Looked at only when all is written and the transaction is to be committed.
        await tx.fetch("ALTER TABLE effect ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED")
        tx.add("told")

    error = await refused(call(channel, "Change")(asked("told"), metadata=bearer()))
    done = api.done
    async with begin() as tx:
        left = [await tx.fetch("SELECT * FROM request"), await tx.fetch("SELECT * FROM outbox")]
        await tx.fetch("DELETE FROM effect")
    answer = await call(channel, "Change")(asked("told"), metadata=bearer())

    assert (error.code(), done) == (Code.INTERNAL, 1)
    assert left == [[], []]
    async with begin() as tx:
        assert await tx.names() == ["told"]
        assert [row["key"] for row in await tx.fetch("SELECT key FROM outbox")] == ["told"]
        (row,) = await tx.fetch("SELECT response FROM request")
    assert Told.FromString(row["response"]) == answer


STATUSES = {
    "invalid": Code.INVALID_ARGUMENT,
    "missing": Code.NOT_FOUND,
    "conflict": Code.FAILED_PRECONDITION,
    "unavailable": Code.UNAVAILABLE,
    "overloaded": Code.RESOURCE_EXHAUSTED,
    "bug": Code.INTERNAL,
    "timeout": Code.UNAVAILABLE,
}


@pytest.mark.parametrize("text", FAILURES)
async def test_each_error_has_its_status_and_no_internal_text(channel: Any, text: str) -> None:
    with capture_logs() as lines:
        error = await refused(call(channel, "Look")(asked(text), metadata=bearer()))

    assert error.code() is STATUSES[text]
    assert SECRET not in str(error.details())
    (line,) = [line for line in lines if line["event"] == "rpc_handled"]
    assert line["code"] == STATUSES[text].name
    if text == "bug":
        assert error.details() == "internal error"
        assert line["exc_info"] is FAILURES["bug"]


async def test_malformed_bytes_are_an_invalid_argument_without_internal_text(channel: Any) -> None:
    send = channel.unary_unary(f"/{SERVICE}/Look", request_serializer=None, response_deserializer=None)

    error = await refused(send(b"\xff\xff\xff\xff", metadata=bearer()))

    assert error.code() is Code.INVALID_ARGUMENT
    assert error.details() == f"the request is not what {SERVICE}/Look takes: its bytes cannot be read"


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer x.y.z"),), (("authorization", "Basic YTpi"),)])
async def test_nobody_is_answered_without_a_valid_token(channel: Any, metadata: Any) -> None:
    error = await refused(call(channel, "Look")(asked(), metadata=metadata))

    assert error.code() is Code.UNAUTHENTICATED


async def test_an_expired_token_is_refused(channel: Any) -> None:
    metadata = (("authorization", f"Bearer {token(lasting_s=-31)}"),)

    assert (await refused(call(channel, "Look")(asked(), metadata=metadata))).code() is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("who", "method", "namespace"), [("reader", "Change", "demo"), ("alice", "Look", "other"), ("alice", "Look", "")]
)
async def test_what_is_not_granted_is_denied_before_anything_is_looked_at(
    channel: Any, api: TrialApi, who: str, method: str, namespace: str
) -> None:
    error = await refused(call(channel, method)(asked(namespace=namespace), metadata=bearer(who)))

    assert error.code() is Code.PERMISSION_DENIED
    assert not api.callers
    assert not api.done


@pytest.mark.parametrize("namespace", ["", "Demo", "a/b", "x" * 64])
async def test_a_namespace_is_a_label_even_for_who_may_do_everything(channel: Any, namespace: str) -> None:
    error = await refused(call(channel, "Look")(asked(namespace=namespace), metadata=bearer("root")))

    assert error.code() is Code.INVALID_ARGUMENT


async def test_a_service_acts_for_the_principal_it_names(channel: Any, api: TrialApi) -> None:
    metadata = bearer("service:trial", x_millrace_principal="reader", x_priority="batch")
    await call(channel, "Look")(asked(), metadata=metadata)
    error = await refused(call(channel, "Change")(asked(), metadata=metadata))

    (who,) = api.callers
    assert (who.principal, who.service, who.namespace, who.priority) == ("reader", "service:trial", "demo", "batch")
    assert error.code() is Code.PERMISSION_DENIED


async def test_a_call_ends_at_its_deadline_and_its_effects_are_undone(
    channel: Any, api: TrialApi, begin: Transactions[Effects]
) -> None:
    error = await refused(call(channel, "Change")(asked("wait"), metadata=bearer(), timeout=0.3))

    api.go_on.set()
    assert error.code() is Code.DEADLINE_EXCEEDED
    async with begin() as tx:
        assert await tx.names() == []


async def test_a_call_without_a_deadline_gets_one(channel: Any, api: TrialApi) -> None:
    await call(channel, "Look")(asked(), metadata=bearer())

    assert 25 < api.callers[0].remaining_s() <= 30


async def test_a_call_over_the_default_deadline_is_told_so(api: TrialApi, begin: Any, tmp_path: Path) -> None:
    slow = file_of(
        "slow", {"Look": (False, {"action": access_pb2.ACTION_READ, "default_deadline_s": 1})}, ("namespace", "text")
    )
    server = RpcServer("slow", access_in(tmp_path))
    server.serve(slow.services_by_name["SlowService"], api, begin)
    async with serving(server) as target, raw(target) as channel:
        send = channel.unary_unary("/millrace.slow.v1.SlowService/Look")
        body = b"\x0a\x04demo\x12\x04wait"
        error = await refused(send(body, metadata=bearer()))

    assert (error.code(), error.details()) == (Code.DEADLINE_EXCEEDED, "the call took longer than its 1 s")


async def test_more_calls_than_the_limit_are_told_when_to_come_back(channel: Any, api: TrialApi) -> None:
    waiting = [asyncio.ensure_future(call(channel, "Look")(asked("wait"), metadata=bearer())) for _ in range(4)]
    while len(api.callers) < 4:
        await asyncio.wait(waiting, timeout=0.01)

    error = await refused(call(channel, "Look")(asked(), metadata=bearer()))
    api.go_on.set()

    assert error.code() is Code.RESOURCE_EXHAUSTED
    trailing: Any = error.trailing_metadata()
    assert "grpc-status-details-bin" in dict(trailing)
    await asyncio.gather(*waiting)
    await call(channel, "Look")(asked(), metadata=bearer())


async def test_requests_metadata_and_answers_are_bounded(channel: Any) -> None:
    large = await refused(call(channel, "Look")(asked("x" * 5_000_000), metadata=bearer()))
    wordy = await refused(call(channel, "Look")(asked(), metadata=bearer(x_pad="x" * 40_000)))
    lavish = await refused(call(channel, "Look")(asked("large"), metadata=bearer()))

    assert [large.code(), wordy.code()] == [Code.RESOURCE_EXHAUSTED] * 2
    assert lavish.code() is Code.INVALID_ARGUMENT
    assert "ask for less" in str(lavish.details())


async def test_a_stream_answers_until_it_ends_or_fails(channel: Any) -> None:
    texts = [told.text async for told in call(channel, "Watch")(asked("x"), metadata=bearer())]
    assert texts == [""]

    with pytest.raises(grpc.aio.AioRpcError) as error:
        [told async for told in call(channel, "Watch")(asked("missing"), metadata=bearer())]
    assert error.value.code() is Code.NOT_FOUND


async def test_a_drain_lets_calls_end_and_turns_new_ones_away(server: RpcServer, api: TrialApi) -> None:
    target = f"127.0.0.1:{await server.start()}"
    await server.set_serving(serving=True)
    async with raw(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == 1
        stream = call(channel, "Watch")(asked("wait"), metadata=bearer())
        await anext(aiter(stream))
        await api.entered.wait()
        api.entered.clear()
        running = asyncio.ensure_future(call(channel, "Change")(asked("wait"), metadata=bearer()))
        await api.entered.wait()

        draining = asyncio.ensure_future(server.drain(10))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await anext(aiter(stream))
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == 2
        late = await refused(call(channel, "Look")(asked(), metadata=bearer()))
        api.go_on.set()

        assert (await running).text.startswith("wait ")
        await draining
    assert ended.value.code() is Code.UNAVAILABLE
    assert (late.code(), late.details()) == (Code.UNAVAILABLE, "trial is stopping: try again")


async def test_a_drain_is_bounded(server: RpcServer, api: TrialApi) -> None:
    target = f"127.0.0.1:{await server.start()}"
    async with raw(target) as channel:
        stuck = asyncio.ensure_future(call(channel, "Look")(asked("wait"), metadata=bearer()))
        await api.entered.wait()
        async with asyncio.timeout(5):
            await server.drain(0.1)
        assert (await refused(stuck)).code() in {Code.UNAVAILABLE, Code.CANCELLED}


async def test_a_taken_port_is_told_in_words(server: RpcServer, tmp_path: Path) -> None:
    async with serving(server):
        second = RpcServer("second", access_in(tmp_path), port=server.port)
        with pytest.raises(Conflict, match="the port is taken"):
            await second.start()


async def test_reflection_and_health_are_public(channel: Any) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    asking = reflection_pb2.ServerReflectionRequest

    async def questions() -> AsyncIterator[Any]:
        yield asking(list_services="")
        yield asking(file_containing_symbol=SERVICE)

    names, file = [answer async for answer in reflection.ServerReflectionInfo(questions())]

    listed = {service.name for service in names.list_services_response.service}
    assert listed == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert len(file.file_descriptor_response.file_descriptor_proto) >= 1
    status = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert status.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_foreign_protocol_is_served_with_the_same_care(begin: Any, tmp_path: Path) -> None:
    async def shout(request: str, _: Any) -> str:
        return request.upper()

    async def live(_: str, __: Any) -> str:
        return "yes"

    server = RpcServer("trial", access_in(tmp_path))
    methods = {
        "Shout": ForeignMethod(shout, bytes.decode, str.encode, "thing", Action.EDIT),
        "Live": ForeignMethod(live, bytes.decode, str.encode, "server", None),
    }
    server.serve_foreign("foreign.Service", methods, begin)
    async with serving(server) as target, raw(target) as channel:
        shouting = channel.unary_unary("/foreign.Service/Shout")
        answers = [
            await shouting(b"hi", metadata=bearer()),  # alice was granted one namespace
            await shouting(b"hi", metadata=bearer("root", x_millrace_namespace="any")),
            await channel.unary_unary("/foreign.Service/Live")(b""),
        ]
        denied = await refused(shouting(b"hi", metadata=bearer("alice", x_millrace_namespace="other")))
        unsaid = await refused(shouting(b"hi", metadata=bearer("root")))
        malformed = await refused(shouting(b"\xff", metadata=bearer()))

    assert answers == [b"HI", b"HI", b"yes"]
    assert [error.code() for error in (denied, unsaid, malformed)] == [
        Code.PERMISSION_DENIED,
        Code.INVALID_ARGUMENT,
        Code.INVALID_ARGUMENT,
    ]


READ = {"action": access_pb2.ACTION_READ}
EDIT = {"action": access_pb2.ACTION_EDIT}
STARTS = {
    "no access option": ((False, None), ("namespace",), "no access option"),
    "no action": ((False, {}), ("namespace",), "no action"),
    "no namespace": ((False, READ), ("text",), "no field namespace"),
    "no request id": ((False, EDIT), ("namespace",), "no field request_id"),
    "a stream in a transaction": ((True, READ), ("namespace",), "may stream"),
    "no method": ((False, READ), ("namespace",), "has no `async def Absent"),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_proto_that_leaves_something_open_fails_the_start(case: str, begin: Any, api: TrialApi) -> None:
    method, fields, reason = STARTS[case]
    name = case.replace(" ", "")
    file = file_of(name, {"Absent": method}, fields)

    with pytest.raises(TypeError, match=reason):
        rpcs_of(file.services_by_name[f"{name.capitalize()}Service"], api, begin)


async def test_a_trace_that_comes_in_goes_on(channel: Any, begin: Transactions[Effects]) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with capture_logs() as lines:
        await call(channel, "Change")(asked(), metadata=bearer(traceparent=f"00-{trace_id}-00f067aa0ba902b7-01"))

    async with begin() as tx:
        assert [row["trace_id"] for row in await tx.fetch("SELECT trace_id FROM request")] == [trace_id]
    assert [line["event"] for line in lines] == ["rpc_handled"]


async def test_no_log_line_holds_a_token_or_what_was_sent(channel: Any) -> None:
    with capture_logs() as lines:
        metadata = bearer(x_more=SECRET)
        await call(channel, "Change")(asked(SECRET), metadata=metadata)
        for text in FAILURES:
            await refused(call(channel, "Look")(asked(text), metadata=metadata))
        await refused(call(channel, "Look")(asked(), metadata=(("authorization", f"Bearer {SECRET}"),)))

    written = "".join(json.dumps(add_error(None, "", dict(line)), default=str) for line in lines)
    assert len(lines) == len(FAILURES) + 3
    assert SECRET not in written
    assert metadata[0][1].removeprefix("Bearer ") not in written
