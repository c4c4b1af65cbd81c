"""The one scan that splits a file into the rows that satisfy a contract and those that do not, with the reasons."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
from millrace.data.commands import FileFormat
from millrace.data.domain import READ_REASON, Column, ColumnType, Contract, Rule
from millrace.data.engine.sandbox import Bounds, identifier, sandbox, text_literal
from millrace.data.engine.tables import SQL_TYPE, records, source_sql
from millrace.runtime.errors import InvalidInput

ROW, RAW, REASONS = "_row", "_raw", "_reasons"
COPY_OPTIONS = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880"

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?"
SHAPES = {
    ColumnType.INTEGER: r"[+-]?[0-9]+(\.0+)?",
    ColumnType.NUMBER: r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?",
    ColumnType.BOOLEAN: r"(?i)true|false|t|f|1|0",
    ColumnType.DATE: _DATE,
    ColumnType.TIMESTAMP: rf"{_DATE}([ T]{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)?)?",
    ColumnType.TIME: _CLOCK,
}
"""The texts that may stand for a value; an engine's own casts round, and take far more than a contract means."""


@dataclass(frozen=True)
class Split:
    """The two parts of a file; together they have each of its rows once.

    Attributes:
        good: Parquet with the contract's columns, in the file's order.
        quarantined: Parquet with the same columns, as far as they could be read, with `_raw` (the row as it came, JSON)
            and `_reasons`; `None` when there are no such rows.
        rows_by_reason: How many rows each reason set aside.
    """

    good: Path
    quarantined: Path | None
    good_rows: int
    quarantined_rows: int
    rows_by_reason: dict[str, int]


def split(contract: Contract, path: Path, file_format: FileFormat, folder: Path, bounds: Bounds) -> Split:
    """Return a file's rows in two parts, written to `folder`, which holds the file too.

    The same bytes under the same contract give the same bytes.

    Raises:
        InvalidInput: It is no file of the format, a column is missing, or the scan costs more than its bounds.
    """
    good, quarantined = folder / "good.parquet", folder / "quarantined.parquet"
    with sandbox(bounds, folder) as connection:
        source = source_sql(contract, path, file_format, connection)
        connection.execute(f"CREATE TABLE judged AS {judged_sql(contract, source)}")
        if file_format == "csv":
            _add_unreadable(contract, connection)
            _check_count(path, connection)
        columns = ", ".join(identifier(column.name) for column in contract.columns)
        good_rows = _copy(f"SELECT {columns} FROM judged WHERE len({REASONS}) = 0 ORDER BY {ROW}", good, connection)
        bad = f"SELECT {columns}, {RAW}, {REASONS} FROM judged WHERE len({REASONS}) > 0 ORDER BY {ROW}"
        bad_rows = _copy(bad, quarantined, connection)
        each = f"SELECT unnest({REASONS}) AS reason FROM judged"
        reasons = connection.execute(f"SELECT reason, count(*) FROM ({each}) GROUP BY reason")
        return Split(good, quarantined if bad_rows else None, good_rows, bad_rows, dict(sorted(reasons.fetchall())))


def judged_sql(contract: Contract, source: str) -> str:
    """Return the query that gives each row of a source its typed columns and its reasons.

    Args:
        contract: What to judge by.
        source: A query that gives the columns as they were read, each as text under its `raw` name.
    """
    typed = ", ".join(f"{_parsed(column)} AS {identifier(column.name)}" for column in contract.read_columns)
    derived = [column for column in contract.columns if column.derivation]
    derivations = "".join(f", TRY_CAST({c.derivation} AS {SQL_TYPE[c.type]}) AS {identifier(c.name)}" for c in derived)
    judged = (f"CASE WHEN {_violation(rule)} THEN {text_literal(rule.reason)} END" for rule in contract.rules)
    reasons = ", ".join(judged) or "NULL"
    as_read = ", ".join(f"{text_literal(column.header)}, {raw(column)}" for column in contract.read_columns)
    columns = ", ".join(identifier(column.name) for column in contract.columns)
    return f"""
WITH typed AS (SELECT row_number() OVER () AS {ROW}, *, {typed} FROM ({source})),
derived AS (SELECT *{derivations} FROM typed),
flagged AS (SELECT *, list_filter([{reasons}]::VARCHAR[], lambda reason: reason IS NOT NULL) AS {REASONS} FROM derived)
SELECT {ROW}, {columns}, {REASONS},
    CASE WHEN len({REASONS}) > 0 THEN CAST(json_object({as_read}) AS VARCHAR) END AS {RAW}
FROM flagged ORDER BY {ROW}"""


def no_rows_sql(contract: Contract) -> str:
    """Return a source without rows, by which a contract's SQL can be checked."""
    return f"SELECT {', '.join(f'NULL::VARCHAR AS {raw(column)}' for column in contract.read_columns)} WHERE false"


def raw(column: Column) -> str:
    """Return the SQL name of a column's text as it was read."""
    return identifier(f"_raw_{column.name}")


def _parsed(column: Column) -> str:
    if column.type is ColumnType.STRING:
        return raw(column)
    value = f"TRY_CAST({raw(column)} AS {SQL_TYPE[column.type]})"
    if column.type is ColumnType.NUMBER:
        value = f"CASE WHEN isfinite({value}) THEN {value} END"
    return f"CASE WHEN regexp_full_match({raw(column)}, {text_literal(SHAPES[column.type])}) THEN {value} END"


def _violation(rule: Rule) -> str:
    if rule.violation:
        return rule.violation
    names = [identifier(name) for name in rule.unique_columns]
    there = " AND ".join(f"{name} IS NOT NULL" for name in names)
    return f"{there} AND count(*) OVER (PARTITION BY {', '.join(names)}) > 1"


def _add_unreadable(contract: Contract, connection: duckdb.DuckDBPyConnection) -> None:
    """Set the lines aside that are no rows of the table."""
    nothing = ", ".join("NULL" for _ in contract.columns)
    connection.execute(f"""
        INSERT INTO judged
        SELECT (SELECT count(*) FROM judged) + row_number() OVER (ORDER BY line), {nothing},
            list('{READ_REASON}: ' || lower(CAST(error_type AS VARCHAR)) ORDER BY error_type)[1:1],
            CAST(json_object('_line', any_value(csv_line)) AS VARCHAR)
        FROM reject_errors GROUP BY line ORDER BY line""")


def _check_count(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse a file of which the engine read more or less than is there."""
    there, read = records(path), connection.execute("SELECT count(*) FROM judged").fetchall()[0][0]
    if there != read:
        raise InvalidInput(f"it has {there} records, read as {read} rows: its quotes or line ends do not pair")


def _copy(query: str, path: Path, connection: duckdb.DuckDBPyConnection) -> int:
    rows = connection.execute(f"COPY ({query}) TO {text_literal(str(path))} ({COPY_OPTIONS})").fetchall()
    if len(rows) != 1:
        raise InvalidInput(f"{path.name} could not be written")
    return int(rows[0][0])
