"""Runs SQL that somebody declared on some tables, and on nothing else."""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
from millrace.runtime.errors import InvalidInput, Unavailable

LANDED_AT = "_landed_at"
ALL = "__all"


@dataclass(frozen=True)
class Bounds:
    """What one sandbox may take.

    Attributes:
        memory_bytes: What DuckDB may hold in memory; more goes to a scratch folder of as much again.
        time_s: Wall time of all its statements together, seconds.
        threads: One gives the same bytes every time.
    """

    memory_bytes: int = 1024**3
    time_s: float = 120.0
    threads: int = 1


@dataclass(frozen=True)
class Part:
    """The files of one dataset version.

    Attributes:
        good: Parquet with the rows that satisfy the contract.
        quarantined: Parquet with those that do not, if there are any.
        landed_at: When the version's bytes came to be known.
    """

    good: Path
    quarantined: Path | None
    landed_at: datetime


Table: TypeAlias = pa.Table | Sequence[Part]
"""Rows of a source: in memory, or the files of its versions."""


class Sandbox:
    """A locked DuckDB: no file but the given ones, no network, no extension, no setting that could be changed.

    Raises:
        InvalidInput: From `rows` and `run`: the statement fails, or asks for more memory or time than it may have.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, bounds: Bounds) -> None:
        self._connection = connection
        self._bounds = bounds
        self._until = time.monotonic() + bounds.time_s

    def add(self, name: str, rows: pa.Table) -> None:
        """Lend a table from memory."""
        self._connection.register(name, rows)

    def rows(self, sql: str) -> pa.Table:
        """Return what a SELECT gives."""
        with self._bounded():
            return self._connection.sql(sql).to_arrow_table()

    def run(self, sql: str) -> None:
        """Run a statement for its effect on the sandbox."""
        with self._bounded():
            self._connection.execute(sql)

    def columns(self, name: str) -> dict[str, str]:
        """Return a table's columns and their types, as DuckDB writes them."""
        with self._bounded():
            found = self._connection.execute(f"DESCRIBE {quoted(name)}").fetchall()
        return {str(row[0]): str(row[1]) for row in found}

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        timer = threading.Timer(max(0.0, self._until - time.monotonic()), self._connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        except duckdb.InterruptException:
            raise InvalidInput(f"SQL takes longer than {self._bounds.time_s:g} s") from None
        except duckdb.OutOfMemoryException:
            raise InvalidInput(f"SQL needs more than {self._bounds.memory_bytes} bytes of memory") from None
        except duckdb.IOException as error:
            raise Unavailable(f"rows cannot be read: {_first_line(error)}") from error
        except duckdb.Error as error:
            raise InvalidInput(f"SQL fails: {_first_line(error)}") from None
        finally:
            timer.cancel()


@contextmanager
def sandbox(tables: Mapping[str, Table], bounds: Bounds) -> Iterator[Sandbox]:
    """Open a sandbox with some sources.

    Args:
        tables: By name; from files, `<name>` has the good rows and `<name>__all` the quarantined ones too, as far as
            their values fit the good rows' columns, both with `_landed_at`.
        bounds: What it may take.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-feature-") as scratch, duckdb.connect(":memory:") as connection:
        box = Sandbox(connection, bounds)
        files = [path for table in tables.values() for path in _files(table)]
        for statement in _settings(bounds, scratch, files):
            connection.execute(statement)
        for name, table in tables.items():
            if isinstance(table, pa.Table):
                _lend(box, name, table, tables)
            else:
                _open(box, name, table)
        connection.execute("SET lock_configuration = true")
        yield box


def quoted(name: str) -> str:
    """Return a name as SQL writes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"


def _settings(bounds: Bounds, scratch: str, files: Sequence[Path]) -> list[str]:
    allowed = ", ".join(literal(str(path)) for path in files)
    return [
        "SET TimeZone = 'UTC'",
        f"SET threads = {bounds.threads}",
        f"SET memory_limit = '{bounds.memory_bytes}B'",
        f"SET temp_directory = {literal(scratch)}",
        f"SET max_temp_directory_size = '{bounds.memory_bytes}B'",
        "SET autoinstall_known_extensions = false",
        "SET autoload_known_extensions = false",
        "SET allow_community_extensions = false",
        "SET python_enable_replacements = false",
        f"SET allowed_paths = [{allowed}]",
        "SET enable_external_access = false",
    ]


def _files(table: Table) -> list[Path]:
    if isinstance(table, pa.Table):
        return []
    return [path for part in table for path in (part.good, part.quarantined) if path is not None]


def _lend(box: Sandbox, name: str, table: pa.Table, tables: Mapping[str, Table]) -> None:
    if LANDED_AT not in table.column_names:
        table = table.append_column(LANDED_AT, pa.nulls(table.num_rows, pa.timestamp("us", tz="UTC")))
    box.add(name, table)
    if not name.endswith(ALL) and name + ALL not in tables:
        box.add(name + ALL, table)


def _open(box: Sandbox, name: str, parts: Sequence[Part]) -> None:
    good = [f"SELECT *, {_landed(part)} FROM read_parquet({literal(str(part.good))})" for part in parts]
    box.run(f"CREATE VIEW {quoted(name)} AS {' UNION ALL BY NAME '.join(good)}")
    columns = box.columns(name)
    aside = [_quarantined(box, part, columns) for part in parts if part.quarantined is not None]
    box.run(f"CREATE VIEW {quoted(name + ALL)} AS {' UNION ALL BY NAME '.join(good + aside)}")


def _quarantined(box: Sandbox, part: Part, columns: Mapping[str, str]) -> str:
    """Return the SELECT of a version's quarantined rows in the shape of the good ones: what does not fit is NULL."""
    source = f"read_parquet({literal(str(part.quarantined))})"
    described = box.rows(f"SELECT * FROM {source} LIMIT 0").column_names
    fitted = [
        f"TRY_CAST({quoted(name) if name in described else 'NULL'} AS {kind}) AS {quoted(name)}"
        for name, kind in columns.items()
        if name != LANDED_AT
    ]
    return f"SELECT {', '.join(fitted)}, {_landed(part)} FROM {source}"


def _landed(part: Part) -> str:
    return f"TIMESTAMPTZ {literal(part.landed_at.isoformat())} AS {LANDED_AT}"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
