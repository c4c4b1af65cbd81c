"""The demands of an ODCS document on one column and on one row, as rules."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from typing import Any

from millrace.data.domain import Column, ColumnType, Rule
from millrace.data.engine.expressions import Expressions
from millrace.data.engine.sandbox import identifier, text_literal
from millrace.data.engine.scan import raw
from millrace.runtime.errors import InvalidInput
from open_data_contract_standard.model import DataQuality, SchemaProperty

A_TYPE = {
    ColumnType.INTEGER: "an integer",
    ColumnType.NUMBER: "a finite number",
    ColumnType.BOOLEAN: "a boolean",
    ColumnType.DATE: "a date",
    ColumnType.TIMESTAMP: "a timestamp",
    ColumnType.TIME: "a time",
}
COMPARED = {
    "minimum": ("<", "below"),
    "maximum": (">", "above"),
    "exclusiveMinimum": ("<=", "not above"),
    "exclusiveMaximum": (">=", "not below"),
}
"""Of a bound: what a value that breaks it fulfils, in SQL and in words."""

OPTIONS = {
    ColumnType.STRING: {"minLength", "maxLength", "pattern"},
    ColumnType.INTEGER: {*COMPARED, "multipleOf"},
    ColumnType.NUMBER: {*COMPARED},
    ColumnType.DATE: {*COMPARED},
    ColumnType.TIMESTAMP: {*COMPARED},
    ColumnType.TIME: {*COMPARED},
    ColumnType.BOOLEAN: set[str](),
}
"""The `logicalTypeOptions` that are enforced; others are refused, never ignored."""


def column_rules(column: Column, described: SchemaProperty, expressions: Expressions) -> Iterator[Rule]:
    """Yield what a column's description demands of each row.

    Raises:
        InvalidInput: It demands what cannot be enforced.
    """
    name, given = identifier(column.name), identifier(column.name) if column.derivation else raw(column)
    if described.required or described.primaryKey:
        yield Rule(f"{column.name} is missing", f"{given} IS NULL")
    if column.type in A_TYPE and not column.derivation:
        yield Rule(f"{column.name} is not {A_TYPE[column.type]}", f"{given} IS NOT NULL AND {name} IS NULL")
    for option, value in (described.logicalTypeOptions or {}).items():
        if option not in OPTIONS[column.type]:
            raise InvalidInput(f"column {column.name}: logicalTypeOptions.{option} is not enforced for {column.type}")
        yield _option_rule(column, option, value)
    if described.enum is not None:
        yield _allowed(column, [entry.value for entry in described.enum])
    for quality in described.quality or []:
        yield from _quality_rule(quality, expressions, column)


def row_rules(qualities: Sequence[DataQuality], expressions: Expressions) -> Iterator[Rule]:
    """Yield what a table's `quality` demands of each row.

    Raises:
        InvalidInput: As for `column_rules`.
    """
    for quality in qualities:
        yield from _quality_rule(quality, expressions, None)


def _option_rule(column: Column, option: str, value: Any) -> Rule:  # noqa: ANN401 - YAML's
    name = identifier(column.name)
    match option:
        case "minLength" | "maxLength":
            size, sign = _integer(column, option, value), "<" if option == "minLength" else ">"
            words = "shorter" if sign == "<" else "longer"
            return Rule(f"{column.name} is {words} than {size}", f"length({name}) {sign} {size}")
        case "pattern":
            pattern = text_literal(str(value))
            return Rule(f"{column.name} does not match {value}", f"NOT regexp_matches({name}, {pattern})")
        case "multipleOf":
            size = _integer(column, option, value)
            return Rule(f"{column.name} is no multiple of {size}", f"{name} % {size} <> 0")
        case _:
            sign, words = COMPARED[option]
            return Rule(f"{column.name} is {words} {value}", f"{name} {sign} {_literal(column, value)}")


def _allowed(column: Column, values: Sequence[Any]) -> Rule:
    literals = ", ".join(_literal(column, value) for value in values)
    shown = ", ".join(str(value) for value in values)
    return Rule(f"{column.name} is not one of {shown}"[:300], f"{identifier(column.name)} NOT IN ({literals})")


def _quality_rule(quality: DataQuality, expressions: Expressions, column: Column | None) -> Iterator[Rule]:
    where = quality.name or quality.metric or "a quality rule"
    kind = quality.type or "library"
    if kind == "text":
        return
    if kind not in {"sql", "library"}:
        raise InvalidInput(f"{where}: type {kind} is not enforced; sql, library and text are known")
    if quality.mustBe != 0 or isinstance(quality.mustBe, bool):
        raise InvalidInput(f"{where}: a rule on rows counts the bad ones and says mustBe: 0")
    try:
        rule = _sql_rule(quality, expressions, column) if kind == "sql" else _library_rule(quality, column)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None
    yield Rule(quality.name or rule.reason, rule.violation, rule.unique_columns, quality.description or "")


def _sql_rule(quality: DataQuality, expressions: Expressions, column: Column | None) -> Rule:
    if not quality.name or not quality.query:
        raise InvalidInput("a rule of type sql has a name and a query")
    return Rule(quality.name, expressions.condition(quality.query, column.name if column else ""))


def _library_rule(quality: DataQuality, column: Column | None) -> Rule:
    arguments = quality.arguments or {}
    if column is None:
        if quality.metric == "duplicateValues" and arguments.get("properties"):
            names = tuple(str(name) for name in arguments["properties"])
            return Rule(f"{', '.join(names)} is not unique", unique_columns=names)
        raise InvalidInput("of a table, the metric duplicateValues with arguments.properties is enforced")
    metrics: dict[str, Callable[[], Rule]] = {
        "nullValues": lambda: Rule(f"{column.name} is null", f"{identifier(column.name)} IS NULL"),
        "duplicateValues": lambda: Rule(f"{column.name} is repeated", unique_columns=(column.name,)),
        "invalidValues": lambda: _invalid_values(column, arguments),
    }
    if quality.metric not in metrics:
        raise InvalidInput(f"metric {quality.metric} is not enforced; of a column, {', '.join(metrics)} are")
    return metrics[quality.metric]()


def _invalid_values(column: Column, arguments: dict[str, Any]) -> Rule:
    match arguments:
        case {"validValues": list(values), **others} if values and not others:
            return _allowed(column, values)
        case {"pattern": str(pattern), **others} if column.type is ColumnType.STRING and not others:
            return _option_rule(column, "pattern", pattern)
    raise InvalidInput("metric invalidValues has either arguments.validValues or, of a string, arguments.pattern")


def _integer(column: Column, option: str, value: Any) -> int:  # noqa: ANN401 - YAML's
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"column {column.name}: {option} is a whole number above 0, not {value}")
    return value


def _literal(column: Column, value: Any) -> str:  # noqa: ANN401 - YAML's
    """Return a value as SQL of the column's type has it."""
    try:
        match column.type, value:
            case ColumnType.STRING, str():
                return text_literal(value)
            case ColumnType.BOOLEAN, bool():
                return str(value).upper()
            case ((ColumnType.INTEGER | ColumnType.NUMBER), int() | float()) if not isinstance(value, bool):
                return repr(value)
            case ColumnType.DATE, _:
                return f"DATE '{date.fromisoformat(str(value)).isoformat()}'"
            case ColumnType.TIMESTAMP, _:
                return f"TIMESTAMPTZ '{datetime.fromisoformat(str(value)).isoformat()}'"
            case ColumnType.TIME, _:
                return f"TIME '{time.fromisoformat(str(value)).isoformat()}'"
    except ValueError:
        pass
    raise InvalidInput(f"column {column.name}: {value} is no {column.type}")
