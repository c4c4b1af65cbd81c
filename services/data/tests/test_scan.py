"""The split: every row is in exactly one part, with the reasons that a plain reading of the contract gives."""

import csv
import hashlib
import io
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.domain import Contract
from millrace.data.engine.quarantine import quarantined_rows
from millrace.data.engine.sandbox import Bounds, sandbox
from millrace.data.engine.scan import Split, split
from millrace.runtime.errors import InvalidInput, Unavailable

HEADER = ["shop", "receipt", "amount", "day", "at", "paid", "note"]
GOOD = ["north", "1", "2.5", "2013-01-02", "2013-01-02T03:04:05Z", "true", "abc"]
SplitFile = Callable[..., Split]


def table(*rows: list[str]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])
    return file.getvalue()


def reasons_of(part: Split) -> list[list[str]]:
    return pq.read_table(part.quarantined, columns=["_reasons"]).column(0).to_pylist() if part.quarantined else []


# The contract of the tests, read as a person would read it.


def integer(text: str) -> int | None:
    found = int(float(text)) if re.fullmatch(r"[+-]?[0-9]+(\.0+)?", text) else None
    return found if found is not None and -(2**63) <= found < 2**63 else None


def number(text: str) -> float | None:
    found = float(text) if re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", text) else None
    return found if found is not None and math.isfinite(found) else None


