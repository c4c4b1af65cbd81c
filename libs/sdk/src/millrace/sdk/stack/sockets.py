"""Where unix sockets lie: their addresses are short."""

import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

_ADDRESS_BYTES = 107 if sys.platform == "linux" else 103
_LONGEST_NAME = "supervisor.sock.1234567890"


def socket_folder(folder: Path) -> Path:
    """Return where the sockets of `folder` lie: in it, or in a short one of the temporary folder."""
    near = folder.absolute() / "socket"
    if len(os.fsencode(near / _LONGEST_NAME)) <= _ADDRESS_BYTES:
        return near
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}-{digest}"


def remove_socket_folder(folder: Path) -> None:
    """Remove where sockets lay, once nothing is in it."""
    with suppress(OSError):
        folder.rmdir()
