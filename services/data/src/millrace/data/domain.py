"""What a contract demands of a row, and what a dataset version is; no I/O."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

READ_REASON = "cannot be read"
"""Reason of a line that is no row of the file's table; what is wrong with it follows."""


class ColumnType(StrEnum):
    """What a column's values are."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    """An instant; one written without an offset is in UTC."""
    TIME = "time"


@dataclass(frozen=True)
class Column:
    """One column of the published table.

    Attributes:
        header: Its name in the file.
        derivation: SQL over the columns that are read, for a column that is not in the file; else empty.
    """

    name: str
    type: ColumnType
    header: str
    derivation: str = ""


@dataclass(frozen=True)
class Rule:
    """One demand on a row.

    Attributes:
        reason: What is said of a row that breaks it; unique in its contract.
        violation: SQL over one row's columns, true where the row breaks it; empty where `unique_columns` says it.
        unique_columns: Columns whose values, where all are there, only one row may have together.
        description: Why it is demanded, in the contract's words.
    """

    reason: str
    violation: str = ""
    unique_columns: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Contract:
    """A dataset's contract, as it is enforced.

    Attributes:
        contract_hash: SHA-256 of the canonical document, hex.
        null_strings: Texts that stand for a missing value in a CSV file.
    """

    name: str
    contract_hash: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    null_strings: tuple[str, ...] = ("",)

    @property
    def read_columns(self) -> tuple[Column, ...]:
        """Return the columns that a file must have."""
        return tuple(column for column in self.columns if not column.derivation)


@dataclass(frozen=True)
class Check:
    """How many rows of a version broke one rule."""

    reason: str
    failed_rows: int
    description: str = ""


@dataclass(frozen=True)
class Version:
    """One immutable ingest of one partition of a dataset."""

    version_id: str
    dataset: str
    partition: str
    contract: str
    contract_hash: str
    source_uri: str
    source_sha256: str
    good_rows: int
    quarantined_rows: int
    good_sha256: str
    quarantined_sha256: str
    checks: tuple[Check, ...]
    landed_at: datetime
    published_at: datetime

    @property
    def rows_by_reason(self) -> dict[str, int]:
        """Return how many rows each reason set aside."""
        return {check.reason: check.failed_rows for check in self.checks if check.failed_rows}


@dataclass(frozen=True)
class Manifest:
    """What makes a version the one it is: equal manifests are one version."""

    dataset: str
    partition: str
    contract_hash: str
    source_sha256: str
    good_sha256: str
    quarantined_sha256: str

    @property
    def version_id(self) -> str:
        """Return the SHA-256 of the canonical manifest, hex."""
        return canonical_sha256(asdict(self))


def canonical_sha256(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON document with its keys sorted and no blanks, hex."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def checks_of(contract: Contract, rows_by_reason: Mapping[str, int]) -> tuple[Check, ...]:
    """Return each rule's count in the contract's order, then what could not be read."""
    ruled = [Check(rule.reason, rows_by_reason.get(rule.reason, 0), rule.description) for rule in contract.rules]
    known = {check.reason for check in ruled}
    unreadable = [Check(reason, rows) for reason, rows in sorted(rows_by_reason.items()) if reason not in known]
    return (*ruled, *unreadable)


def repeated(names: Sequence[str]) -> list[str]:
    """Return the names that stand more than once, each once, in order of first appearance."""
    return [name for place, name in enumerate(names) if names.count(name) > 1 and names.index(name) == place]
