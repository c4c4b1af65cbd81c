"""How a command reaches the services: where they are, with which token, and how their errors are told."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import grpc
import typer
from millrace.runtime.errors import MillraceError
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.state import DEFAULT_FOLDER, DEVELOPER, State

DEADLINE_S = 30.0

Folder = Annotated[
    Path, typer.Option("--state", envvar="MILLRACE_STATE", help="Folder that keeps the stack.", show_default=True)
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="MILLRACE_NAMESPACE", help="Whose things to work on.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

FOLDER = DEFAULT_FOLDER
NAMESPACE = "demo"


@dataclass(frozen=True)
class Connection:
    """Where the services answer, and the token to call them with.

    Attributes:
        endpoints: Service -> `host:port`.
        token: The caller's bearer token.
    """

    endpoints: Mapping[str, str]
    token: str

    @contextmanager
    def channel(self, service: str) -> Iterator[grpc.Channel]:
        """Open a channel to a service that sends the token with each call, and a deadline if it has none.

        Raises:
            CannotStart: It is not known where the service answers.
        """
        if service not in self.endpoints:
            raise CannotStart(f"no address of {service} is known: it is one of {', '.join(sorted(self.endpoints))}")
        with grpc.insecure_channel(self.endpoints[service]) as channel:
            yield grpc.intercept_channel(channel, _Caller(self.token))


def connection(folder: Path = FOLDER) -> Connection:
    """Return how to reach the stack of a folder; `MILLRACE_ENDPOINTS` (JSON) and `MILLRACE_TOKEN` come first.

    Raises:
        CannotStart: There is no stack in the folder.
    """
    state = State(folder.expanduser().resolve())
    endpoints, token = os.environ.get("MILLRACE_ENDPOINTS"), os.environ.get("MILLRACE_TOKEN")
    if not (endpoints and token) and not state.token(DEVELOPER).exists():
        raise CannotStart(f"there is no stack in {state.folder}: start one with `millrace up`, or name its --state")
    return Connection(
        endpoints=json.loads(endpoints) if endpoints else state.endpoints(),
        token=token or state.token(DEVELOPER).read_text(),
    )


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Tell an expected error in one clear line and leave with status 1."""
    try:
        yield
    except grpc.RpcError as error:
        fail(_told(error))
    except (CannotStart, MillraceError) as error:
        fail(str(error))


def fail(message: str) -> None:
    """Say what is wrong and leave with status 1."""
    print(f"millrace: {message}", file=sys.stderr)
    sys.exit(1)


def _told(error: grpc.RpcError) -> str:
    """Return the server's words, or what to do when it did not answer."""
    if not isinstance(error, grpc.Call):
        return str(error)
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and "connect" in details.lower():
        return "the service does not answer: look with `millrace status`, start it with `millrace up`"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "the service did not answer in time: look with `millrace status`"
    return details or code.name.lower().replace("_", " ")


Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


# The published stubs make these classes generic; at run time they are not.
class _Caller(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    """Adds the token to each call, and a deadline to one that answers once."""

    def __init__(self, token: str) -> None:
        self._authorization = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Request], Answer],
        client_call_details: grpc.ClientCallDetails,
        request: Request,
    ) -> Answer:
        """Send one request for one answer."""
        return continuation(self._details(client_call_details, client_call_details.timeout or DEADLINE_S), request)

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Request], Answer],
        client_call_details: grpc.ClientCallDetails,
        request: Request,
    ) -> Answer:
        """Send one request for a stream, which lasts as long as the caller reads."""
        return continuation(self._details(client_call_details, client_call_details.timeout), request)

    def _details(self, details: grpc.ClientCallDetails, timeout: float | None) -> _Details:
        metadata = (*(details.metadata or ()), self._authorization)
        waits = details.wait_for_ready
        return _Details(details.method, timeout, metadata, details.credentials, waits, details.compression)
