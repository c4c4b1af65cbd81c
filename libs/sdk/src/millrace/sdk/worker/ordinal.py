"""The ordinal of a worker among those of its queue on one machine: what it had is known by it when it comes again."""

import fcntl
import hashlib
import itertools
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from millrace.runtime.errors import Conflict, Unavailable


@contextmanager
def ordinal(queue: str, place: str, wanted: int | None = None) -> Iterator[int]:
    """Hold an ordinal until the block ends, or the process: the first that is free, so mostly the one it had before.

    Args:
        queue: Whose workers.
        place: Where its tasks come from: workers of different places have nothing to do with one another.
        wanted: The one to hold; None for whichever is free.

    Raises:
        Conflict: Another worker on this machine has the one that is wanted.
        Unavailable: There is no folder to keep a lock in.
    """
    name = f"{queue}-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
    for number in itertools.count() if wanted is None else (wanted,):
        if (file := _locked(_folder() / f"{name}-{number}.lock")) is None:
            continue
        try:
            yield number
        finally:
            os.close(file)
        return
    raise Conflict(f"a worker of queue {queue} runs here as instance {wanted}: leave it out, and a free one is taken")


def _folder() -> Path:
    """Return a folder that is this user's alone: whoever else holds a lock would keep the worker from its place."""
    folder = Path(tempfile.gettempdir()) / f"millrace-workers-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat(follow_symlinks=False)
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror}; set TMPDIR to a folder that can be written to") from None
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise Unavailable(f"{folder} belongs to somebody else: set TMPDIR to a folder of your own")
    return folder


def _locked(path: Path) -> int | None:
    """Return a file that is locked until it is closed; None where another has the lock."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        os.close(file)  # it was removed meanwhile: a lock on it keeps nobody away
