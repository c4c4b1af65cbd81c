"""The seven services as processes: what each is told when it starts."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from millrace.contracts import SERVICES
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.ports import LOOPBACK
from millrace.sdk.stack.postgres import Postgres
from millrace.sdk.stack.program import Program
from millrace.sdk.stack.state import State

#: A service drains in under 30 s; then it is killed.
_STOP_S = 30


def service_program(state: State, service: str) -> Program:
    """Return how a service is run; its settings come from the environment."""
    command = (sys.executable, "-m", "millrace.runtime", service)
    return Program(service, command, state.log(service), stop_s=_STOP_S)


def service_environment(state: State, postgres: Postgres, kafka: Kafka, roots: Iterable[Path]) -> dict[str, str]:
    """Return the settings of all services; each reads those that begin with its own name.

    Args:
        state: The state folder.
        postgres: The server that holds their databases.
        kafka: The broker.
        roots: Folders from which `data.ingest` may read.
    """
    ports, endpoints = state.ports(), json.dumps(state.endpoints())
    settings = {"DATA_ALLOWED_ROOTS": json.dumps([str(root.resolve()) for root in roots])}
    for service in SERVICES:
        own = {
            "POSTGRES_DSN": postgres.dsn(service, role=service),
            "KAFKA_SERVERS": kafka.servers,
            "GRPC_HOST": LOOPBACK,
            "GRPC_PORT": str(ports.grpc(service)),
            "HTTP_HOST": LOOPBACK,
            "HTTP_PORT": str(ports.http(service)),
            "ARTIFACTS_URL": state.artifacts.as_uri(),
            "AUTH_JWKS": str(state.jwks),
            "AUTH_ISSUER": "millrace",
            "AUTH_AUDIENCE": "millrace",
            "AUTH_GRANTS": str(state.grants),
            "TOKEN_FILE": str(state.token(service)),
            "ENDPOINTS": endpoints,
            "INSTANCE": "0",
            "POST_MIGRATIONS": "true",  # all of a stack is of one version
        }
        settings |= {f"{service.upper()}_{name}": value for name, value in own.items()}
    return settings
