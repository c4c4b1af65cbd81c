"""A data contract of the Open Data Contract Standard 3.x, read into what is enforced."""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from millrace.data.domain import Column, ColumnType, Contract, Rule, canonical_sha256, repeated
from millrace.data.engine.expressions import Expressions
from millrace.data.engine.rules import column_rules, row_rules
from millrace.data.engine.sandbox import Bounds, sandbox
from millrace.data.engine.scan import judged_sql, no_rows_sql
from millrace.runtime.command import faults
from millrace.runtime.errors import InvalidInput
from open_data_contract_standard.model import OpenDataContractStandard, SchemaObject, SchemaProperty
from pydantic import ValidationError

BOUNDS = Bounds(memory_bytes=256 * 1024**2, time_s=5.0)
MAX_COLUMNS = 1000
MAX_YAML_DEPTH = 50
NULL_STRINGS = "nullStrings"
"""The custom property of a table that lists the texts which stand for a missing value."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}", re.ASCII)


def read_contract(odcs_yaml: str) -> Contract:
    """Return the contract that a document describes.

    The document has one table (`schema`). Its columns' `logicalType`, `logicalTypeOptions`, `required`, `unique`,
    `primaryKey`, `enum` and `quality` rules hold for every row; a column with `transformLogic` is derived from others.

    Raises:
        InvalidInput: It is no such document, or demands what cannot be enforced; the message says where.
    """
    document = _document(odcs_yaml)
    if document.kind != "DataContract" or not (document.apiVersion or "").startswith("v3."):
        raise InvalidInput("a contract has kind DataContract and an apiVersion of v3")
    if not document.name or not _NAME.fullmatch(document.name):
        raise InvalidInput(f"a contract's name is lower-case letters, digits and _, not {document.name!r}")
    if len(document.schema_ or ()) != 1:
        raise InvalidInput(f"contract {document.name} describes {len(document.schema_ or ())} tables: one is enforced")
    canonical = document.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        return _contract(document.name, canonical_sha256(canonical), (document.schema_ or [])[0])
    except InvalidInput as error:
        raise InvalidInput(f"contract {document.name}: {error}") from None


class _Loader(yaml.SafeLoader):
    """YAML of bounded depth and without aliases: an alias in an alias is a small text and a huge document."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed; write the value out")
        if self.depth == MAX_YAML_DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {MAX_YAML_DEPTH}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _document(odcs_yaml: str) -> OpenDataContractStandard:
    try:
        fields = yaml.load(odcs_yaml, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
        if not isinstance(fields, dict):
            raise InvalidInput("a contract is a YAML mapping")
        return OpenDataContractStandard(**fields)
    except ValidationError as error:
        raise InvalidInput(f"it is no ODCS document: {faults(error)}") from None
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise InvalidInput(f"it is no YAML document: {str(error).partition(chr(10))[0][:200]}") from None


def _contract(name: str, contract_hash: str, table: SchemaObject) -> Contract:
    properties = table.properties or []
    with sandbox(BOUNDS) as connection:
        if not table.name or not properties:
            raise InvalidInput("its table needs a name and properties")
        _check_names(properties)
        read = Expressions(connection, table.name, [p.name or "" for p in properties if not p.transformLogic])
        columns = tuple(_column(p, read) for p in properties)
        every = Expressions(connection, table.name, [column.name for column in columns])
        rules = (
            *_key_rules(properties),
            *(rule for p, c in zip(properties, columns, strict=True) for rule in column_rules(c, p, every)),
            *row_rules(table.quality or [], every),
        )
        if again := repeated([rule.reason for rule in rules]):
            raise InvalidInput(f"two rules have the name {again[0]}")
        contract = Contract(name, contract_hash, columns, tuple(rules), _null_strings(table))
        connection.execute(f"EXPLAIN {judged_sql(contract, no_rows_sql(contract))}")
    return contract


def _check_names(properties: list[SchemaProperty]) -> None:
    names = [p.name or "" for p in properties]
    if bad := [name for name in names if not _COLUMN.fullmatch(name)]:
        raise InvalidInput(f"a column's name is letters, digits and _, beginning with a letter, not {bad[0]!r}")
    headers = [p.physicalName or p.name or "" for p in properties]
    if again := repeated([name.lower() for name in names]) or repeated(headers):
        raise InvalidInput(f"column {again[0]} stands there twice")
    if len(names) > MAX_COLUMNS:
        raise InvalidInput(f"it has {len(names)} columns, more than {MAX_COLUMNS}")


def _column(described: SchemaProperty, read: Expressions) -> Column:
    name = described.name or ""
    try:
        kind = ColumnType(described.logicalType or "")
    except ValueError:
        known = ", ".join(ColumnType)
        said = described.logicalType
        raise InvalidInput(f"column {name} has the logicalType {said}, which is none of {known}") from None
    try:
        derivation = read.expression(described.transformLogic) if described.transformLogic else ""
    except InvalidInput as error:
        raise InvalidInput(f"transformLogic of column {name}: {error}") from None
    return Column(name, kind, described.physicalName or name, derivation)


def _key_rules(properties: list[SchemaProperty]) -> Iterator[Rule]:
    key = sorted((p for p in properties if p.primaryKey), key=lambda p: p.primaryKeyPosition or len(properties))
    if key:
        names = tuple(p.name or "" for p in key)
        yield Rule(f"key {', '.join(names)} is not unique", unique_columns=names)
    for p in properties:
        if p.unique and [p] != key:
            yield Rule(f"{p.name} is not unique", unique_columns=(p.name or "",))


def _null_strings(table: SchemaObject) -> tuple[str, ...]:
    found: list[Any] = [p.value for p in table.customProperties or [] if p.property == NULL_STRINGS]
    if not found:
        return ("",)
    if len(found) > 1 or not isinstance(found[0], list) or not all(isinstance(text, str) for text in found[0]):
        raise InvalidInput(f"the custom property {NULL_STRINGS} is one list of texts")
    return tuple(found[0])
