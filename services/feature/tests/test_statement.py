"""What SQL may run in a view, and what a sandbox keeps it from."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from millrace.feature.engine.sandbox import Bounds, sandbox
from millrace.feature.engine.statement import tables_of
from millrace.runtime.errors import InvalidInput, Unavailable

BOUNDS = Bounds(memory_bytes=128 * 1024**2, time_s=1)
ROWS = pa.table({"a": [1, 2]})


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", set()),
        ("FROM flights SELECT count(*)", {"flights"}),
        ("WITH c AS (SELECT a FROM f) SELECT * FROM c ASOF JOIN G ON c.a >= G.a", {"f", "g"}),
        ("SELECT (SELECT max(b) FROM g), exists(SELECT 1 FROM h) FROM f WHERE a IN (SELECT a FROM i)", {*"fghi"}),
        ("SELECT avg(x) OVER w, lag(x) OVER w FROM f WINDOW w AS (PARTITION BY k ORDER BY t)", {"f"}),
        ("SELECT t AT TIME ZONE 'America/New_York', try_cast(a AS INT), a // 2, -a, [y * 2 FOR y IN l] FROM f", {"f"}),
        ("SELECT a FROM f QUALIFY row_number() OVER (PARTITION BY a ORDER BY b) = 1", {"f"}),
        ("WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 5) SELECT * FROM r", set()),
        ("SELECT x FROM f, unnest(f.l) AS u(x), range(3)", {"f"}),
        ("SELECT current_balance, f.user FROM f", {"f"}),
    ],
)
def test_the_tables_of_a_select_are_named(sql: str, tables: set[str]) -> None:
    assert tables_of(sql) == tables


@pytest.mark.parametrize(
    "sql",
    [
        "", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE f", "INSERT INTO f SELECT 1", "CREATE TABLE x AS SELECT 1",
        "UPDATE f SET a = 1", "COPY (SELECT 1) TO 'x.csv'", "COPY f FROM 'x.csv'", "EXPORT DATABASE 'x'",
        "ATTACH 'x.db'", "DETACH memory", "USE memory", "INSTALL httpfs", "LOAD httpfs", "SET threads = 4",
        "RESET memory_limit", "PRAGMA database_list", "CALL pragma_version()", "EXPLAIN SELECT 1", "SHOW TABLES",
        "DESCRIBE SELECT 1", "FROM (SUMMARIZE f)", "PREPARE p AS SELECT 1", "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_blob('x')", "SELECT * FROM read_parquet('x')",
        "SELECT * FROM parquet_metadata('x')", "SELECT * FROM glob('/*')", "SELECT * FROM sniff_csv('x')",
        "SELECT * FROM f, LATERAL read_text(f.a)", "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "WITH c AS (SELECT * FROM read_json('http://x')) SELECT * FROM c", "SELECT * FROM duckdb_settings()",
        "SELECT * FROM query('SELECT 1')", "SELECT * FROM query_table('f')",
        "SELECT * FROM json_execute_serialized_sql('{}')", "SELECT * FROM pragma_table_info('f')",
        "SELECT * FROM information_schema.tables", "SELECT * FROM main.f", "SELECT getenv('HOME')",
        "SELECT getvariable('a')", "SELECT current_setting('threads')",
        "SELECT system.main.current_setting('threads')", "SELECT nextval('s')", "SELECT pg_sleep(1)",
        "SELECT sleep_ms(1000)", "SELECT error('x')", "SELECT write_log('x')", "SELECT now()", "SELECT today()",
        "SELECT current_date", "SELECT current_timestamp", "SELECT localtimestamp", "SELECT age(t) FROM f",
        "SELECT random()", "SELECT uuid()", "SELECT * FROM f TABLESAMPLE 10%", "SELECT * FROM f USING SAMPLE 5 ROWS",
        "SELECT user", "SELECT $1", "SELECT ?", "SELECT range(1000000000)", "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 1000000000, 'y')", "SELECT no_such_function(1)", "SELECT \0",
        "SELECT " + "(" * 1000 + "1" + ")" * 1000, "SELECT 1" + " + 1" * 2000,
    ],
)  # fmt: skip
def test_sql_that_reaches_beyond_its_tables_is_refused(sql: str) -> None:
    with pytest.raises(InvalidInput):
        tables_of(sql)


@pytest.mark.parametrize(
    "name", ["'/etc/passwd'", "'x.csv'", '"https://x/y.parquet"', "sqlite_master", "duckdb_settings"]
)
def test_a_file_or_catalogue_named_as_a_table_is_no_source(name: str) -> None:
    assert tables_of(f"FROM {name} SELECT 1") != {"f"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM '{file}'",
        "COPY f TO '{file}'",
        "ATTACH '{file}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '10GB'",
        "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
    ],
)
def test_even_what_passed_the_check_reaches_nothing(sql: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")

    with sandbox({"f": ROWS}, BOUNDS) as box, pytest.raises((InvalidInput, Unavailable)):
        box.run(sql.format(file=file))

    assert file.read_text() == "a\n1\n"


def test_no_variable_of_the_service_is_a_table() -> None:
    secret: Any = ROWS

    with sandbox({"f": ROWS}, BOUNDS) as box, pytest.raises(InvalidInput, match="secret does not exist"):
        box.rows("SELECT * FROM secret")

    assert secret is ROWS


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(a.range * b.range) FROM range(100000000) a, range(100000) b",
        "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a FROM r) SELECT count(*) FROM r",
    ],
)
def test_a_sandbox_ends_what_takes_too_long(sql: str) -> None:
    tables_of(sql)

    with sandbox({}, BOUNDS) as box, pytest.raises(InvalidInput, match="takes longer than 1 s"):
        box.rows(sql)


def test_a_sandbox_ends_what_takes_too_much_memory() -> None:
    bounds = Bounds(memory_bytes=64 * 1024**2, time_s=60)

    with sandbox({}, bounds) as box, pytest.raises(InvalidInput, match="more than 67108864 bytes"):
        box.rows("SELECT list(range) FROM range(100000000)")
