"""Values that are kept as artifacts are handed on, and not looked into."""

from typing import Any

import pytest
from millrace.core.references import looked_into
from millrace.core.state import Failure
from simulation import World, started

LARGE = {"$artifact": "ab" * 32, "$bytes": 70_000}
OUTPUT = {"rows": 3, "table": LARGE, "parts": [LARGE, {"n": 1}]}
FIRST: dict[str, Any] = {"kind": "data.list"}


def then(**task: Any) -> World:
    one = started(first=FIRST, second={"needs": ["first"], **task})
    one.succeed("first", **OUTPUT)
    return one


def test_a_reference_goes_from_task_to_task_as_it_is() -> None:
    whole = {"table": {"$from": "/tasks/first/output/table"}, "all": {"$from": "/tasks/first/output"}}
    one = then(kind="data.use", input={**whole, "n": {"$from": "/tasks/first/output/parts/1/n"}})

    assert one.order("second").input == {"table": LARGE, "all": OUTPUT, "n": 1}


@pytest.mark.parametrize(
    ("task", "place"),
    [
        ({"kind": "data.use", "input": {"x": {"$from": "/tasks/first/output/table/0"}}}, "/tasks/first/output/table"),
        (
            {"kind": "data.use", "input": {"x": {"$from": "/tasks/first/output/table/0", "default": 1}}},
            "/tasks/first/output/table",
        ),
        ({"subflow": {"workflow": "o", "data": {"$from": "/tasks/first/output/table/0"}}}, "/tasks/first/output/table"),
        (
            {
                "foreach": {
                    "items": {"$from": "/tasks/first/output/table"},
                    "do": {"tasks": {"x": {"kind": "data.use"}}},
                }
            },
            "/tasks/first/output/table",
        ),
        (
            {"kind": "data.use", "cache": {"key": {"$from": "/tasks/first/output/table/0"}}},
            "/tasks/first/output/table",
        ),
    ],
)
def test_who_looks_into_a_reference_fails_and_is_told_what_to_do(task: dict[str, Any], place: str) -> None:
    one = then(**task)

    failure = one.run.tasks["second"].failure
    assert isinstance(failure, Failure)
    assert (failure.error, failure.retryable) == ("LargeValue", False)
    assert f"the value at {place} has 70000 bytes and is kept as an artifact" in failure.message
    assert "hand on what is needed of it in a field of its own" in failure.message


LIST = {**LARGE, "$items": 3}


def over_list(listed: dict[str, Any] = LIST, body: dict[str, Any] | None = None, **foreach: Any) -> World:
    """A run that goes over a list which is kept as an artifact."""
    do = {"tasks": {"use": {"kind": "data.use", **(body or {})}}}
    items = {"$from": "/tasks/first/output/table"}
    one = started(first=FIRST, each={"needs": ["first"], "foreach": {"items": items, "do": do, **foreach}})
    one.succeed("first", table=listed)
    return one


def test_a_foreach_goes_over_a_list_that_is_kept_as_an_artifact_with_a_reference_to_each_item() -> None:
    told = {"all": {"$from": "/item/each"}, "name": {"$from": "/item/each/a~1b/0"}, "n": {"$from": "/index/each"}}
    one = over_list(body={"input": told})

    def part(at: str) -> dict[str, Any]:
        return {"$artifact": {"of": "ab" * 32, "at": at}}

    orders = {order.name: order.input for order in one.orders if order.name != "first"}
    assert orders == {f"each[{n}].use": {"all": part(f"/{n}"), "name": part(f"/{n}/a~1b/0"), "n": n} for n in range(3)}
    for name in orders:
        one.succeed(name)
    assert one.run.tasks["each"].output == {"total": 3, "succeeded": 3, "failed": 0}