def day_of(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
    except ValueError:
        return None


def truth(text: str) -> bool | None:
    return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(text.lower())


def judge(rows: list[list[str]]) -> list[set[str]]:
    keys = Counter((row[0], integer(row[1])) for row in rows)
    return [judge_one(row, keys) for row in rows]


def judge_one(row: list[str], keys: Counter[tuple[str, int | None]]) -> set[str]:
    shop, receipt, amount, day, at, paid, note = ("" if text == "NA" else text for text in row)
    value, when, is_paid = number(amount), day_of(day), truth(paid)
    broken = {
        "key shop, receipt is not unique": shop and integer(receipt) is not None and keys[shop, integer(receipt)] > 1,
        "shop is missing": not shop,
        "shop is not one of north, south": shop and shop not in {"north", "south"},
        "receipt is missing": not receipt,
        "receipt is not an integer": receipt and integer(receipt) is None,
        "amount is missing": not amount,
        "amount is not a finite number": amount and value is None,
        "amount is below 0": value is not None and value < 0,
        "amount is not below 100": value is not None and value >= 100,
        "day is not a date": day and when is None,
        "day is below 2013-01-01": when is not None and when < date(2013, 1, 1),
        "at is not a timestamp": at == "noon",
        "paid is not a boolean": paid and is_paid is None,
        "note is longer than 5": len(note) > 5,
        "note does not match ^[a-z]*$": note and not re.search("^[a-z]*$", note),
        "large and unpaid": value is not None and value > 50 and is_paid is False,
    }
    return {reason for reason, applies in broken.items() if applies}


TEXTS = (
    st.sampled_from(["north", "south", "east", "", "NA"]),
    st.sampled_from(["1", "2", "3", "3.0", "1.5", "x", "", "NA", "99999999999999999999", " 1"]),
    st.sampled_from(["0", "2.5", "51", "99.99", "100", "-1", "1e2", "1e999", "nan", ".5", "5.", "", "NA", "1_0"]),
    st.sampled_from(["2013-01-01", "2012-12-31", "2013-02-30", "1/2/2013", "", "NA"]),
    st.sampled_from(["2013-01-02T03:04:05Z", "2013-01-02 03:04:05.123456+02:00", "2013-01-02", "noon", ""]),
    st.sampled_from(["true", "F", "1", "0", "yes", "", "NA"]),
    st.sampled_from(["", "abc", "abcdef", "ABC", "a,b", 'q"q', "two\nlines", "naïve", "NA"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*TEXTS).map(list), max_size=12))
def test_every_row_is_in_exactly_one_part_for_the_reasons_that_a_plain_reading_gives(
    sales: Contract, rows: list[list[str]]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").write_text(table(*rows), newline="")
        part = split(sales, folder / "source", "csv", folder, Bounds())
        good = pq.read_table(part.good).to_pylist()
        set_aside = quarantined_rows(part.quarantined, 100) if part.quarantined else []

    verdicts = judge(rows)
    nulled = [
        {name: text if text not in {"", "NA"} else None for name, text in zip(HEADER, row, strict=True)} for row in rows
    ]
    expected = [row for row, reasons in zip(rows, verdicts, strict=True) if not reasons]
    assert [(row["shop"], row["receipt"], row["amount"]) for row in good] == [
        (row[0], integer(row[1]), number(row[2])) for row in expected
    ]
    assert all(row["cents"] == round(row["amount"] * 100) for row in good)
    assert [(json.loads(row.row_json), set(row.reasons)) for row in set_aside] == [
        (row, reasons) for row, reasons in zip(nulled, verdicts, strict=True) if reasons
    ]
    assert part.good_rows + part.quarantined_rows == len(rows)
    assert part.rows_by_reason == dict(sorted(Counter(reason for reasons in verdicts for reason in reasons).items()))


def test_the_same_bytes_make_the_same_bytes(split_file: SplitFile) -> None:
    content = table(*([shop, str(n), "1", *GOOD[3:]] for n in range(3000) for shop in ("south", "north", "west")))

    first, again = (
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in (part.good, part.quarantined) if path]
        for part in (split_file(content), split_file(content))
    )

    assert first == again
    assert len(first) == 2


def test_types_are_those_of_the_contract_and_instants_are_in_utc(split_file: SplitFile) -> None:
    row = [*GOOD[:4], "2013-01-02T03:04:05.5+02:00", *GOOD[5:]]

    good = pq.read_table(split_file(table(row)).good)

    assert good.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert good.schema.names == [*HEADER, "cents"]
    assert good.to_pylist() == [
        {
            "shop": "north",
            "receipt": 1,
            "amount": 2.5,
            "day": date(2013, 1, 2),
            "paid": True,
            "note": "abc",
            "cents": 250,
        }
        | {"at": datetime(2013, 1, 2, 1, 4, 5, 500000, tzinfo=UTC)}
    ]


def test_lines_that_are_no_rows_are_set_aside_as_they_came(split_file: SplitFile) -> None:
    good = ",".join(GOOD).encode()
    lines = [
        ",".join(HEADER).encode(),
        good,
        b"north,2",
        good.replace(b",1,", b",3,") + b",more",
        b"\xff\xfe" + good[2:],
    ]

    part = split_file(b"\n".join([*lines, b""]))

    assert (part.good_rows, part.quarantined_rows) == (1, 3)
    assert part.rows_by_reason == {
        "cannot be read: invalid encoding": 1,
        "cannot be read: missing columns": 1,
        "cannot be read: too many columns": 1,
    }
    assert (
        json.loads(quarantined_rows(part.quarantined, 1)[0].row_json) == {"_line": "north,2"}
        if part.quarantined
        else False
    )


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ('north,2,1,,,,"never closed\nsouth,2,1,,,,\n', "never closed"),
        ('north,2,1,,,,5" long\nsouth,2,1,,,,\n', "never closed"),
        ('north,2,1,,,,5" long\nsouth,2,1,,,,6" long\n', "do not pair|line ends"),
        ("north,2,1,,,,a\rsouth,2,1,,,,b\n", "."),
        (f"north,2,1,,,,{'x' * 3_000_000}\n", "line 3 has more than"),
    ],
)
def test_a_file_is_refused_rather_than_read_in_part(split_file: SplitFile, tail: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        split_file(table(GOOD) + tail)


def test_a_badly_quoted_line_costs_only_itself(split_file: SplitFile) -> None:
    part = split_file(table(GOOD) + 'north,2,1,,,,"x"y\nsouth,2,1,,,,\n\n')

    assert (part.good_rows, part.rows_by_reason) == (2, {"cannot be read: unquoted value": 1})


def test_a_file_without_rows_is_an_empty_version(split_file: SplitFile) -> None:
    part = split_file(table())

    assert (part.good_rows, part.quarantined_rows, part.quarantined) == (0, 0, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no CSV file"),
        (b"\x00\xff\xfe", "no CSV file"),
        (b"shop,,amount\n", "no CSV file"),
        (b"shop,receipt\n", "no column amount, day, at, paid, note, which contract sales demands"),
        ((",".join([*HEADER, "SHOP"]) + "\n").encode(), "column shop twice"),
    ],
)
def test_a_file_that_has_not_its_contracts_columns_is_refused(
    split_file: SplitFile, content: bytes, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        split_file(content)


def test_columns_may_come_in_any_order_with_others_between(split_file: SplitFile) -> None:
    content = "extra," + ",".join(reversed(HEADER)) + "\n7," + ",".join(reversed(GOOD)) + "\n"

    assert pq.read_table(split_file("\ufeff" + content).good, columns=["shop", "note"]).to_pylist() == [
        {"shop": "north", "note": "abc"}
    ]


def test_a_parquet_file_is_split_as_the_same_csv_file_is(
    split_file: SplitFile, sales: Contract, tmp_path: Path
) -> None:
    rows = [GOOD, [*GOOD[:2], "101", *GOOD[3:]], ["north", "2", "", *GOOD[3:]]]
    columns: dict[str, Any] = {
        "shop": ["north", "north", "north"],
        "receipt": pa.array([1, 1, 2], pa.int32()),
        "amount": [2.5, 101.0, math.nan],
        "day": [date(2013, 1, 2)] * 3,
        "at": pa.array([datetime(2013, 1, 2, 3, 4, 5, tzinfo=UTC)] * 3, pa.timestamp("ms", tz="UTC")),
        "paid": [True] * 3,
        "note": ["abc"] * 3,
    }
    other = tmp_path / "parquet"
    other.mkdir()
    pq.write_table(pa.table(columns), other / "source")

    from_parquet = split(sales, other / "source", "parquet", other, Bounds())
    from_csv = split_file(table(*rows))

    assert pq.read_table(from_parquet.good) == pq.read_table(from_csv.good)
    assert reasons_of(from_parquet) == reasons_of(from_csv)
    assert from_parquet.quarantined_rows == 3


def test_a_file_that_is_no_parquet_file_is_refused(sales: Contract, tmp_path: Path) -> None:
    (tmp_path / "source").write_text(table(GOOD))

    with pytest.raises(InvalidInput):
        split(sales, tmp_path / "source", "parquet", tmp_path, Bounds())


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/millrace-escaped'",
        "ATTACH '/tmp/millrace-escaped.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
        "SET enable_external_access = true",
        "SET threads = 8",
        "SET memory_limit = '99GB'",
    ],
)
def test_nothing_leaves_the_sandbox(tmp_path: Path, statement: str) -> None:
    with pytest.raises(InvalidInput), sandbox(Bounds(), tmp_path) as connection:
        connection.execute(statement)


