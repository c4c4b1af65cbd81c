import contextlib
from typing import Any

import pytest
from millrace.core.expression import ExpressionFailed, InvalidExpression, compile_condition
from millrace.core.pointer import PointerMissing, parse_pointer, resolve

ALL = frozenset({"outputs", "status", "trigger"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("outputs.a.n > 2.5", True),
        ("outputs['a'].verdict == 'pass' && status.b == 'skipped'", True),
        ("outputs.b.verdict == 'x' || outputs.a.n == 3", True),
        ("has(outputs.b)", False),
        ("trigger.data.exists(m, m == 2)", True),
    ],
)
def test_a_condition_reads_outputs_states_and_the_trigger(text: str, value: bool) -> None:
    variables = {"outputs": {"a": {"n": 3, "verdict": "pass"}}, "status": {"b": "skipped"}, "trigger": {"data": [1, 2]}}

    assert compile_condition(text, ALL).holds(variables) is value


@pytest.mark.parametrize("text", ["outputs.b.x == 1", "outputs.a", "outputs.a + 1 == 2", "1 / 0 == 1", "nope(1)"])
def test_a_condition_without_a_truth_value_says_why(text: str) -> None:
    with pytest.raises(ExpressionFailed, match=r"cannot be evaluated|not true or false"):
        compile_condition(text, ALL).holds({"outputs": {"a": {}}})


def test_a_condition_knows_what_it_reads() -> None:
    named = compile_condition("outputs.a.x == 1 && outputs['b'].y && status.c == 'outputs'", ALL)
    computed = compile_condition("outputs[trigger.data].x == outputs.a.x", ALL)

    assert named.members == {("outputs", "a"), ("outputs", "b"), ("status", "c")}
    assert named.outputs == {"a", "b"}
    assert computed.outputs is None
    assert computed.members == {("outputs", "a"), ("trigger", "data")}


def test_what_stands_in_a_text_or_is_called_is_not_read() -> None:
    texts = compile_condition("""outputs.a.x == "trigger.dta and outputs['b']" && trigger.size() > 1""", ALL)

    assert texts.members == {("outputs", "a")}
    assert texts.outputs == {"a"}


@pytest.mark.parametrize("text", ["(" * 400 + "1" + ")" * 400, "!" * 999 + "true", "'" + "a" * 990, "", "[" * 900])
def test_hostile_text_is_refused_or_answered_but_never_crashes(text: str) -> None:
    with contextlib.suppress(InvalidExpression, ExpressionFailed):
        compile_condition(text, ALL).holds({})


@pytest.mark.parametrize(
    ("pointer", "value"), [("", {"a/b": [{"~": 1}], "n": None}), ("/a~1b/0/~0", 1), ("/n", None), ("/a~1b/0", {"~": 1})]
)
def test_a_pointer_finds_its_value(pointer: str, value: Any) -> None:
    assert resolve({"a/b": [{"~": 1}], "n": None}, parse_pointer(pointer)) == value


@pytest.mark.parametrize("pointer", ["/b", "/a/2", "/a/00", "/a/-", "/a/0/x", "/a/²"])
def test_a_pointer_to_nothing_says_so(pointer: str) -> None:
    with pytest.raises(PointerMissing):
        resolve({"a": [1, 2]}, parse_pointer(pointer))


@pytest.mark.parametrize("pointer", ["a", "/~", "/~2", " /a"])
def test_what_is_no_pointer_is_refused(pointer: str) -> None:
    with pytest.raises(ValueError, match="not a JSON pointer"):
        parse_pointer(pointer)
