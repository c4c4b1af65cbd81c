"""SQL of a contract, checked to look at one row and nothing else."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
from millrace.runtime.errors import InvalidInput

ROW_RULE = "SELECT COUNT(*) FROM ${table} WHERE <what a bad row fulfils>, with mustBe: 0"

_PLACEHOLDER = re.compile(r"\$?\{(table|object|column|property)\}")
_ROW_MACROS = {"date_add", "days_in_month", "fdiv", "fmod", "if", "nullif", "split_part"}
# A rule is a condition, not a query.
_EMPTY_PARTS = ("modifiers", "group_expressions", "group_sets", "having", "sample", "qualify")


class Expressions:
    """Reads SQL of one contract.

    Args:
        connection: Parses; it is a sandbox's.
        table: The name that stands for `${table}`.
        columns: What the SQL may name.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str]) -> None:
        self._connection = connection
        self._table = table
        self._columns = columns

    def condition(self, query: str, column: str = "") -> str:
        """Return the condition that the rows counted by a rule's query fulfil, as SQL.

        Args:
            query: Of the form `SELECT COUNT(*) FROM ${table} WHERE …`.
            column: What stands for `${column}`, in the rule of one column.

        Raises:
            InvalidInput: It has another form, names what is not there, or could answer otherwise another time.
        """
        names = {"table": self._table, "object": self._table, "column": column, "property": column}
        node = self._select(_PLACEHOLDER.sub(lambda found: names[found[1]], query))
        if not (_is_table(node["from_table"], self._table) and _is_count(node["select_list"]) and node["where_clause"]):
            raise InvalidInput(f"a rule on rows is {ROW_RULE}")
        return self._checked(node["where_clause"])

    def expression(self, text: str) -> str:
        """Return an expression over one row, as SQL.

        Raises:
            InvalidInput: As for `condition`.
        """
        node = self._select(f"SELECT {text}")
        if node["from_table"]["type"] != "EMPTY" or node["where_clause"] or len(node["select_list"]) != 1:
            raise InvalidInput("a derived column is one expression over the columns that are read")
        return self._checked(node["select_list"][0])

    def _select(self, query: str) -> dict[str, Any]:
        try:
            parsed = json.loads(self._one("SELECT json_serialize_sql(?)", query))
        except duckdb.NotImplementedException:
            raise InvalidInput("it is no SELECT") from None
        if parsed["error"]:
            raise InvalidInput(f"it is no SQL: {parsed['error_message']}")
        statements = parsed["statements"]
        node: dict[str, Any] = statements[0]["node"] if len(statements) == 1 else {}
        if node.get("type") != "SELECT_NODE" or node["cte_map"]["map"] or any(node[part] for part in _EMPTY_PARTS):
            raise InvalidInput(f"a rule on rows is {ROW_RULE}")
        return node

    def _checked(self, expression: dict[str, Any]) -> str:
        for part in _parts(expression):
            match part["class"]:
                case "COLUMN_REF":
                    self._check_column(".".join(part["column_names"]))
                case "FUNCTION":
                    self._check_function(part["function_name"])
                case "SUBQUERY" | "WINDOW" | "STAR" | "PARAMETER" | "LAMBDA":
                    raise InvalidInput(f"it has a {part['class'].lower()}: a rule looks at one row")
        frame = json.loads(self._one("SELECT json_serialize_sql(?)", "SELECT 1"))
        frame["statements"][0]["node"]["select_list"] = [expression | {"alias": ""}]
        return self._one("SELECT json_deserialize_sql(?)", json.dumps(frame)).removeprefix("SELECT ")

    def _check_column(self, name: str) -> None:
        if name not in self._columns:
            raise InvalidInput(f"it names {name}, which is none of its columns {', '.join(self._columns)}")

    def _check_function(self, name: str) -> None:
        rows = self._connection.execute(
            "SELECT DISTINCT function_type, stability FROM duckdb_functions() WHERE function_name = ?", [name]
        ).fetchall()
        if not rows:
            raise InvalidInput(f"there is no function {name}")
        if name not in _ROW_MACROS and any(row != ("scalar", "CONSISTENT") for row in rows):
            raise InvalidInput(f"it uses {name}: a rule looks at one row and gives the same verdict each time")

    def _one(self, sql: str, text: str) -> str:
        return str(self._connection.execute(sql, [text]).fetchall()[0][0])


def _is_table(source: dict[str, Any], table: str) -> bool:
    return source["type"] == "BASE_TABLE" and source["table_name"] == table and not source["sample"]


def _is_count(selected: list[dict[str, Any]]) -> bool:
    return len(selected) == 1 and selected[0].get("function_name") == "count_star" and not selected[0]["filter"]


def _parts(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _parts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _parts(value)
