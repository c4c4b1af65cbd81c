"""Where artifacts lie, seen by who keeps house there: who put them, and what is set aside."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millrace.runtime.ids import new_id

NOTES, ASIDE, UNFINISHED, CLOCK = "writes", "aside", "unfinished", "clock"
NEVER_OLD = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Note:
    """That somebody put an artifact, or set one aside.

    Attributes:
        name: The object that it is: its digest, its owner and a UUID.
        at: When it was written, by the store's clock; whoever wrote it may have had a wrong one.
    """

    name: str
    digest: str
    owner: str
    at: datetime = field(default=NEVER_OLD, compare=False)

    @property
    def shelf(self) -> str:
        """Which part of the store it belongs to."""
        return self.digest[:2]


class Shelves:
    """The notes of one store, by the first two digits of their digests.

    Args:
        root: The store's folder, where it is one.
        store: Returns the store itself.
    """

    names = tuple(f"{number:02x}" for number in range(256))

    def __init__(self, root: Path | None, store: Callable[[], Any]) -> None:
        self._root = root
        self._store = store

    def now(self, owner: str) -> datetime:
        """Return what time it is by the store's clock, the one that dates its objects."""
        name, store = f"{CLOCK}/{owner}", self._open()
        store.put(name, b"")
        return store.head(name)["last_modified"]  # type: ignore[no-any-return] # obstore's stores are untyped here

    def note(self, digest: str, owner: str) -> None:
        """Note that somebody is about to put an artifact; the note is durable when this returns."""
        name = f"{NOTES}/{digest[:2]}/{digest}.{owner}.{new_id().hex}"
        if self._root is None:
            self._store().put(name, b"")
            return
        place = self._root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(exist_ok=False)
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def notes(self, shelf: str) -> list[Note]:
        """Return who put the artifacts whose digests begin like this, and when."""
        return list(self._listed(f"{NOTES}/{shelf}"))

    def asides(self) -> list[Note]:
        """Return what is set aside."""
        return list(self._listed(ASIDE))

    def set_aside(self, digest: str) -> Note | None:
        """Move an artifact out of reach, under a name of its own; None when there is none."""
        aside = _read(f"{ASIDE}/{digest}.any.{new_id().hex}")
        try:
            self._touch(_object(digest))
            self._open().rename(_object(digest), aside.name)
        except FileNotFoundError:
            return None
        return aside

    def put_back(self, aside: Note) -> None:
        """Move an artifact to where it was; whoever put the same bytes there meanwhile put the same."""
        with suppress(FileNotFoundError):
            self._open().rename(aside.name, _object(aside.digest))

    def remove(self, name: str) -> None:
        """Remove a note, or what is set aside; it may be gone already."""
        with suppress(FileNotFoundError):
            self._open().delete(name)

    def drop_unfinished(self, before: datetime) -> int:
        """Remove what was begun before a moment and never finished; return how much that was."""
        dropped = 0
        for path in (self._root / UNFINISHED).glob("*") if self._root else ():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()
                    dropped += 1
        return dropped

    def _listed(self, prefix: str) -> Iterator[Note]:
        for page in self._open().list(prefix):
            for found in page:
                yield _read(found["path"], found["last_modified"])

    def _touch(self, name: str) -> None:
        """Date a file anew where a move keeps its date; one of another user goes without."""
        if self._root:
            with suppress(PermissionError):
                os.utime(self._root / name)

    def _open(self) -> Any:  # noqa: ANN401 - obstore's stores share methods, not a class
        if self._root:
            self._root.mkdir(parents=True, exist_ok=True)
        return self._store()


def _object(digest: str) -> str:
    return f"sha256/{digest}"


def _read(name: str, at: datetime = NEVER_OLD) -> Note:
    digest, owner, _ = name.rpartition("/")[2].split(".")
    return Note(name, digest, owner, at)
