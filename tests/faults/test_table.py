import pytest

from tests.faults.result import Result
from tests.faults.table import Line, show


def lines_of(capsys: pytest.CaptureFixture[str], result: Result) -> list[str]:
    show([Line(result.row, "test_one", "passed", [result])], [result.row], "41 s of 3600")
    return capsys.readouterr().out.splitlines()


def test_what_a_row_expects_to_be_lost_is_told_and_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    gone = Result(36, "retention passed", 60, "detected, not resynced", held=True, judge_s=1.0, expected={"lost": 3})
    more = Result(36, "retention passed", 60, judge_s=1.0, lost=2, expected={"lost": 3})

    held, not_held = "\n".join(lines_of(capsys, gone)), "\n".join(lines_of(capsys, more))

    assert "3 (expected)" in held
    assert "detected, not" in held
    assert "2 + 3" in not_held
    assert "NOT HELD" in not_held


def test_how_long_it_took_of_its_limit_stands_before_how_many_passed(capsys: pytest.CaptureFixture[str]) -> None:
    *_, took, passed = lines_of(capsys, Result(6, "kill -9 of the broker", 30, held=True, judge_s=1.0))

    assert (took, passed) == ("41 s of 3600", "1 passed, 0 failed")