def test_a_scan_ends_at_its_bounds_of_time_and_memory() -> None:
    with pytest.raises(InvalidInput, match=r"longer than 0.2 s"), sandbox(Bounds(time_s=0.2)) as connection:
        connection.execute("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range % 7 = b.range % 5")
    with pytest.raises(InvalidInput, match="memory"), sandbox(Bounds(memory_bytes=32 * 1024**2)) as connection:
        connection.execute("SELECT list(range) FROM range(100000000)")


def test_a_source_larger_than_memory_spills_into_its_folder(sales: Contract, tmp_path: Path) -> None:
    with (tmp_path / "source").open("w") as file:
        file.write(",".join(HEADER) + "\n")
        file.writelines(f"north,{n},1,,,,{'NA' if n % 3 else 'toolong'}\n" for n in range(400_000))

    part = split(sales, tmp_path / "source", "csv", tmp_path, Bounds(memory_bytes=96 * 1024**2))

    assert part.good_rows + part.quarantined_rows == 400_000
    assert part.rows_by_reason["note is longer than 5"] == part.quarantined_rows
    shutil.rmtree(tmp_path)


def test_a_full_disk_is_no_fault_of_the_input() -> None:
    with pytest.raises(Unavailable, match="No space left"), sandbox(Bounds(), Path("/dev")) as connection:
        connection.execute("COPY (SELECT range FROM range(10000)) TO '/dev/full' (FORMAT csv, USE_TMP_FILE false)")
