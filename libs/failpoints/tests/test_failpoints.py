"""A failpoint acts as it is told, and every one is listed."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from millrace.failpoints import POINTS, parse

ROOT = Path(__file__).resolve().parents[3]
CALLS = {"failpoint", "blocking_failpoint"}
PROGRAM = """
import asyncio, time
from millrace.runtime.failpoints import blocking_failpoint, failpoint
async def main():
    for n in range(4):
        began = time.monotonic()
        await failpoint("consume.polled", "even" if n % 2 == 0 else "odd")
        blocking_failpoint("artifacts.before_rename")
        print(n, round(time.monotonic() - began, 1), flush=True)
asyncio.run(main())
"""


def named_in_sources() -> list[str]:
    """The literal names that the sources pass to a failpoint."""
    return [
        node.args[0].value
        for file in (*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py"))
        if "failpoint" in (text := file.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS
        if isinstance(node.args[0], ast.Constant)
    ]


def run(rules: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with four rounds of failpoints."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"MILLRACE_FAILPOINTS": rules},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_place_in_the_list_is_in_the_sources_once_and_no_other_is() -> None:
    assert sorted(named_in_sources()) == sorted(POINTS)


def test_without_rules_nothing_happens() -> None:
    assert run("").stdout.split() == ["0", "0.0", "1", "0.0", "2", "0.0", "3", "0.0"]


def test_a_process_is_killed_at_the_hit_that_was_named_and_says_so_before() -> None:
    ended = run("consume.polled=kill@3")

    assert (ended.returncode, ended.stdout.split()[::2]) == (-9, ["0", "1"])
    assert ended.stderr == "failpoint consume.polled kill hit 3\n"


def test_only_hits_with_the_named_key_count() -> None:
    ended = run("consume.polled=kill@2#odd")

    assert (ended.returncode, ended.stdout.split()[::2]) == (-9, ["0", "1", "2"])


def test_a_place_waits_or_is_busy_for_so_long() -> None:
    ended = run("consume.polled=sleep:0.3@1; artifacts.before_rename=busy:0.2@2")

    assert ended.stdout.split()[1::2] == ["0.3", "0.2", "0.0", "0.0"]


def test_a_place_fails_with_an_error_that_nobody_foresaw() -> None:
    assert "RuntimeError: failpoint consume.polled" in run("consume.polled=error").stderr


@pytest.mark.parametrize("wrong", ["consume.polled", "nowhere=kill", "consume.polled=explode", "plant=x y"])
def test_a_rule_that_means_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no rule"):
        parse(wrong)


@pytest.mark.parametrize("service", ["control", "data"])
def test_no_service_needs_this_distribution(service: str) -> None:
    for file in ("pyproject.toml", "requirements.lock", "Dockerfile"):
        assert "failpoints" not in (ROOT / "services" / service / file).read_text()


def test_a_planted_fault_replaces_what_it_breaks_and_nothing_else() -> None:
    program = """
import asyncio
from millrace.runtime import inbox, outbox
from millrace.runtime.failpoints import failpoint
before = inbox.CLAIM, inbox.CLAIM_NEW, outbox.PAGE
asyncio.run(failpoint("migrate.locked"))
print(inbox.CLAIM == before[0], inbox.CLAIM_NEW == before[1], outbox.PAGE == before[2])
"""
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"MILLRACE_FAILPOINTS": "plant=inbox_forgets"},
        check=True,
        capture_output=True,
        text=True,
    )

    assert told.stdout.split() == ["False", "False", "True"]
