"""What a contract may say, and what is refused rather than ignored."""

from typing import Any

import pytest
import yaml
from millrace.data.domain import ColumnType, Contract
from millrace.data.engine.contract import read_contract
from millrace.runtime.errors import InvalidInput

Documents = dict[str, Any]


def document(*properties: Documents, quality: list[Documents] | None = None, **fields: Any) -> str:
    table = {
        "name": "t",
        "properties": list(properties) or [{"name": "a", "logicalType": "integer"}],
        "quality": quality,
    }
    about = {"apiVersion": "v3.0.2", "kind": "DataContract", "id": "t", "name": "t", "version": "1", "status": "active"}
    return yaml.safe_dump(about | {"schema": [table]} | fields)


def rule(query: str, **fields: Any) -> list[Documents]:
    return [{"type": "sql", "name": "r", "query": query, "mustBe": 0} | fields]


def test_the_hash_is_of_what_a_contract_says_and_not_of_how_it_is_laid_out() -> None:
    text = document()

    assert (
        read_contract(text).contract_hash == read_contract("# a comment\n" + text.replace("\n", "\n\n")).contract_hash
    )
    assert read_contract(text).contract_hash != read_contract(document(version="2")).contract_hash


def test_each_demand_becomes_a_rule_with_its_reason(sales: Contract) -> None:
    assert [rule.reason for rule in sales.rules] == [
        "key shop, receipt is not unique",
        "shop is missing",
        "shop is not one of north, south",
        "receipt is missing",
        "receipt is not an integer",
        "amount is missing",
        "amount is not a finite number",
        "amount is below 0",
        "amount is not below 100",
        "day is not a date",
        "day is below 2013-01-01",
        "at is not a timestamp",
        "paid is not a boolean",
        "note is longer than 5",
        "note does not match ^[a-z]*$",
        "large and unpaid",
    ]
    assert sales.columns[-1].name == "cents"
    assert sales.columns[-1].type is ColumnType.INTEGER
    assert sales.null_strings == ("", "NA")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(*) FROM t WHERE a > 1",
        "select count(*) from ${object} where {property} is null",
        "SELECT COUNT(*) FROM ${table} WHERE CASE WHEN a IN (1, 2) THEN nullif(a, 1) ELSE abs(a) % 3 END > 1",
        "SELECT COUNT(*) FROM ${table} WHERE CAST(a AS VARCHAR) LIKE '1%' OR starts_with(a || 'x', '--')",
    ],
)
def test_a_rule_may_be_any_condition_on_one_row(query: str) -> None:
    read_contract(document({"name": "a", "logicalType": "integer", "quality": rule(query)}))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT COUNT(*) FROM t", "WHERE"),
        ("SELECT a FROM t WHERE a = 1", "COUNT"),
        ("SELECT COUNT(DISTINCT a) FROM t WHERE a = 1", "COUNT"),
        ("SELECT COUNT(*) FILTER (a = 2) FROM t WHERE a = 1", "COUNT"),
        ("SELECT COUNT(*) FROM t, other WHERE a = 1", "COUNT"),
        ("SELECT COUNT(*) FROM other WHERE a = 1", "COUNT"),
        ("SELECT COUNT(*) FROM read_csv('/etc/passwd') WHERE a = 1", "COUNT"),
        ("SELECT COUNT(*) FROM t WHERE a = 1 LIMIT 1", "COUNT"),
        ("SELECT COUNT(*) FROM t WHERE a = 1 UNION SELECT 1", "COUNT"),
        ("WITH t AS (SELECT 1 AS a) SELECT COUNT(*) FROM t WHERE a = 1", "COUNT"),
        ("SELECT COUNT(*) FROM t WHERE a = 1; DROP TABLE t", "COUNT|SELECT"),
        ("COPY t TO '/tmp/x'", "SELECT"),
        ("SELECT COUNT(*) FROM t WHERE a = (SELECT 1)", "subquery"),
        ("SELECT COUNT(*) FROM t WHERE EXISTS (FROM read_text('/etc/passwd'))", "subquery"),
        ("SELECT COUNT(*) FROM t WHERE row_number() OVER () = 1", "window"),
        ("SELECT COUNT(*) FROM t WHERE sum(a) = 1", "uses sum"),
        ("SELECT COUNT(*) FROM t WHERE random() < 0.5", "uses random"),
        ("SELECT COUNT(*) FROM t WHERE a < epoch(now())", "uses now"),
        ("SELECT COUNT(*) FROM t WHERE a < current_date", "names current_date"),
        ("SELECT COUNT(*) FROM t WHERE current_setting('threads') = '1'", "uses current_setting"),
        ("SELECT COUNT(*) FROM t WHERE b = 1", "names b, which is none of its columns a"),
        ("SELECT COUNT(*) FROM t WHERE _raw_a = '1'", "names _raw_a"),
        ("SELECT COUNT(*) FROM t WHERE nosuch(a)", "no function nosuch"),
        ("SELECT COUNT(*) FROM t WHERE a =", "no SQL"),
        ("SELECT COUNT(*) FROM t WHERE a + DATE '2013-01-01' = TIME '01:00:00'", "."),
    ],
)
def test_a_rule_that_looks_beyond_one_row_or_could_change_its_verdict_is_refused(query: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_contract(document(quality=rule(query)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "no YAML"),
        ("- a\n", "mapping"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("a: " + "[" * 51 + "]" * 51, "nested deeper than 50"),
        (document(unknown=1), "unknown"),
        (document(kind="Other"), "kind DataContract"),
        (document(apiVersion="v2.2.2"), "v3"),
        (document(name="No Name"), "'No Name'"),
        (document(schema=[]), "describes 0 tables"),
        (document({"name": "_a", "logicalType": "integer"}), "'_a'"),
        (document({"name": "a b", "logicalType": "integer"}), "'a b'"),
        (
            document({"name": "a", "logicalType": "integer"}, {"name": "A", "logicalType": "integer"}),
            "a stands there twice",
        ),
        (document({"name": "a", "logicalType": "object"}), "none of string, integer"),
        (document({"name": "a"}), "logicalType None"),
        (
            document({"name": "a", "logicalType": "string", "logicalTypeOptions": {"format": "email"}}),
            "format is not enforced",
        ),
        (document({"name": "a", "logicalType": "string", "logicalTypeOptions": {"maxLength": "9"}}), "whole number"),
        (document({"name": "a", "logicalType": "string", "logicalTypeOptions": {"pattern": "("}}), "missing"),
        (document({"name": "a", "logicalType": "integer", "logicalTypeOptions": {"minimum": "1 OR 1"}}), "no integer"),
        (document({"name": "a", "logicalType": "date", "logicalTypeOptions": {"minimum": "soon"}}), "soon"),
        (document({"name": "a", "logicalType": "integer", "transformLogic": "b + 1"}), "transformLogic of column a"),
        (document(quality=rule("SELECT COUNT(*) FROM t WHERE a = 1", mustBe=1)), "mustBe: 0"),
        (document(quality=rule("SELECT COUNT(*) FROM t WHERE a = 1", name=None)), "name and a query"),
        (
            document(
                quality=[*rule("SELECT COUNT(*) FROM t WHERE a = 1"), *rule("SELECT COUNT(*) FROM t WHERE a = 2")]
            ),
            "two rules have the name r",
        ),
        (document(quality=[{"type": "custom", "engine": "soda"}]), "custom is not enforced"),
        (document(quality=[{"type": "library", "metric": "rowCount", "mustBe": 0}]), "duplicateValues"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_contract(text)
