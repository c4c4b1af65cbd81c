"""Says whether SQL that somebody declared may run at all, from its syntax tree."""

import json
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import duckdb
from millrace.runtime.errors import InvalidInput

MAX_DEPTH = 400

TABLES = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "CTE"})
"""What may stand where a table stands."""

TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})

MACROS = frozenset({
    "nullif", "split_part", "if", "date_add", "days_in_month", "fdiv", "fmod", "geomean", "geometric_mean", "wavg",
    "weighted_avg", "array_to_string", "list_any_value", "list_approx_count_distinct", "list_avg", "list_bool_and",
    "list_bool_or", "list_count", "list_entropy", "list_first", "list_kurtosis", "list_last", "list_mad", "list_max",
    "list_median", "list_min", "list_mode", "list_product", "list_reverse", "list_skewness", "list_stddev_pop",
    "list_stddev_samp", "list_string_agg", "list_sum", "list_var_pop", "list_var_samp",
})  # fmt: skip
"""Functions written in SQL that compute from their arguments alone."""

GROWING = frozenset({
    "range", "generate_series", "repeat", "lpad", "rpad", "list_resize", "array_resize", "format", "printf", "bar",
})  # fmt: skip
"""Functions whose result is as large as a number says: memory that no limit sees."""

ASKING = frozenset({
    "current_date", "current_time", "current_timestamp", "current_localtime", "current_localtimestamp", "localtime",
    "localtimestamp", "current_user", "current_role", "current_catalog", "current_schema", "current_database", "user",
    "session_user", "age",
})  # fmt: skip
"""Names that ask a clock or the session; most are called without parentheses, as if they were columns."""


@lru_cache(maxsize=1000)
def tables_of(sql: str) -> frozenset[str]:
    """Return the tables that one SELECT reads, in lower case.

    Raises:
        InvalidInput: It is not one SELECT, or uses what depends on more than the rows of its tables: a file, the
            network, a clock, chance, a setting, another catalogue.
    """
    tree = _tree(sql)
    found: set[str] = set()
    named: set[str] = set()
    for node, of_table in _nodes(tree):
        _check_node(node, of_table=of_table)
        if node.get("type") == "BASE_TABLE" and "table_name" in node:
            found.add(_plain_table(node))
        for entry in _entries(node.get("cte_map")):
            named.add(str(entry["key"]).lower())
    return frozenset(found - named)


def _tree(sql: str) -> Any:  # noqa: ANN401 - JSON
    if "\0" in sql:
        raise InvalidInput("SQL holds a NUL character")
    with _parser().cursor() as connection:
        rows = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    tree = json.loads(rows[0][0])
    if tree["error"]:
        raise InvalidInput(f"SQL is no SELECT that can be read: {' '.join(str(tree['error_message']).split())[:300]}")
    if len(tree["statements"]) != 1:
        raise InvalidInput(f"SQL holds {len(tree['statements'])} statements; one SELECT is allowed")
    return tree["statements"][0]["node"]


def _nodes(tree: Any) -> Iterator[tuple[dict[str, Any], bool]]:  # noqa: ANN401 - JSON
    """Yield every object of the tree, and whether it is the function of a table function."""
    pending: list[tuple[Any, int, bool]] = [(tree, 0, False)]
    while pending:
        node, depth, of_table = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput(f"SQL is nested deeper than {MAX_DEPTH}")
        if isinstance(node, dict):
            yield node, of_table
            table_function = node.get("type") == "TABLE_FUNCTION"
            pending += [(value, depth + 1, table_function and name == "function") for name, value in node.items()]
        elif isinstance(node, list):
            pending += [(value, depth + 1, False) for value in node]


def _check_node(node: dict[str, Any], *, of_table: bool) -> None:
    kind = node.get("type")
    if ("alias" in node and "sample" in node) and kind not in TABLES:
        raise InvalidInput(f"{kind} may not stand in a view's FROM")
    if node.get("sample"):
        raise InvalidInput("a sample is left to chance: leave TABLESAMPLE out")
    if kind in {"VALUE_PARAMETER", "PARAMETER"} or node.get("class") == "PARAMETER":
        raise InvalidInput("SQL has a parameter; write the value")
    if "function_name" in node:
        _check_function(node, of_table=of_table)
    if kind == "COLUMN_REF" and len(names := node.get("column_names", ())) == 1:
        word = str(names[0]).lower()
        if word in ASKING:
            raise InvalidInput(
                f"{word} asks a clock or the session, which a view may not; name such a column `x.{word}`"
            )


def _check_function(node: dict[str, Any], *, of_table: bool) -> None:
    name = str(node["function_name"]).lower()
    if node.get("catalog") or node.get("schema") not in {None, "", "main"}:
        raise InvalidInput(f"function {name} is called by a catalogue's or schema's name; leave that out")
    if of_table:
        if name not in TABLE_FUNCTIONS:
            raise InvalidInput(f"table function {name} is not allowed; {', '.join(sorted(TABLE_FUNCTIONS))} are")
    elif name not in _functions():
        raise InvalidInput(
            f"function {name} is not allowed: it is unknown, or its result depends on more than its input"
        )


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """Return an empty database that reads syntax; each use takes a cursor of its own."""
    return duckdb.connect(":memory:", config={"threads": 1})


@cache
def _functions() -> frozenset[str]:
    """Return the functions that give the same for the same input and no more memory than it takes."""
    with _parser().cursor() as connection:
        rows = connection.execute(
            "SELECT lower(function_name) FROM duckdb_functions()"
            " WHERE function_type IN ('scalar', 'aggregate', 'window')"
            " GROUP BY 1 HAVING bool_and(stability = 'CONSISTENT')"
        ).fetchall()
    names = {str(name) for (name,) in rows}
    return frozenset(names - GROWING - ASKING | MACROS | {"unnest"})


def _plain_table(node: dict[str, Any]) -> str:
    if node.get("schema_name") or node.get("catalog_name"):
        raise InvalidInput(f"table {node['table_name']} is named with a schema or catalogue; leave that out")
    return str(node["table_name"]).lower()


def _entries(cte_map: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    return list(cte_map.get("map", ())) if isinstance(cte_map, dict) else []
