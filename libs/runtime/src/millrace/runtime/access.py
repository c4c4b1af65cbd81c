"""Who calls, and what they may do: signed tokens, and grants per namespace. What is not allowed is denied."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import jwt
import structlog
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.types import Options
from millrace.runtime.caller import AUTHORIZATION, MAX_TOKEN_BYTES, ON_BEHALF, PRIORITY, Caller, Priority
from millrace.runtime.errors import Denied, Unavailable
from millrace.runtime.reloaded import ReloadedFile

LEEWAY_S = 30
MAX_PRINCIPAL = 200
MIN_RSA_BITS = 2048
TOKENS_KEPT = 4096
EVERY_NAMESPACE = "*"
SERVICE_PREFIX = "service:"

_OPTIONS: Options = {
    "require": ["exp", "iss", "aud", "sub"],
    "strict_aud": True,
    # The times are checked here, by a clock that is not the process's own.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
_CLAIMED: Mapping[str, Priority] = {"background": "background", "batch": "batch"}

log = structlog.get_logger()


class Action(IntEnum):
    """What a role allows; each includes the ones before it."""

    READ = 1
    EDIT = 2
    MANAGE = 3


@dataclass(frozen=True)
class _Key:
    algorithm: str
    public: Any


class Access:
    """Tells callers by their tokens and says what they may do.

    Args:
        jwks: File with the public keys that sign tokens; Ed25519, P-256 or RSA.
        grants: File `{principal: {namespace or "*": READ | EDIT | MANAGE}}`; a namespace's own entry outranks `*`.
        issuer: Who must have signed.
        audience: For whom a token must be meant.
        clock: Says by what time a token is good.
    """

    def __init__(
        self,
        jwks: Path,
        grants: Path,
        *,
        issuer: str = "millrace",
        audience: str = "millrace",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = ReloadedFile(jwks, _read_keys)
        self._grants = ReloadedFile(grants, _read_grants)
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._known: dict[str, tuple[str, float, _Key]] = {}

    def check(self) -> None:
        """Do nothing when keys and grants can be read.

        Raises:
            Unavailable: They cannot: everybody is denied.
        """
        self._keys.value()
        self._grants.value()

    def identify(self, metadata: Mapping[str, str]) -> Caller:
        """Return who calls, by the token in `authorization` and, from a service, the principal it names.

        Raises:
            Denied: There is no valid token, or someone who is no service names somebody else.
        """
        scheme, _, token = metadata.get(AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Denied("a bearer token is needed", authenticated=False)
        principal = self._principal(token.strip())
        priority = _CLAIMED.get(metadata.get(PRIORITY, ""), "interactive")
        named = metadata.get(ON_BEHALF, "")
        if not named or named == principal:
            return Caller(principal, priority=priority)
        if not principal.startswith(SERVICE_PREFIX) or not _is_principal(named):
            raise Denied("only a service may call for somebody else")
        return Caller(named, service=principal, priority=priority)

    def allows(self, who: Caller, namespace: str, action: Action) -> bool:
        """Return whether a caller may do this in a namespace; `""` is all of them."""
        return self.role(who, namespace) >= action

    def role(self, who: Caller, namespace: str) -> int:
        """Return the most that a caller may do in a namespace, an `Action`; 0 where that is nothing."""
        own = self._level(who.principal, namespace)
        return min(own, self._level(who.service, namespace)) if who.service else own

    def require(self, who: Caller, namespace: str, action: Action) -> None:
        """Do nothing when a caller may do this in a namespace.

        Raises:
            Denied: It may not; whether the namespace exists is not told.
        """
        if not self.allows(who, namespace, action):
            what = f"namespace {namespace}" if namespace else "every namespace"
            raise Denied(f"{who.principal} may not {action.name} in {what}")

    def only_namespace(self, who: Caller) -> str:
        """Return the one namespace that a caller was granted, or nothing when it is not exactly one."""
        named = set(self._granted(who.principal)) - {EVERY_NAMESPACE}
        return named.pop() if len(named) == 1 else ""

    def _level(self, principal: str, namespace: str) -> int:
        granted = self._granted(principal)
        return granted.get(namespace or EVERY_NAMESPACE, granted.get(EVERY_NAMESPACE, 0))

    def _granted(self, principal: str) -> Mapping[str, Action]:
        try:
            return self._grants.value().get(principal, {})
        except Unavailable as error:
            log.error("grants_unreadable", reason=str(error))  # noqa: TRY400 - the reason says it all
            return {}

    def _principal(self, token: str) -> str:
        known = self._known.get(token)
        try:
            keys = self._keys.value()
            if known and known[1] > self._clock() and any(known[2] is key for key in keys.values()):
                return known[0]
            key = _key_of(token, keys)
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options=_OPTIONS,
            )
            expires = _check_times(claims, self._clock())
        except Unavailable as error:
            log.error("keys_unreadable", reason=str(error))  # noqa: TRY400 - the reason says it all
            raise Denied("the token is not valid", authenticated=False) from None
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            # The class alone: the text of some quotes the token.
            log.info("token_refused", reason=type(error).__name__)
            raise Denied("the token is not valid", authenticated=False) from None
        principal: str = claims["sub"]
        if not _is_principal(principal):
            raise Denied("the token is not valid", authenticated=False)
        if len(self._known) >= TOKENS_KEPT:
            self._known.clear()
        self._known[token] = (principal, expires + LEEWAY_S, key)
        return principal


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """Return when a token expires, Unix time; it is good now."""
    try:
        expires = int(claims["exp"])
        begins = max(int(claims.get(name, 0)) for name in ("nbf", "iat"))
    except (TypeError, OverflowError):
        raise jwt.DecodeError("no times") from None
    if expires <= now - LEEWAY_S:
        raise jwt.ExpiredSignatureError
    if begins > now + LEEWAY_S:
        raise jwt.ImmatureSignatureError
    return expires


def _key_of(token: str, keys: Mapping[str, _Key]) -> _Key:
    """Return the key that a token names; the algorithm is the key's, never the token's choice."""
    if len(token) > MAX_TOKEN_BYTES:
        raise jwt.InvalidTokenError("too long")
    header = jwt.get_unverified_header(token)
    key = keys.get(str(header.get("kid", "")))
    if key is None:
        raise jwt.InvalidKeyError("unknown kid")
    if header.get("alg") != key.algorithm:
        raise jwt.InvalidAlgorithmError("not the key's algorithm")
    if "crit" in header:
        raise jwt.InvalidTokenError("crit")
    return key


def _is_principal(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_PRINCIPAL and text.isascii() and text.isprintable()


def _read_keys(content: bytes) -> dict[str, _Key]:
    found: dict[str, _Key] = {}
    document = json.loads(content)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError('it is no JWK set: {"keys": [...]}')  # noqa: TRY004 - what ReloadedFile reports
    for entry in document["keys"]:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if not isinstance(kid, str) or not kid or kid in found:
            raise ValueError("each key needs a kid of its own")
        found[kid] = _read_key(entry, kid)
    return found


def _read_key(entry: dict[str, Any], kid: str) -> _Key:
    # A private key has no business here: whoever can read this file could sign.
    if "d" in entry:
        raise ValueError(f"key {kid} is private")
    try:
        match entry.get("kty"), entry.get("crv"):
            case "OKP", "Ed25519":
                return _Key("EdDSA", OKPAlgorithm.from_jwk(entry))
            case "EC", "P-256":
                return _Key("ES256", ECAlgorithm.from_jwk(entry))
            case "RSA", None:
                public = RSAAlgorithm.from_jwk(entry)
                if public.key_size < MIN_RSA_BITS:
                    raise ValueError(f"key {kid} has fewer than {MIN_RSA_BITS} bits")
                return _Key("RS256", public)
    except jwt.PyJWTError:
        raise ValueError(f"key {kid} cannot be used") from None
    raise ValueError(f"key {kid} is neither Ed25519, P-256 nor RSA")


def _read_grants(content: bytes) -> dict[str, dict[str, Action]]:
    document = json.loads(content)
    if not isinstance(document, dict) or not all(isinstance(granted, dict) for granted in document.values()):
        raise ValueError("it is no table of grants: {principal: {namespace: READ | EDIT | MANAGE}}")
    roles = Action.__members__
    for principal, granted in document.items():
        for namespace, role in granted.items():
            if role not in roles:
                raise ValueError(f"{principal} has role {role!r} in {namespace}: READ, EDIT and MANAGE are known")
    return {who: {name: roles[role] for name, role in granted.items()} for who, granted in document.items()}
