"""Stored answers: a mutating call has one effect and one answer, however often it is sent."""

import hashlib
from dataclasses import dataclass

from google.protobuf.message import Message
from millrace.runtime.caller import Caller
from millrace.runtime.errors import Conflict, InvalidInput
from millrace.runtime.traceparent import current_trace_id
from millrace.runtime.transaction import Transaction

MAX_REQUEST_ID = 200

# A second call with the same id waits here until the first one's transaction has ended.
CLAIM = """
INSERT INTO request (namespace, principal, method, request_id, body_sha256, response, trace_id)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING true
"""
FIND = """
SELECT body_sha256, response FROM request
WHERE namespace = $1 AND principal = $2 AND method = $3 AND request_id = $4
"""
KEEP = """
UPDATE request SET response = $5 WHERE namespace = $1 AND principal = $2 AND method = $3 AND request_id = $4
"""


@dataclass(frozen=True)
class Key:
    """What makes a mutating call the same one."""

    namespace: str
    principal: str
    method: str
    request_id: str

    def columns(self) -> tuple[str, str, str, str]:
        """Return the key's columns, in order."""
        return self.namespace, self.principal, self.method, self.request_id


def key_of(who: Caller, method: str, request_id: str) -> Key:
    """Return a call's key.

    Raises:
        InvalidInput: The request id is empty, too long or not printable.
    """
    if not 0 < len(request_id) <= MAX_REQUEST_ID or not request_id.isprintable():
        raise InvalidInput(f"request_id must have 1 to {MAX_REQUEST_ID} printable characters, the same when sent again")
    return Key(who.namespace, who.principal, method, request_id)


def digest_of(request: Message) -> str:
    """Return the digest of what is asked, the same for the same fields."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()


async def claim(tx: Transaction, key: Key, body_sha256: str, response: bytes = b"") -> bytes | None:
    """Make the call this transaction's, or return the answer it got before.

    Raises:
        Conflict: It was made before with another body.
    """
    if await tx.fetch(CLAIM, *key.columns(), body_sha256, response, current_trace_id()):
        return None
    return await find(tx, key, body_sha256)


async def find(tx: Transaction, key: Key, body_sha256: str) -> bytes | None:
    """Return the answer the call got before, if any.

    Raises:
        Conflict: It was made before with another body.
    """
    rows = await tx.fetch(FIND, *key.columns())
    if not rows:
        return None
    if rows[0]["body_sha256"] != body_sha256:
        raise Conflict(f"request_id {key.request_id} was used before for another request: take a new one")
    return bytes(rows[0]["response"])


def keep(tx: Transaction, key: Key, response: bytes) -> None:
    """Store the answer of a claimed call."""
    tx.write(KEEP, *key.columns(), response)
