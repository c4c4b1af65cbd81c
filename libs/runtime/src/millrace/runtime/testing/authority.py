"""Who signs the tokens of a test's services, and what each principal may do."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from millrace.contracts import SERVICES

KEY_ID = "tests"
#: How long a token is good for; it is renewed often enough that a renewal may fail, on a disk that a test has filled.
TOKEN_S = 3600.0
RENEWED_EVERY_S = TOKEN_S / 3


class Authority:
    """A key pair of the tests' own, with the files a service reads: keys, grants, tokens.

    Args:
        folder: Where the files go.
        grants: Who may do what; every service may do everything besides.
    """

    def __init__(self, folder: Path, grants: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.folder = folder
        self._key = Ed25519PrivateKey.generate()
        self._known: set[str] = set()
        public = json.loads(OKPAlgorithm.to_jwk(self._key.public_key()))
        self.jwks = self._file("jwks.json", {"keys": [public | {"kid": KEY_ID, "alg": "EdDSA", "use": "sig"}]})
        services = {f"service:{name}": {"*": "MANAGE"} for name in SERVICES}
        self.grants = self._file("grants.json", services | dict(grants or {"dev": {"*": "MANAGE"}}))

    def token_file(self, principal: str) -> Path:
        """Return a file with a token of a principal; it is a good one for as long as tokens are renewed."""
        self._known.add(principal)
        file = self.folder / f"{principal.replace(':', '-')}.token"
        # Whoever reads it sees the one token or the other.
        (new := file.with_suffix(".new")).write_text(self.token(principal))
        return new.replace(file)

    async def renew(self, every_s: float = RENEWED_EVERY_S) -> None:
        """Write every token file anew every so often, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            for principal in sorted(self._known):
                with suppress(OSError):
                    self.token_file(principal)

    def token(self, principal: str, *, seconds: float = TOKEN_S) -> str:
        """Return a token of a principal, good for so long."""
        now = int(time.time())
        claims = {"iss": "millrace", "aud": "millrace", "sub": principal, "iat": now, "exp": now + int(seconds)}
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": KEY_ID})

    def _file(self, name: str, content: object) -> Path:
        file = self.folder / name
        file.write_text(json.dumps(content))
        return file
