"""A contract with one rule of each kind, and files that keep or break it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from millrace.data.domain import Contract
from millrace.data.engine.contract import read_contract
from millrace.data.engine.sandbox import Bounds
from millrace.data.engine.scan import Split, split

SALES = """
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.0.0
status: active
schema:
  - name: sales
    customProperties: [{property: nullStrings, value: ["", NA]}]
    properties:
      - name: shop
        logicalType: string
        primaryKey: true
        primaryKeyPosition: 1
        enum: [{value: north}, {value: south}]
      - {name: receipt, logicalType: integer, primaryKey: true, primaryKeyPosition: 2}
      - {name: amount, logicalType: number, required: true, logicalTypeOptions: {minimum: 0, exclusiveMaximum: 100}}
      - {name: day, logicalType: date, logicalTypeOptions: {minimum: "2013-01-01"}}
      - {name: at, logicalType: timestamp}
      - {name: paid, logicalType: boolean}
      - {name: note, logicalType: string, logicalTypeOptions: {maxLength: 5, pattern: "^[a-z]*$"}}
      - {name: cents, logicalType: integer, transformLogic: CAST(round(amount * 100) AS BIGINT)}
    quality:
      - name: large and unpaid
        description: Nobody leaves with more than 50 on the slate.
        type: sql
        query: SELECT COUNT(*) FROM ${table} WHERE amount > 50 AND NOT paid
        mustBe: 0
"""


@pytest.fixture(scope="session")
def sales() -> Contract:
    return read_contract(SALES)


@pytest.fixture
def split_file(tmp_path: Path, sales: Contract) -> Callable[..., Split]:
    """Split some bytes as a file of sales."""

    def split_bytes(content: bytes | str, contract: Contract = sales, bounds: Bounds | None = None) -> Split:
        (tmp_path / "source").write_bytes(content.encode() if isinstance(content, str) else content)
        return split(contract, tmp_path / "source", "csv", tmp_path, bounds or Bounds())

    return split_bytes
