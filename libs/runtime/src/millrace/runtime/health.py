"""/livez, /readyz and /metrics: whether a process lives, whether it is of use, and how it does."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Self

import structlog
from millrace.runtime.errors import Conflict, MillraceError
from millrace.runtime.telemetry import ASYNCIO_TASKS
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], Awaitable[str]]
"""Says what is wrong, or nothing."""

CHECK_S = 2.0
REQUEST_S = 5.0
FOLLOW_S = 1.0
MAX_REQUEST_BYTES = 8192
MOST_CONNECTIONS = 64

log = structlog.get_logger()


class Health:
    """Answers probes over HTTP.

    Args:
        ready: What must hold for the service to be of use: name -> check. A dependency that is down belongs here.
        live: What must hold for the process not to be started anew: name -> check.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
    """

    def __init__(
        self, ready: Mapping[str, Check], live: Mapping[str, Check], *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.port = port
        self.draining = False
        self._ready = ready
        self._live = live
        self._host = host
        self._open = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self.port, limit=MAX_REQUEST_BYTES, reuse_address=True
            )
        except OSError as error:
            raise Conflict(f"health cannot listen on {self._host}:{self.port}: {error.strerror}") from None
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        server, self._server = self._server, None
        if server:
            server.close()

    async def unready(self) -> dict[str, str]:
        """Return why the service is of no use now: name of the check -> reason."""
        if self.draining:
            return {"draining": "the service is stopping"}
        return await _faults(self._ready)

    async def follow(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Tell, now and at every change, whether the service is ready; until cancelled."""
        last: bool | None = None
        while True:
            faults = await self.unready()
            if last is not (not faults):
                last = not faults
                log.info("readiness_changed", ready=last, faults=faults)
                await tell(last)
            await asyncio.sleep(FOLLOW_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST_CONNECTIONS:
                async with asyncio.timeout(REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._response(head))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever does not speak HTTP in time gets no answer
        finally:
            self._open -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _response(self, head: bytes) -> bytes:
        method, path, *_ = (*head.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", "")
        if method not in {"GET", "HEAD"}:
            return _http(HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD\n", "text/plain")
        status, body, kind = await self._page(path.partition("?")[0])
        return _http(status, body, kind, head_only=method == "HEAD")

    async def _page(self, path: str) -> tuple[HTTPStatus, bytes, str]:
        match path:
            case "/livez":
                return _told(await _faults(self._live))
            case "/readyz":
                return _told(await self.unready())
            case "/metrics":
                ASYNCIO_TASKS.set(len(asyncio.all_tasks()))
                return HTTPStatus.OK, generate_latest(), CONTENT_TYPE_LATEST
        return HTTPStatus.NOT_FOUND, b"/livez, /readyz, /metrics\n", "text/plain"


async def _faults(checks: Mapping[str, Check]) -> dict[str, str]:
    found = await asyncio.gather(*(_fault(check) for check in checks.values()))
    return {name: fault for name, fault in zip(checks, found, strict=True) if fault}


async def _fault(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_S):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_S:g} s"
    except MillraceError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a check that fails is a fault, whatever it raised
        return type(error).__name__


def _told(faults: Mapping[str, str]) -> tuple[HTTPStatus, bytes, str]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
    return status, json.dumps({"ok": not faults, "faults": faults}).encode() + b"\n", "application/json"


def _http(status: HTTPStatus, body: bytes, kind: str, *, head_only: bool = False) -> bytes:
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode() + (b"" if head_only else body)
