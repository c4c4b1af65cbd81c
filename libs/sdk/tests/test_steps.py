"""Whatever a workflow's document may say of a task can be said of a step in Python, whichever it is."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.ir import _SLOT_FIELDS, _WORK_FIELDS, FORMS, Task
from millrace.sdk.flows import (
    Node,
    Ref,
    approve,
    attempt,
    deadline,
    end,
    flow,
    foreach,
    gate,
    loop,
    parallel,
    subflow,
    switch,
    task,
    wait,
)

work = task("data.work")
undo = task("data.undo")


def body() -> None:
    work.step("inner")()


def given(output: Ref) -> None:
    undo.step("undoes")(of=output)


def last() -> None:
    work.step("last")()


FORMS_OF_STEPS = [name.rstrip("_") for name in FORMS]
COMMON = sorted({*Task.model_fields} - {*FORMS, "planned"} - _WORK_FIELDS - _SLOT_FIELDS)
"""What the document of every task may say."""
TAKES_NO_TIME = {"end", "gate"}
"""What has neither `timeout_s` nor `deadline`, however it is written."""


def step(form: str, first: Node, **common: Any) -> Node:
    """Add a step of a form, called `it`."""
    common["name"] = "it"
    made: dict[str, Callable[[], Node]] = {
        "kind": work.step(**common),
        "end": lambda: end("succeeded", **common),
        "wait": lambda: wait(5, **common),
        "gate": lambda: gate(first["n"] > 1, **common),
        "approve": lambda: approve(**common),
        "subflow": lambda: subflow("other", **common),
        "foreach": lambda: foreach([1], **common)(body),
        "while": lambda: loop(lambda index, _: index < 2, **common)(body),
        "switch": lambda: switch({"yes": (first["n"] > 1, body)}, **common),
        "parallel": lambda: parallel({"left": body}, **common),
        "try": lambda: attempt(body, last=last, **common),
    }
    return made[form]()


def said(field: str, first: Node) -> tuple[dict[str, Any], Any]:
    """Return how a field is said in Python, and what the document has then."""
    undoing = {"tasks": {"undoes": {"kind": "data.undo", "input": {"of": {"$from": "/tasks/it/output"}}}}}
    made: dict[str, tuple[dict[str, Any], Any]] = {
        "needs": ({"after": [first]}, ["first"]),
        "run_if": ({"run_if": "settled"}, "settled"),
        "when": ({"when": first["n"] > 1}, "outputs.first.n > 1"),
        "timeout_s": ({"timeout_s": 60}, 60.0),
        "deadline": ({}, {"after_s": 60.0}),
        "compensate": ({"compensate": given}, undoing),
        "teardown": ({"teardown": given}, undoing),
    }
    return made[field]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (form, field)
        for form, field in product(FORMS_OF_STEPS, COMMON)
        if form not in TAKES_NO_TIME or field not in {"timeout_s", "deadline"}
    ],
)
def test_every_step_may_say_what_every_task_may(form: str, field: str) -> None:
    expected = []

    @flow("one")
    def one() -> None:
        first = work.step("first")()
        common, there = said(field, first)
        expected.append(there)
        made = step(form, first, **common)
        if field == "deadline":
            deadline(made, after_s=60)

    assert [one.workflow.document()["tasks"]["it"][field]] == expected


@pytest.mark.parametrize("form", sorted(TAKES_NO_TIME))
def test_a_limit_of_what_takes_no_time_is_refused_at_its_line(form: str) -> None:
    def one() -> None:
        step(form, work.step("first")(), timeout_s=60)

    with pytest.raises(
        InvalidDocument, match=rf"'{form}' takes no time, so it has no timeout_s .*test_steps\.py:\d+\]"
    ):
        flow("one")(one)
