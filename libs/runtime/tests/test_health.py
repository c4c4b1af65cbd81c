import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from millrace.runtime.errors import Conflict, Unavailable
from millrace.runtime.health import Health


class Checks:
    """Two checks whose answers a test sets."""

    def __init__(self) -> None:
        self.database: str | Exception = ""
        self.loop = ""

    async def answers(self) -> str:
        if isinstance(self.database, Exception):
            raise self.database
        return self.database

    async def turns(self) -> str:
        return self.loop


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
async def health(checks: Checks) -> AsyncIterator[Health]:
    async with Health({"database": checks.answers}, {"loop": checks.turns}) as opened:
        yield opened


async def send(health: Health, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", health.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def get(health: Health, path: str) -> tuple[int, Any]:
    head, _, body = (await send(health, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    return status, json.loads(body) if b"application/json" in head else body.decode()


async def test_all_is_well_when_every_check_says_so(health: Health) -> None:
    for path in ("/livez", "/readyz", "/readyz?verbose"):
        assert await get(health, path) == (200, {"ok": True, "faults": {}})


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("migration 0003 is missing", "migration 0003 is missing"),
        (Unavailable("the database does not answer"), "the database does not answer"),
        (RuntimeError("password is hunter2"), "RuntimeError"),
    ],
)
async def test_a_dependency_that_is_down_makes_not_ready_never_not_live(
    health: Health, checks: Checks, fault: str | Exception, told: str
) -> None:
    checks.database = fault

    assert await get(health, "/readyz") == (503, {"ok": False, "faults": {"database": told}})
    assert (await get(health, "/livez"))[0] == 200


async def test_a_stuck_loop_is_not_live(health: Health, checks: Checks) -> None:
    checks.loop = "no progress for 60 s"

    assert await get(health, "/livez") == (503, {"ok": False, "faults": {"loop": "no progress for 60 s"}})


async def test_a_check_that_hangs_is_a_fault_in_bounded_time() -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    async with Health({"broker": hang}, {}) as health, asyncio.timeout(4):
        assert await get(health, "/readyz") == (503, {"ok": False, "faults": {"broker": "no answer within 2 s"}})


async def test_a_stopping_service_is_not_ready_and_still_lives(health: Health) -> None:
    health.draining = True

    assert (await get(health, "/readyz"))[1]["faults"] == {"draining": "the service is stopping"}
    assert (await get(health, "/livez"))[0] == 200


async def test_readiness_is_told_now_and_at_each_change(health: Health, checks: Checks) -> None:
    told: asyncio.Queue[bool] = asyncio.Queue()
    following = asyncio.ensure_future(health.follow(told.put))

    assert await told.get() is True
    checks.database = "gone"
    assert await told.get() is False
    checks.database = ""
    assert await told.get() is True
    following.cancel()


async def test_metrics_are_in_prometheus_form(health: Health) -> None:
    status, text = await get(health, "/metrics")

    assert status == 200
    assert "# TYPE rpc_server_call_duration_seconds histogram" in text
    assert "# TYPE millrace_events_handled_total counter" in text


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /readyz HTTP/1.1\r\n\r\n", b"405"),
        (b"\xff\xfe\r\n\r\n", b"405"),
    ],
)
async def test_anything_else_is_refused(health: Health, request_bytes: bytes, status: bytes) -> None:
    assert (await send(health, request_bytes)).split(b" ")[1] == status


async def test_a_head_has_no_body(health: Health) -> None:
    answer = await send(health, b"HEAD /livez HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


async def test_an_endless_request_is_cut_off(health: Health) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", health.port)
    writer.write(b"GET /" + b"x" * 20_000)

    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert (await get(health, "/livez"))[0] == 200


async def test_a_taken_port_is_told_in_words(health: Health) -> None:
    with pytest.raises(Conflict, match="cannot listen on 127"):
        async with Health({}, {}, port=health.port):
            pass
