import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from millrace.runtime.access import Access, Action
from millrace.runtime.caller import Caller
from millrace.runtime.clock import DatabaseClock
from millrace.runtime.errors import Denied, Unavailable

KEY = Ed25519PrivateKey.generate()
OTHER = Ed25519PrivateKey.generate()
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused


def jwk(key: Ed25519PrivateKey, kid: str) -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid}


def write(path: Path, document: object) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document))
    fresh.rename(path)


def signed(
    key: Any = KEY, *, alg: str = "EdDSA", headers: dict[str, Any] | None = None, lasting_s: float = 60, **claims: Any
) -> str:
    known = {"sub": "alice", "iss": "millrace", "aud": "millrace", "exp": time.time() + lasting_s} | claims
    said = {name: value for name, value in known.items() if value is not None}
    return jwt.encode(said, key, algorithm=alg, headers={"kid": "k1"} if headers is None else headers)


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in more.items()}


@pytest.fixture
def access(tmp_path: Path) -> Access:
    write(tmp_path / "jwks.json", {"keys": [jwk(KEY, "k1")]})
    write(
        tmp_path / "grants.json",
        {
            "alice": {"demo": "EDIT"},
            "root": {"*": "MANAGE", "locked": "READ"},
            "service:training": {"*": "READ"},
            "two": {"a": "READ", "b": "READ"},
        },
    )
    return Access(tmp_path / "jwks.json", tmp_path / "grants.json")


def test_a_valid_token_names_its_principal(access: Access) -> None:
    token = signed()

    assert access.identify(bearer(token)) == access.identify(bearer(token)) == Caller("alice")


def test_p256_and_rsa_keys_are_known_too(access: Access, tmp_path: Path) -> None:
    elliptic, modular = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    keys = [
        {**ECAlgorithm.to_jwk(elliptic.public_key(), as_dict=True), "kid": "e"},
        {**RSAAlgorithm.to_jwk(modular.public_key(), as_dict=True), "kid": "r"},
    ]
    write(tmp_path / "jwks.json", {"keys": keys})

    for key, alg, kid in ((elliptic, "ES256", "e"), (modular, "RS256", "r")):
        assert access.identify(bearer(signed(key, alg=alg, headers={"kid": kid}))).principal == "alice"


PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

REFUSED: dict[str, Callable[[], str]] = {
    "expired": lambda: signed(lasting_s=-31),
    "other issuer": lambda: signed(iss="mallory"),
    "other audience": lambda: signed(aud="elsewhere"),
    "several audiences": lambda: signed(aud=["millrace", "elsewhere"]),
    "no expiry": lambda: signed(exp=None),
    "no subject": lambda: signed(sub=None),
    "empty subject": lambda: signed(sub=""),
    "subject with a line break": lambda: signed(sub="alice\nroot"),
    "not yet valid": lambda: signed(nbf=time.time() + 60),
    "made later": lambda: signed(iat=time.time() + 60),
    "expiry that is no time": lambda: signed(exp="soon"),
    "expiry without end": lambda: signed(exp=math.inf),
    "signed by another key": lambda: signed(OTHER),
    "unknown key id": lambda: signed(OTHER, headers={"kid": "k9"}),
    "no key id": lambda: signed(headers={}),
    "alg none": lambda: signed(None, alg="none"),
    "HS256 with the public key": lambda: signed(PUBLIC_PEM, alg="HS256"),
    "unknown crit": lambda: signed(headers={"kid": "k1", "crit": ["exp2"], "exp2": 1}),
    "no token at all": lambda: "x",
    "three dots": lambda: "..",
    "long": lambda: signed(pad="x" * 9000),
    "altered": lambda: signed()[:-4] + "AAAA",
}


@pytest.mark.parametrize("case", REFUSED)
def test_any_other_token_is_refused_without_a_word_why(access: Access, case: str) -> None:
    with pytest.raises(Denied, match=r"^the token is not valid$") as denied:
        access.identify(bearer(REFUSED[case]()))

    assert not denied.value.authenticated


def test_a_token_is_good_by_the_clock_that_is_given_whatever_the_process_believes(tmp_path: Path) -> None:
    write(tmp_path / "jwks.json", {"keys": [jwk(KEY, "k1")]})
    write(tmp_path / "grants.json", {})
    clock = DatabaseClock()
    access = Access(tmp_path / "jwks.json", tmp_path / "grants.json", clock=clock.time)
    now = time.time()
    token = signed(iat=now, exp=now + 60)

    for hours, good in ((0, True), (1, False), (0, True)):
        clock.saw(datetime.fromtimestamp(now, UTC) + timedelta(hours=hours), time.monotonic())
        with nullcontext() if good else pytest.raises(Denied):
            access.identify(bearer(token))
    clock.saw(datetime.fromtimestamp(now, UTC) - timedelta(hours=1), time.monotonic())
    with pytest.raises(Denied):
        access.identify(bearer(signed(iat=now, nbf=now)))


