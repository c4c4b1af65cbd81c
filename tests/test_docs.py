"""What the documents for users and operators say is there."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from millrace.runtime import telemetry
from prometheus_client import Counter, Gauge, Histogram

ROOT = Path(__file__).resolve().parents[1]
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", GUARANTEES)))
#: Where a reason comes from for which an event is held; what a handler raises is shown by its class. Of a service's
#: module, only the functions that hold something themselves.
HOLDERS = (
    "runtime.envelope",
    "runtime.held",
    "runtime.consume.fetched",
    "runtime.consume.replay",
    "runtime.consume.settlement",
    "control.handlers.events",
)
#: What these say to somebody else: to who calls, or as a part of the reason for which a batch cannot be read.
TO_OTHERS = {"Unavailable", "UnreadableError"}
PLACE = "…"
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
QUERY = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE) ")
GROUPS = yaml.safe_load((ROOT / "infra/prometheus/rules.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, FUNCTION)}


def texts(tree: ast.AST, names: Mapping[str, object]) -> Iterator[str]:
    """Yield the texts in a source that people read: `…` stands for what is put into them, docstrings are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TO_OTHERS:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"'(.+?)'", node.value) if QUERY.match(node.value) else [node.value]
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part(value, names) for value in node.values)
        else:
            yield from texts(node, names)


def part(node: ast.expr, names: Mapping[str, object]) -> str:
    """Return a part of a text: a constant's value where it is one."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    return str(names[inner.id]) if isinstance(inner, ast.Name) and inner.id.isupper() else PLACE


def calls(tree: ast.AST, function: str) -> bool:
    """Whether anything in a source calls a function of this name."""
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(function in {getattr(one, "id", ""), getattr(one, "attr", "")} for one in called)


def holding(tree: ast.Module) -> list[ast.AST]:
    """Return the functions of a source that hold events."""
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTION) and calls(node, "hold")]


def words(text: str) -> int:
    return len([word for word in text.split() if word[:1].isalpha()])


def reasons() -> list[str]:
    """Return every reason for which an event is held: of the runtime all texts of a few words, of a service any."""
    found = set()
    for name in HOLDERS:
        module = import_module(f"millrace.{name}")
        tree = ast.parse(inspect.getsource(module))
        if name.startswith("runtime."):
            found |= {text for text in texts(tree, vars(module)) if words(text) > 2}
        else:
            mine = [text for node in holding(tree) for text in texts(node, vars(module))]
            assert mine, f"{name} holds nothing itself"
            found |= {text for text in mine if words(text)}
    return sorted(found)


def explained(reason: str) -> bool:
    """Whether the page for operators has a line for a reason, or says it in one."""
    table = OPERATIONS.partition("| reason |")[2].partition("\n\n")[0]
    told = [text for line in table.splitlines()[2:] for text in re.findall(r"`(.+?)`", line.split("|")[1])]
    forms = (".+".join(map(re.escape, text.removesuffix(f" {PLACE}").split(PLACE))) for text in told)
    return reason in table or any(re.search(form, reason) for form in forms)


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda part: Path(part).name)
def test_a_test_that_a_guarantee_rests_on_exists(file: str, test: str) -> None:
    assert test in functions(ROOT / file)


def test_each_sentence_of_the_guarantees_names_what_shows_it() -> None:
    sentences = re.findall(r"^- (.+(?:\n  .+)*)", GUARANTEES, re.MULTILINE)

    assert len(sentences) > 20
    assert [text for text in sentences if not re.search(r"`[\w/]+\.py::\w+`", text)] == []


def metrics() -> dict[str, Counter | Gauge | Histogram]:
    """Return what the services measure, by the name under which it is asked for."""
    found = [metric for metric in vars(telemetry).values() if isinstance(metric, Counter | Gauge | Histogram)]
    return {metric._name + ("_total" if isinstance(metric, Counter) else ""): metric for metric in found}


def notices_the_first(expression: str, metric: str) -> bool:
    """Whether a rule fires for the first that a labelled counter counts, and for the first after a restart."""
    asked = " ".join(expression.split())
    form = (
        rf"\({metric} and on \(job, instance\) process_start_time_seconds > time\(\) - (?P<young>\d+)\) "
        rf"or \(max_over_time\({metric}\[(?P<window>\w+)\]\) "
        rf"unless last_over_time\({metric}\[(?P<before>\w+)\] offset (?P=window)\)\) "
        rf"or increase\({metric}\[(?P<both>\w+)\]\)"
    )
    found = re.search(form, asked)
    if found is None or asked.count(f"increase({metric}[") != 1:
        return False
    both = seconds(found["window"]) + seconds(found["before"])
    return seconds(found["both"]) == both == int(found["young"])


def seconds(duration: str) -> int:
    """Return how long a duration of Prometheus is."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do_and_asks_for_what_is_measured(rule: dict[str, str]) -> None:
    assert f"| `{rule['alert']}` |" in OPERATIONS
    assert set(re.findall(r"millrace_\w+", rule["expr"])) <= metrics().keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_on_what_was_counted_notices_the_first_of_it(rule: dict[str, str]) -> None:
    # A rate is of something that goes on: what it misses at the beginning is little.
    counted = set(re.findall(r"increase\((\w+)", rule["expr"]))
    labelled = [name for name in counted if metrics()[name]._labelnames]

    assert [name for name in labelled if not notices_the_first(rule["expr"], name)] == []
    assert not (counted and "for" in rule), "waiting makes no count untrue"


def test_a_rule_that_misses_the_first_is_found() -> None:
    (good,) = [rule["expr"] for rule in RULES if rule["alert"] == "EventsHeld"]
    metric = "millrace_events_held_total"

    assert notices_the_first(good, metric)
    assert not notices_the_first(f"sum by (topic) (increase({metric}[10m])) > 0", metric)
    assert not notices_the_first(f"{good} or increase({metric}[10m]) > 0", metric)
    assert not notices_the_first(good.replace("[15m]", "[10m]"), metric)
    assert not notices_the_first(good.replace("- 900", "- 600"), metric)


@pytest.mark.parametrize("reason", reasons())
def test_a_reason_for_which_an_event_is_held_says_what_to_do(reason: str) -> None:
    assert explained(reason)


def test_whoever_holds_an_event_is_among_those_whose_reasons_are_read() -> None:
    others = {
        str(file).partition("/src/millrace/")[2].removesuffix(".py").replace("/", ".")
        for file in ROOT.glob("services/*/src/**/*.py")
        if holding(ast.parse(file.read_text()))
    }

    assert others == {name for name in HOLDERS if not name.startswith("runtime.")}


def test_a_reason_that_no_line_is_there_for_is_found() -> None:
    source = ast.parse('"""A docstring that is long."""\nhold(f"the {thing} is of no use, more than {MOST}")')

    (reason,) = texts(source, {"MOST": 5})

    assert reason == "the … is of no use, more than 5"
    assert not explained(reason)
    assert not explained("ce_id … is green")


def test_the_readme_leads_to_both() -> None:
    readme = (ROOT / "README.md").read_text()

    assert "(docs/guarantees.md)" in readme
    assert "(docs/operations.md)" in readme
