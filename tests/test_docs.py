"""What the documents for users and operators say is there."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from millrace.runtime import telemetry
from prometheus_client import Counter, Gauge, Histogram

ROOT = Path(__file__).resolve().parents[1]
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", GUARANTEES)))
GROUPS = yaml.safe_load((ROOT / "infra/prometheus/rules.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]


def functions(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda part: Path(part).name)
def test_a_test_that_a_guarantee_rests_on_exists(file: str, test: str) -> None:
    assert test in functions(ROOT / file)


def test_each_sentence_of_the_guarantees_names_what_shows_it() -> None:
    sentences = re.findall(r"^- (.+(?:\n  .+)*)", GUARANTEES, re.MULTILINE)

    assert len(sentences) > 20
    assert [text for text in sentences if not re.search(r"`[\w/]+\.py::\w+`", text)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do_and_asks_for_what_is_measured(rule: dict[str, str]) -> None:
    measured = set()
    for metric in vars(telemetry).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            measured.add(metric._name + ("_total" if isinstance(metric, Counter) else ""))

    assert f"| `{rule['alert']}` |" in OPERATIONS
    assert set(re.findall(r"millrace_\w+", rule["expr"])) <= measured


def test_the_readme_leads_to_both() -> None:
    readme = (ROOT / "README.md").read_text()

    assert "(docs/guarantees.md)" in readme
    assert "(docs/operations.md)" in readme
