"""A file that may change while the process runs: keys, grants, a token."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from millrace.runtime.errors import Unavailable

T = TypeVar("T")

MAX_BYTES = 4 * 1024 * 1024


class ReloadedFile(Generic[T]):
    """What a file says now: read again as soon as the file is another one.

    Args:
        path: The file; whoever changes it renames a finished one over it.
        parse: Makes a value of its bytes; raises ValueError where they are none.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path
        self._parse = parse
        self._mark: tuple[int, int, int] | None = None
        self._value: T | None = None

    def value(self) -> T:
        """Return the value.

        Raises:
            Unavailable: The file cannot be read, or says nothing that makes sense.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116 - on the path of every call: a third of the cost of Path.stat
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            if mark == self._mark and self._value is not None:
                return self._value
            if found.st_size > MAX_BYTES:
                raise Unavailable(f"{self.path} has more than {MAX_BYTES} bytes")
            self._value = self._parse(self.path.read_bytes())
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise Unavailable(f"{self.path} cannot be used: {error}") from None
        self._mark = mark
        return self._value
