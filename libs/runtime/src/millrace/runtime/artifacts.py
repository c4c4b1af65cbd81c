"""Artifacts: large values that services hand to one another by the SHA-256 of their bytes."""

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from millrace.runtime.errors import Conflict, InvalidInput, NotFound, Unavailable
from millrace.runtime.failpoints import blocking_failpoint
from millrace.runtime.shelves import Shelves
from obstore.exceptions import BaseError
from obstore.store import from_url

MAX_BYTES = 4 * 1024**3
"""The largest artifact that is stored or copied."""

MAX_MEMORY_BYTES = 512 * 1024**2
"""The largest artifact that is held in memory as a whole."""

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK_BYTES = 1024 * 1024

_Mark = tuple[int, int, int]


class Artifacts:
    """The store of artifacts, one object per distinct bytes at `sha256/<digest>`.

    Its methods block: on an event loop, call them through `asyncio.to_thread`. It can be pickled into a child process.

    Args:
        url: Such as `file:///var/lib/millrace/artifacts` or `s3://bucket/prefix`.
        cache: Folder for verified copies of what is not on this machine; made when first needed.
        max_bytes: The largest artifact that is stored or copied.
        owner: The service whose housekeeping removes what it put and refers to nowhere; of nobody's, nothing is.
    """

    def __init__(self, url: str, cache: Path | None = None, *, max_bytes: int = MAX_BYTES, owner: str = "") -> None:
        self.url = url
        self.max_bytes = max_bytes
        self.owner = owner
        self._cache = cache
        self._root = _local_root(url)
        self._verified: dict[Path, _Mark] = {}
        self._opened: Any = None

    def __getstate__(self) -> tuple[str, Path | None, int, str]:
        return self.url, self._cache, self.max_bytes, self.owner

    def __setstate__(self, state: tuple[str, Path | None, int, str]) -> None:
        url, cache, max_bytes, owner = state
        Artifacts.__init__(self, url, cache, max_bytes=max_bytes, owner=owner)

    @property
    def shelves(self) -> Shelves:
        """What housekeeping sees of the store."""
        return Shelves(self._root, self._store)

    def put_bytes(self, content: bytes) -> str:
        """Store some bytes and return their digest."""
        digest = hashlib.sha256(content).hexdigest()
        self._bound(len(content), "the artifact")
        with _failures(f"artifact {digest} could not be stored"):
            self._note(digest)
            if self._root:
                with _scratch(self._root) as (scratch, file):
                    file.write(content)
                    self._settle(scratch, file, digest)
            else:
                self._store().put(_name(digest), content)
        return digest

    def put_file(self, path: Path) -> str:
        """Store a file's bytes as they are now and return their digest."""
        with _failures(f"{path.name} could not be stored as an artifact"), path.open("rb") as source:
            self._bound(os.fstat(source.fileno()).st_size, path.name)
            with _scratch(self._root or self._cache_folder()) as (scratch, file):
                digest = self._copy(iter(lambda: source.read(_CHUNK_BYTES), b""), file, path.name)
                self._note(digest)
                self._settle(scratch, file, digest)
                if not self._root:
                    self._store().put(_name(digest), self._place(digest))
        return digest

    def get_bytes(self, digest: str, *, max_bytes: int = MAX_MEMORY_BYTES) -> bytes:
        """Return an artifact's bytes, verified.

        Raises:
            InvalidInput: The digest is not one, or the artifact has more than `max_bytes`.
            NotFound: There is no such artifact.
            Conflict: Other bytes are stored under its name.
            Unavailable: The store does not answer.
        """
        content = bytearray()
        with _failures(f"artifact {digest} cannot be read"):
            for chunk in self._read(digest):
                content += chunk
                if len(content) > max_bytes:
                    raise InvalidInput(f"artifact {digest} has more than {max_bytes} bytes: read it as a file")
        _verify(digest, hashlib.sha256(content).hexdigest())
        return bytes(content)

    def path_of(self, digest: str) -> Path:
        """Return a verified file that holds an artifact; it is not to be changed.

        Raises:
            InvalidInput: The digest is not one, or the artifact is larger than the store allows.
            NotFound: There is no such artifact.
            Conflict: Other bytes are stored under its name.
            Unavailable: The store does not answer.
        """
        path = self._place(digest)
        with _failures(f"artifact {digest} cannot be read"):
            if self._root:
                _verify(digest, self._digest_of(path))
            elif not path.exists() or self._digest_of(path) != digest:
                self._fetch(digest)
        return path

    def exists(self, digest: str) -> bool:
        """Return whether there is an artifact of that name, without reading it."""
        name = _name(digest)
        with _failures(f"artifact {digest} cannot be looked up"):
            if self._root:
                return (self._root / name).is_file()
            try:
                self._store().head(name)
            except FileNotFoundError:
                return False
            return True

    def _note(self, digest: str) -> None:
        """Say who puts it before it is there: housekeeping takes away only what nobody has said of."""
        if self.owner:
            self.shelves.note(digest, self.owner)
            blocking_failpoint("artifacts.noted")

    def _digest_of(self, path: Path) -> str:
        """Return the digest of a file's bytes, read again only when the file has changed."""
        mark = _mark(path)
        if self._verified.get(path) != mark:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != path.name:
                return found
            self._verified[path] = mark
        return path.name

    def _fetch(self, digest: str) -> None:
        with _scratch(self._cache_folder()) as (scratch, file):
            found = self._copy(self._read(digest), file, f"artifact {digest}")
            _verify(digest, found)
            self._settle(scratch, file, digest)

    def _read(self, digest: str) -> Iterator[bytes]:
        name = _name(digest)
        if self._root:
            with (self._root / name).open("rb") as file:
                yield from iter(lambda: file.read(_CHUNK_BYTES), b"")
        else:
            for chunk in self._store().get(name).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    def _copy(self, chunks: Iterator[bytes], file: BinaryIO, what: str) -> str:
        digest, size = hashlib.sha256(), 0
        for chunk in chunks:
            size += len(chunk)
            self._bound(size, what)
            digest.update(chunk)
            file.write(chunk)
        return digest.hexdigest()

    def _settle(self, scratch: Path, file: BinaryIO, digest: str) -> None:
        """Make the scratch file the artifact: durable first, then visible, so that a name never holds half of it."""
        file.flush()
        os.fchmod(file.fileno(), stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        os.fsync(file.fileno())
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        blocking_failpoint("artifacts.before_rename")
        scratch.rename(place)
        blocking_failpoint("artifacts.after_rename")
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._verified[place] = _mark(place)

    def _place(self, digest: str) -> Path:
        return (self._root or self._cache_folder()) / _name(digest)

    def _cache_folder(self) -> Path:
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="millrace-artifacts-"))
        return self._cache

    def _store(self) -> Any:  # noqa: ANN401 - obstore's stores share methods, not a class
        if self._opened is None:
            self._opened = from_url(self.url)
        return self._opened

    def _bound(self, size_bytes: int, what: str) -> None:
        if size_bytes > self.max_bytes:
            raise InvalidInput(f"{what} has more than {self.max_bytes} bytes, the most an artifact may have")


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 in lower-case hex."""
    return _DIGEST.fullmatch(text) is not None


def _name(digest: str) -> str:
    """Return the object's name; checked where it becomes a path, so that no text can lead elsewhere."""
    if not is_digest(digest):
        raise InvalidInput(f"{digest[:80]!r} is not an artifact's digest: 64 lower-case hex digits")
    return f"sha256/{digest}"


def _verify(digest: str, found: str) -> None:
    if found != digest:
        raise Conflict(f"artifact {digest} is damaged: its bytes have the digest {found}; store it again")


def _local_root(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    root = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not root.is_absolute():
        raise InvalidInput(f"{url} is no artifact store: a file URL has three slashes and an absolute path")
    return root


def _mark(path: Path) -> _Mark:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _scratch(root: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield a new file in the folder of unfinished ones; it is gone afterwards unless it was renamed."""
    folder = root / "unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """Raise what went wrong in the store as one of our errors, without its internal text."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"{what}: it does not exist") from None
    except OSError as error:
        raise Unavailable(f"{what}: {error.strerror or 'the store failed'}") from error
    except BaseError as error:
        raise Unavailable(f"{what}: the store failed") from error
