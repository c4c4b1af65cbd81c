"""The stack's own authority: a key pair, the tokens it signs and the grants to start with.

`python -m millrace.sdk.stack.credentials FOLDER` makes them in `FOLDER/secrets`, for a stack in containers.
"""

import json
import os
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from millrace.contracts import SERVICES
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.state import DEVELOPER, State

ISSUER = AUDIENCE = "millrace"
_KEY_ID = "embedded"
_TOKEN_S = 365 * 24 * 3600


def make_credentials(state: State, now_s: float | None = None) -> None:
    """Make the key pair and the grants, the first time, and sign a fresh token for each principal."""
    key = _key(state)
    point = urlsafe_b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode().rstrip("=")
    public = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": _KEY_ID, "x": point}
    write_private(state.jwks, json.dumps({"keys": [public]}))
    if not state.grants.exists():
        write_private(state.grants, json.dumps(first_grants(), indent=2))
    now = int(time.time() if now_s is None else now_s)
    for name, principal in {DEVELOPER: DEVELOPER, **{name: service_principal(name) for name in SERVICES}}.items():
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": principal, "iat": now, "exp": now + _TOKEN_S}
        write_private(state.token(name), jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": _KEY_ID}))


def first_grants() -> dict[str, dict[str, str]]:
    """Return who may do what in a new stack: the developer all, a service what its work needs."""
    grants = {service_principal(service): {"*": "EDIT"} for service in SERVICES}
    return {DEVELOPER: {"*": "MANAGE"}, **grants, service_principal("observability"): {"*": "MANAGE"}}


def service_principal(service: str) -> str:
    """Return whom a service's token names; only such a one may call for somebody else."""
    return f"service:{service}"


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as content:
        content.write(text)
    fresh.replace(file)


def _key(state: State) -> Ed25519PrivateKey:
    file = state.secrets / "key.pem"
    if not file.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(file, pem.decode())
    key = load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise CannotStart(f"{file} holds no Ed25519 key: delete {state.secrets} to have a new one made")
    return key


if __name__ == "__main__":
    make_credentials(State(Path(sys.argv[1])))
