"""A small disk of the test's own, in memory, that can be filled."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK_BYTES = 1024 * 1024
_LEAST_BYTES = 512


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """Lend a disk, mounted at a folder; afterwards it is gone with all that is on it."""
    place.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "faults", str(place))
    try:
        yield place
    finally:
        # Lazily: a process that is just ending may still hold a file.
        _run("umount", "--lazy", str(place))


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Take all the room that is left on a disk, to the last byte; give it back at the end."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        size = _CHUNK_BYTES
        while size >= _LEAST_BYTES:
            try:
                file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    try:
        yield
    finally:
        filler.unlink()


def can_mount(folder: Path) -> bool:
    """Whether disks may be mounted here."""
    if os.geteuid() != 0:
        return False
    try:
        with small_disk(folder / "tried", 1):
            return True
    except subprocess.CalledProcessError:
        return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=10)