def test_without_a_bearer_token_nobody_is_known(access: Access) -> None:
    for metadata in ({}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer "}):
        with pytest.raises(Denied) as denied:
            access.identify(metadata)
        assert not denied.value.authenticated


def test_a_withdrawn_key_ends_tokens_that_were_already_seen(access: Access, tmp_path: Path) -> None:
    token = signed()
    access.identify(bearer(token))

    write(tmp_path / "jwks.json", {"keys": [jwk(OTHER, "k2")]})

    with pytest.raises(Denied):
        access.identify(bearer(token))
    assert access.identify(bearer(signed(OTHER, headers={"kid": "k2"}))).principal == "alice"


ALLOWED = [
    ("alice", "demo", Action.EDIT, True),
    ("alice", "demo", Action.MANAGE, False),
    ("alice", "other", Action.READ, False),
    ("alice", "", Action.READ, False),
    ("root", "any", Action.MANAGE, True),
    ("root", "", Action.MANAGE, True),
    ("root", "locked", Action.EDIT, False),
    ("nobody", "demo", Action.READ, False),
]


@pytest.mark.parametrize(("principal", "namespace", "action", "allowed"), ALLOWED)
def test_a_role_holds_in_its_namespace_only(
    access: Access, principal: str, namespace: str, action: Action, allowed: object
) -> None:
    assert access.allows(Caller(principal), namespace, action) is allowed


def test_a_service_and_the_principal_it_names_must_both_be_allowed(access: Access) -> None:
    token = signed(sub="service:training")
    who = access.identify(bearer(token, x_millrace_principal="alice", x_priority="batch"))

    assert who == Caller("alice", "service:training", priority="batch")
    access.require(who, "demo", Action.READ)
    with pytest.raises(Denied, match="alice may not EDIT in namespace demo"):
        access.require(who, "demo", Action.EDIT)
    with pytest.raises(Denied):
        access.require(who, "other", Action.READ)


def test_only_a_service_may_name_somebody_else(access: Access) -> None:
    with pytest.raises(Denied, match="only a service"):
        access.identify(bearer(signed(), x_millrace_principal="root"))
    with pytest.raises(Denied, match="only a service"):
        access.identify(bearer(signed(sub="service:training"), x_millrace_principal="a\nb"))


def test_grants_are_read_again_when_they_change(access: Access, tmp_path: Path) -> None:
    write(tmp_path / "grants.json", {"alice": {"other": "READ"}})

    assert access.allows(Caller("alice"), "other", Action.READ)
    assert not access.allows(Caller("alice"), "demo", Action.READ)


BROKEN = ["{", "[]", '{"alice": "EDIT"}', '{"alice": {"demo": "OWNER"}}', '{"alice": {"demo": 3}}']


@pytest.mark.parametrize("broken", BROKEN)
def test_unreadable_grants_deny_everybody(access: Access, tmp_path: Path, broken: str) -> None:
    (tmp_path / "grants.json").write_text(broken)

    assert not access.allows(Caller("root"), "demo", Action.READ)
    with pytest.raises(Unavailable, match=r"grants\.json"):
        access.check()


@pytest.mark.parametrize(
    "document",
    [
        {"keys": [{"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}]},
        {"keys": [OKPAlgorithm.to_jwk(KEY, as_dict=True) | {"kid": "k1"}]},
        {"keys": [jwk(KEY, "k1"), jwk(OTHER, "k1")]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": "AA"}]},
        {"keys": "none"},
        {"keys": [RSAAlgorithm.to_jwk(WEAK.public_key(), as_dict=True) | {"kid": "k1"}]},
    ],
)
def test_unusable_keys_deny_everybody(access: Access, tmp_path: Path, document: object) -> None:
    write(tmp_path / "jwks.json", document)

    with pytest.raises(Denied):
        access.identify(bearer(signed()))
    with pytest.raises(Unavailable, match=r"jwks\.json"):
        access.check()


def test_a_missing_file_denies_everybody(access: Access, tmp_path: Path) -> None:
    token = signed()
    access.identify(bearer(token))
    (tmp_path / "jwks.json").unlink()

    with pytest.raises(Denied):
        access.identify(bearer(token))


def test_the_only_granted_namespace_is_known(access: Access) -> None:
    assert [access.only_namespace(Caller(who)) for who in ("alice", "two", "nobody")] == ["demo", "", ""]
