"""Files, as long as they truly are in an allowed folder."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from millrace.data.clients.sources import Limits, parts_of, store
from millrace.runtime.errors import InvalidInput, NotFound, Unavailable

CHUNK_BYTES = 1024 * 1024


def fetch_file(uri: str, path: Path, limits: Limits) -> str:
    """Copy a `file:` URI's bytes to `path` and return their SHA-256, hex.

    Raises:
        InvalidInput: It is not a regular file in an allowed folder, links resolved, or it is too large.
        NotFound: There is no such file, or not yet.
        Unavailable: It cannot be read.
    """
    with _opened(_real_path(uri, limits)) as source:
        return store(iter(lambda: source.read(CHUNK_BYTES), b""), path, limits.max_bytes)


def _real_path(uri: str, limits: Limits) -> Path:
    parts = parts_of(uri)
    try:
        text = unquote(parts.path, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("its path is not percent-encoded UTF-8") from None
    more = parts.query or parts.fragment
    if parts.netloc not in {"", "localhost"} or not text.startswith("/") or more or "\0" in text:
        raise InvalidInput("a file's URI has three slashes and an absolute path, nothing else")
    try:
        real = Path(text).resolve()
        roots = [root.resolve() for root in limits.allowed_roots]
    except (OSError, RuntimeError):
        raise InvalidInput("its path cannot be followed") from None
    if not any(real.is_relative_to(root) for root in roots):
        raise InvalidInput("it is in none of the folders to ingest from: the setting allowed_roots names them")
    return real


@contextmanager
def _opened(real: Path) -> Iterator[BinaryIO]:
    try:
        # Neither a link put there since, nor a pipe that never opens.
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("there is no such file") from None
    except OSError as error:
        raise Unavailable(f"it cannot be opened: {error.strerror}") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise InvalidInput("it is no regular file")
    with os.fdopen(handle, "rb") as file:
        # A folder above may have become a link since the path was resolved.
        if real.resolve() != real or not os.path.samestat(found, real.stat()):
            raise InvalidInput("its path changed while it was opened")
        yield file
