"""Rows that were set aside, read back."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from millrace.data.engine.scan import RAW, REASONS

MAX_BYTES = 2 * 1024 * 1024
"""The most text that is shown at once."""


@dataclass(frozen=True)
class QuarantinedRow:
    """A row as it came, JSON, and why it was set aside."""

    row_json: str
    reasons: tuple[str, ...]


def quarantined_rows(path: Path, limit: int) -> list[QuarantinedRow]:
    """Return the first rows of a version's quarantine, at most `limit`, and fewer where they are huge."""
    found: list[QuarantinedRow] = []
    left_bytes = MAX_BYTES
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=limit, columns=[RAW, REASONS]):
            for row in batch.to_pylist():
                left_bytes -= len(row[RAW].encode())
                if len(found) == limit or left_bytes < 0:
                    return found
                found.append(QuarantinedRow(row[RAW], tuple(row[REASONS])))
    return found
