"""One way to a source's bytes, whatever its URI: checked at use, bounded, copied and hashed in one pass."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from millrace.runtime.errors import InvalidInput


@dataclass(frozen=True)
class Limits:
    """What may be fetched.

    Attributes:
        allowed_roots: Folders whose files may be read.
        allowed_hosts: `host:port` that may be asked though their addresses are not public.
        max_bytes: The largest source.
        timeout_s: Wall time of a fetch, seconds.
    """

    allowed_roots: tuple[Path, ...] = ()
    allowed_hosts: frozenset[str] = frozenset()
    max_bytes: int = 4 * 1024**3
    timeout_s: float = 300.0


def parts_of(uri: str) -> SplitResult:
    """Return the parts of a URI that all readers read alike.

    Raises:
        InvalidInput: It has characters that readers disagree about, or a user and password.
    """
    if not uri.isascii() or not uri.isprintable() or any(character in uri for character in ' \\<>"'):
        raise InvalidInput("a URI is ASCII without blanks, quotes and backslashes; others are percent-encoded")
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise InvalidInput("it is no URI: its host or port cannot be read") from None
    if "@" in parts.netloc:
        raise InvalidInput("a URI has no user and no password")
    return parts


def shown(uri: str) -> str:
    """Return a URI without its query, which may hold a secret."""
    return parts_of(uri)._replace(query="", fragment="").geturl()


def store(chunks: Iterable[bytes], path: Path, max_bytes: int) -> str:
    """Write a source's bytes to a file and return their SHA-256, hex.

    Raises:
        InvalidInput: There are more than `max_bytes`.
    """
    digest: Any = hashlib.sha256()
    size_bytes = 0
    with path.open("wb") as file:
        for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise InvalidInput(f"it has more than {max_bytes} bytes, the most that is ingested")
            digest.update(chunk)
            file.write(chunk)
    return str(digest.hexdigest())
