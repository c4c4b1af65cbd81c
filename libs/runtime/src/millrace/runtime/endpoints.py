"""Where a service answers, and how a channel to its replicas behaves."""

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from millrace.runtime.errors import InvalidInput, Unavailable

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: A replica that is frozen or cut off is left out after these two; not below what servers allow (rpc/server.py).
PING_S = 10
PONG_S = 10

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", PING_S * 1000),
    ("grpc.keepalive_timeout_ms", PONG_S * 1000),
    # gRPC waits for this one, a minute by default, whatever the one above says.
    ("grpc.http2.ping_timeout_ms", PONG_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A replica that is back is known to be so before the next one of a rolling restart goes (rpc/server.py).
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 1),
]
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def target_of(service: str, endpoints: Mapping[str, str]) -> str:
    """Return where a service answers, as gRPC writes it.

    Several addresses, comma-separated, are its replicas; a name may stand for several by DNS.

    Raises:
        InvalidInput: Of several, one is no IP address with a port.
        Unavailable: Nobody said.
    """
    addresses = [one.strip() for one in endpoints.get(service, "").split(",") if one.strip()]
    if not addresses:
        raise Unavailable(f"it is not set where {service} answers: add it to the endpoints, as host:port")
    if len(addresses) == 1:
        return addresses[0]
    schemes = {_scheme(one) for one in addresses}
    if len(schemes) > 1 or "" in schemes:
        where = ", ".join(addresses)
        raise InvalidInput(f"{service} answers at {where}: several must be IP addresses of one kind, each with a port")
    return f"{schemes.pop()}:{','.join(addresses)}"


def options_of(service: str, target: str) -> list[tuple[str, Any]]:
    """Return how a channel behaves.

    It takes the replicas in turn, leaves out those that say they are not ready, and repeats what may be repeated: our
    own RPCs, which all only read or have a `request_id`, and predictions.
    """
    package = f"millrace.{service}.v1"
    names = [
        f"{package}.{service.capitalize()}Service",
        "millrace.runtime.v1.HeldService",
        "millrace.runtime.v1.AuditService",
        "inference.GRPCInferenceService",
    ]
    config: dict[str, Any] = {
        "methodConfig": [{"name": [{"service": name} for name in names], "retryPolicy": _RETRY}],
        # When many calls fail, repeating them makes it worse.
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
        "loadBalancingConfig": [{"round_robin": {}}],
    }
    if "," in target:
        # One alone is asked whatever it says: not ready may be better than nobody.
        config["healthCheckConfig"] = {"serviceName": ""}
    return [*_OPTIONS, ("grpc.service_config", json.dumps(config))]


def _scheme(address: str) -> str:
    host, colon, port = address.rpartition(":")
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        return ""
    return f"ipv{version}" if colon and port.isdecimal() else ""
