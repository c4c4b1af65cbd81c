"""A training set's file, put together from its parts."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from millrace.runtime.errors import InvalidInput

COMPRESSION = "zstd"


def write_part(rows: pa.Table, path: Path) -> None:
    """Write a part as Parquet; equal rows give equal bytes."""
    pq.write_table(rows.combine_chunks(), path, compression=COMPRESSION, version="2.6")


def read_part(path: Path) -> pa.Table:
    """Return a part's rows."""
    return pq.read_table(path, partitioning=None)


def write_training_set(partitions: Sequence[Sequence[Path]], path: Path) -> int:
    """Write a training set as Parquet and return its rows.

    Args:
        partitions: Per partition in order, the file of its moments and those of the views' values, of as many rows.
        path: Where to; one row group per partition.

    Raises:
        InvalidInput: A column of one partition is of another type than in the first.
    """
    rows, writer = 0, None
    try:
        for files in partitions:
            table = _side_by_side([read_part(file) for file in files])
            if writer is None:
                schema = table.schema
                writer = pq.ParquetWriter(path, schema, compression=COMPRESSION, version="2.6")
            writer.write_table(_as(table, schema), row_group_size=max(1, table.num_rows))
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _side_by_side(parts: Sequence[pa.Table]) -> pa.Table:
    table = parts[0]
    for part in parts[1:]:
        for name in part.column_names:
            table = table.append_column(name, part.column(name))
    return table.combine_chunks()


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, ValueError) as error:
        raise InvalidInput(f"the spine's partitions do not have the same columns: {error}") from None
