"""Tests of JSON that every service can read."""

from typing import Any
from uuid import uuid4

import pytest
from millrace.contracts.portable import MOST_LEVELS, check_portable, portable
from millrace.contracts.tasks import Carried, TaskSucceeded
from pydantic import ValidationError


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"in": [value]} if isinstance(value, int) else [value]
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("\ud800", "half a character"),
        ({"\ud800": 1}, "half a character"),
        ("a\x00b", "a NUL character"),
        ("\\\x00", "a NUL character"),
        ([float("inf")], "no JSON"),
        ({1, 2}, "no JSON"),
        (nested(MOST_LEVELS), "more than 100 levels down"),
        (nested(100_000), "recursion"),
    ],
)
def test_what_cannot_be_carried_is_refused_and_the_text_says_why(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        portable(value)


@pytest.mark.parametrize("value", ["\\u0000", {"a": "\\\\u0000"}, "ü", None, [], {"": [1.5, True, -(10**30)]}])
def test_what_only_looks_like_a_nul_character_is_carried(value: Any) -> None:
    check_portable(portable(value))


@pytest.mark.parametrize("text", [b"", b"NaN", b"1],[2", b"1,2", b'"\\ud800"', b"{"])
def test_what_is_no_json_is_told_as_that(text: bytes) -> None:
    with pytest.raises(ValueError, match="it is no JSON"):
        check_portable(text)


def test_what_goes_as_deep_as_it_may_is_read_again_in_an_event() -> None:
    deep = {"of": nested(MOST_LEVELS - 2)}
    portable(deep)
    names = ("task_id", "token", "run_id")
    about = {"namespace": "n", "service": "acme", "kind": "acme.do", "name": "do", "workflow": "w", "attempt": 1}
    told = TaskSucceeded(**about, **{name: uuid4() for name in names}, duration_s=0, cpu_s=0, output=deep)
    assert TaskSucceeded.model_validate_json(told.model_dump_json()) == told


@pytest.mark.parametrize("checkpoint", ["\ud800", {"\ud800": 1}, "\x00", nested(MOST_LEVELS)])
def test_a_checkpoint_that_cannot_be_kept_is_refused_before_anybody_has_it(checkpoint: Any) -> None:
    with pytest.raises(ValidationError, match="checkpoint"):
        Carried(checkpoint=checkpoint)


def test_a_checkpoint_has_64_kib_as_it_is_stored() -> None:
    Carried(checkpoint="ü" * (32 * 1024 - 1))
    with pytest.raises(ValidationError, match="65538 bytes, more than 65536"):
        Carried(checkpoint="ü" * (32 * 1024))