@pytest.mark.parametrize(
    ("listed", "foreach", "said"),
    [
        (
            LARGE,
            {},
            "LargeValue: foreach each cannot go over it: the value at /tasks/first/output/table has 70000 bytes",
        ),
        (LIST, {"key": "/name"}, "LargeValue: foreach each cannot name its items by `key` /name: the value at"),
        ({**LARGE, "$items": 100_001}, {}, "InvalidItems: 100001 items; at most 100000 are allowed"),
    ],
)
def test_a_list_that_cannot_be_gone_over_unread_fails_its_foreach_by_name(
    listed: dict[str, Any], foreach: dict[str, Any], said: str
) -> None:
    one = over_list(listed, **foreach)

    assert str(one.run.tasks["each"].failure).startswith(said)


def test_a_condition_on_an_item_that_is_kept_elsewhere_fails_and_says_so() -> None:
    one = over_list(body={"when": "item.each.n == 1"}, concurrency=1)

    assert (
        "LargeValue: 'item.each.n == 1' cannot be evaluated: the value at item.each is in an artifact" in one.run.cause
    )


@pytest.mark.parametrize(
    ("when", "what"),
    [
        ("outputs.first.rows == 3", "dispatched"),
        ("outputs['first']['rows'] == 3", "dispatched"),
        ("size(outputs.first.table) == 1", "failed"),
        ("has(outputs.first.table)", "failed"),
        ("outputs.first['table'] != null", "failed"),
        ("outputs.first.parts[1].n == 1", "dispatched"),
        ("size(outputs.first) == 3", "failed"),
        ("outputs.first.exists(k, k == 'rows')", "failed"),
        ("outputs[trigger.data.name].rows == 3", "failed"),
    ],
)
def test_a_condition_reads_what_is_there_and_never_takes_a_reference_for_the_value(when: str, what: str) -> None:
    one = started(first=FIRST, second={"needs": ["first"], "kind": "data.use", "when": when})
    one.run.trigger["data"] = {"name": "first"}
    one.succeed("first", **OUTPUT)

    assert one.run.tasks["second"].state == what
    if what == "failed":
        failure = str(one.run.tasks["second"].failure)
        assert failure.startswith("LargeValue: ")
        assert "is kept as an artifact" in failure


def test_conditions_on_items_last_results_and_triggers_take_no_reference_for_the_value() -> None:
    rows: dict[str, Any] = {"n": 1, "table": LARGE}
    use: dict[str, Any] = {"kind": "data.use"}

    def each(when: str) -> str:
        one = started(each={"foreach": {"items": [rows], "do": {"tasks": {"use": {**use, "when": when}}}}})
        return str((one.past | one.run.tasks).get("each[0].use", one.run.tasks["each"]).state)

    def by_trigger(when: str) -> str:
        one = started(use={**use, "when": "trigger.data.n == 1 && " + when, "needs": ["first"]}, first=FIRST)
        one.run.trigger["data"] = rows
        one.succeed("first")
        return str(one.run.tasks["use"].state)

    assert (each("item.each.n == 1"), each("size(item.each.table) > 1")) == ("dispatched", "failed")
    assert (by_trigger("true"), by_trigger("size(trigger.data.table) > 1")) == ("dispatched", "failed")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("outputs.a.n == 1 && outputs.a['m'].x[0] == 2", ""),
        ("outputs.a.t == outputs.b.t", "outputs.a.t"),
        ("outputs.a.m.x[1].deep", "outputs.a.m.x[1]"),
        ("size(outputs.a.m.x) == 2", "outputs.a.m.x"),
        ("outputs.a.m.x.exists(i, i == 1)", "outputs.a.m.x"),
        ("outputs.a.m.x[outputs.a.n].deep", "outputs.a.m.x"),
        ("outputs.a == outputs.a", "outputs.a"),
        ("outputs.b.n == 1", ""),
        ("'outputs.a.t' == outputs.a.s", "outputs.a.t"),
    ],
)
def test_what_a_condition_reads_is_told_by_its_text(text: str, place: str) -> None:
    variables = {"outputs": {"a": {"n": 1, "s": "s", "t": LARGE, "m": {"x": [2, LARGE]}}, "b": {"n": 1}}}

    found = looked_into(text, variables)

    assert (f" at {place} " in found) if place else not found
