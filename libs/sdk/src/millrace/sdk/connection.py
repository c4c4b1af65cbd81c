"""How a program outside reaches the services: where they answer, and with which token it calls."""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
from millrace.runtime.client import Channels, FixedToken, Token, blocking_channel
from millrace.runtime.endpoints import target_of
from millrace.runtime.errors import InvalidInput, Unavailable
from millrace.sdk.stack.ports import LOOPBACK
from millrace.sdk.stack.state import DEFAULT_FOLDER, DEVELOPER, State

ENDPOINTS = "MILLRACE_ENDPOINTS"
TOKEN = "MILLRACE_TOKEN"  # noqa: S105 - the variable's name
SERVERS = "MILLRACE_KAFKA_SERVERS"


@dataclass(frozen=True)
class Connection:
    """Where the services answer, and the token to call them with.

    Attributes:
        endpoints: Service -> `host:port`, or those of its replicas, comma-separated.
        token: The caller's bearer token, or the file that holds it.
    """

    endpoints: Mapping[str, str]
    token: Token | FixedToken

    def channels(self) -> Channels:
        """Return channels for asynchronous code; they are the caller's to close."""
        return Channels(self.endpoints, self.token)

    def channel(self, service: str) -> AbstractContextManager[grpc.Channel]:
        """Lend a channel for code that is not asynchronous.

        Raises:
            Unavailable: It is not known where the service answers.
        """
        return blocking_channel(service, target_of(service, self.endpoints), self.token)


def connection(folder: Path = DEFAULT_FOLDER) -> Connection:
    """Return how to reach the stack of a folder; `MILLRACE_ENDPOINTS` (JSON) and `MILLRACE_TOKEN` come first.

    Raises:
        InvalidInput: `MILLRACE_ENDPOINTS` cannot be used.
        Unavailable: There is no stack in the folder.
    """
    state = State(folder.expanduser().resolve())
    endpoints, token = os.environ.get(ENDPOINTS), os.environ.get(TOKEN)
    if not (endpoints and token):
        _check_made(state)
    return Connection(
        endpoints=_read_endpoints(endpoints) if endpoints else state.endpoints(),
        token=FixedToken(token) if token else Token(state.token(DEVELOPER)),
    )


def connection_to(service: str, target: str, folder: Path = DEFAULT_FOLDER) -> Connection:
    """Return how to reach one service where it is known to answer, with `MILLRACE_TOKEN` or the token of a folder.

    Raises:
        Unavailable: There is neither.
    """
    token = os.environ.get(TOKEN)
    return Connection({service: target}, FixedToken(token) if token else connection(folder).token)


def kafka_servers(folder: Path = DEFAULT_FOLDER) -> str:
    """Return the brokers to publish to: `MILLRACE_KAFKA_SERVERS`, or that of the stack of a folder.

    Raises:
        Unavailable: There is no stack in the folder.
    """
    if servers := os.environ.get(SERVERS):
        return servers
    state = State(folder.expanduser().resolve())
    _check_made(state)
    return f"{LOOPBACK}:{state.ports().kafka}"


def _check_made(state: State) -> None:
    if not state.token(DEVELOPER).exists():
        raise Unavailable(f"there is no stack in {state.folder}: start one with `millrace up`, or name its --state")


def _read_endpoints(text: str) -> dict[str, str]:
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if isinstance(read, dict) and all(isinstance(value, str) for value in read.values()):
        return read
    raise InvalidInput(f'{ENDPOINTS} is no JSON object of host:port by service, such as {{"control": "host:50051"}}')
