"""DuckDB with bounded memory and time that reaches one folder and nothing else."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from millrace.runtime.errors import InvalidInput, Unavailable

NO_ROOM = os.strerror(errno.ENOSPC)
EXTENSIONS = ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions")


@dataclass(frozen=True)
class Bounds:
    """What a statement may cost.

    Attributes:
        memory_bytes: Memory of the engine; what exceeds it spills into the folder, where one is given.
        time_s: Wall time, seconds.
    """

    memory_bytes: int = 1024**3
    time_s: float = 600.0


@contextmanager
def sandbox(bounds: Bounds, folder: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that reads and writes in `folder` alone, installs nothing and has no network.

    One thread: rows come out in the order they went in, and the same rows make the same bytes.

    Raises:
        InvalidInput: A statement in it failed, or cost more than its bounds.
        Unavailable: The disk is full.
    """
    config: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "memory_limit": f"{bounds.memory_bytes}B"}
    connection = duckdb.connect(":memory:", config=config | dict.fromkeys(EXTENSIONS, False))
    alarm = threading.Timer(bounds.time_s, connection.interrupt)
    alarm.daemon = True
    try:
        connection.execute("SET TimeZone = 'UTC'")
        if folder:
            connection.execute(f"SET allowed_directories = [{text_literal(str(folder))}]")
            connection.execute(f"SET temp_directory = {text_literal(str(folder / 'spill'))}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        alarm.start()
        yield connection
    except duckdb.InterruptException:
        raise InvalidInput(f"it takes longer than {bounds.time_s:g} s, the most a scan may take") from None
    except duckdb.OutOfMemoryException:
        most = bounds.memory_bytes
        raise InvalidInput(f"it takes more than {most} bytes of memory, the most a scan may take") from None
    except duckdb.IOException as error:
        # A full disk is nobody's input: there is room again later.
        failure = Unavailable if NO_ROOM in str(error) else InvalidInput
        raise failure(_first_line(error)) from None
    except duckdb.Error as error:
        raise InvalidInput(_first_line(error)) from None
    finally:
        alarm.cancel()
        connection.close()


def identifier(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """Return a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]
