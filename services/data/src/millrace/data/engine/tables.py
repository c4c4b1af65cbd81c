"""Files as tables of text: CSV and Parquet, each column as it was read."""

import codecs
import csv
from pathlib import Path

import duckdb
from millrace.data.commands import FileFormat
from millrace.data.domain import ColumnType, Contract, repeated
from millrace.data.engine.sandbox import identifier, text_literal
from millrace.runtime.errors import InvalidInput

SQL_TYPE = {
    ColumnType.STRING: "VARCHAR",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.NUMBER: "DOUBLE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.DATE: "DATE",
    ColumnType.TIMESTAMP: "TIMESTAMPTZ",
    ColumnType.TIME: "TIME",
}
MAX_HEADER_BYTES = 1024 * 1024
MAX_LINE_BYTES = 2 * 1024 * 1024

_FLOATS = {"FLOAT", "DOUBLE"}
_NESTED = ("STRUCT", "MAP", "UNION", "BLOB", "VARIANT")


def source_sql(contract: Contract, path: Path, file_format: FileFormat, connection: duckdb.DuckDBPyConnection) -> str:
    """Return the query that gives the contract's columns of a file as text, each under the name `_raw_<column>`.

    Raises:
        InvalidInput: It is no file of the format, or a column is missing.
    """
    if file_format == "csv":
        names = header(path)
        _check_columns(contract, names)
        columns = ", ".join(f"{text_literal(name)}: 'VARCHAR'" for name in names)
        nulls = ", ".join(text_literal(text) for text in contract.null_strings)
        table = f"""read_csv({text_literal(str(path))}, auto_detect = false, header = true, columns = {{{columns}}},
            delim = ',', quote = '"', escape = '"', nullstr = [{nulls}], store_rejects = true, rejects_limit = 0,
            parallel = false, max_line_size = {MAX_LINE_BYTES}, buffer_size = {MAX_LINE_BYTES * 4})"""
        texts = {name: identifier(name) for name in names}
    else:
        table = f"read_parquet({text_literal(str(path))})"
        described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
        _check_columns(contract, [row[0] for row in described])
        demanded = {column.header for column in contract.read_columns}
        texts = {row[0]: _as_text(row[0], row[1]) for row in described if row[0] in demanded}
    selected = (f"{texts[column.header]} AS {identifier(f'_raw_{column.name}')}" for column in contract.read_columns)
    return f"SELECT {', '.join(selected)} FROM {table}"


def header(path: Path) -> list[str]:
    """Return the column names in a CSV file's first line.

    Raises:
        InvalidInput: It has none.
    """
    with path.open("rb") as file:
        line = file.readline(MAX_HEADER_BYTES).removeprefix(codecs.BOM_UTF8)
    try:
        names = next(csv.reader([line.decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        names = []
    if not names or not all(names):
        raise InvalidInput("it is no CSV file: its first line does not name the columns, in UTF-8 with commas")
    return names


def records(path: Path) -> int:
    """Return how many records a CSV file has below its first line, counted by its line ends outside of quotes.

    Raises:
        InvalidInput: A line is too long, or a quote is opened and never closed.
    """
    found, line_number, quoted = -1, 0, False
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            line_number += 1
            if len(line) > MAX_LINE_BYTES:
                raise InvalidInput(f"its line {line_number} has more than {MAX_LINE_BYTES} bytes")
            quoted ^= line.count(b'"') % 2 == 1
            found += not quoted and line not in {b"\n", b"\r\n"}
    if quoted:
        raise InvalidInput("it has a quote that is opened and never closed")
    return max(found, 0)


def _check_columns(contract: Contract, names: list[str]) -> None:
    if again := repeated([name.lower() for name in names]):
        raise InvalidInput(f"it has the column {again[0]} twice")
    if missing := [column.header for column in contract.read_columns if column.header not in names]:
        raise InvalidInput(f"it has no column {', '.join(missing)}, which contract {contract.name} demands")


def _as_text(name: str, sql_type: str) -> str:
    """Return a Parquet column as text; a float that is no number stands for a missing one there.

    Raises:
        InvalidInput: Its values are no single ones.
    """
    column = identifier(name)
    if sql_type.startswith(_NESTED) or sql_type.endswith("]"):
        raise InvalidInput(f"its column {name} is of type {sql_type[:80]}: a contract's columns hold single values")
    if sql_type in _FLOATS:
        return f"nullif(CAST({column} AS VARCHAR), 'nan')"
    return f"CAST({column} AS VARCHAR)"
