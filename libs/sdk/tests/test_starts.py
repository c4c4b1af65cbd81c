"""Triggers and schedules beside a flow are the documents that YAML says."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import chdir
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.core.errors import InvalidDocument
from millrace.core.schedules import Schedule, parse_schedule
from millrace.core.triggers import Trigger, parse_trigger
from millrace.core.triggers.ir import Member
from millrace.core.yaml import load_document
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.sdk.cli.declared import declared, is_python
from millrace.sdk.flows import Flow, Ref, event, flow, moment, task, text
from millrace.sdk.flows.starts import ScheduleOptions, TriggerOptions

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/starts.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n```(yaml|error)\n(.*?)```", PAGE, re.DOTALL)
HERE = Path(__file__).name


def a_flow(name: str = "w") -> Flow:
    do = task("data.do")

    @flow(name)
    def traced(trigger: Ref) -> None:
        do(given=trigger.data)

    return traced


def line_of(words: str) -> int:
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if words in line)


def test_each_example_of_the_page_is_the_yaml_below_it() -> None:
    names: dict[str, Any] = {}
    for program, kind, says in EXAMPLES:
        if kind == "error":
            with pytest.raises(InvalidDocument, match=re.escape(says.strip())):
                exec(program, names)  # noqa: S102 - the page's own
            continue
        before = {Trigger: len(names["month"].triggers), Schedule: len(names["month"].schedules)} if names else {}
        exec(program, names)  # noqa: S102 - likewise
        month: Flow = names["month"]
        new = [*month.triggers[before.get(Trigger, 0) :], *month.schedules[before.get(Schedule, 0) :]]
        written = load_document(says, "example")
        parse = parse_trigger if isinstance(new[0], Trigger) else parse_schedule
        assert new == [parse(written)]
        assert parse(new[0].document()) == new[0]

    assert PAGE.count("```python") == len(EXAMPLES) == 7


def test_all_that_a_document_has_can_be_said() -> None:
    apart = {"name", "workflow", "source", "filter", "keep_s"}  # the latter of those that start nothing
    assert TriggerOptions.__annotations__.keys() == Trigger.model_fields.keys() - apart
    rules = {"cron", "interval", "calendar"}
    assert ScheduleOptions.__annotations__.keys() == Schedule.model_fields.keys() - apart - rules


VALUES = {
    "when": st.sampled_from(["trigger.data.n == 1", event.data.n == 1, event.data.flag, ~(event.type == "x")]),
    "dedupe": st.sampled_from(["/data/id", event.data.id, event.data["a/b"], event.subject]),
    "strategy": st.sampled_from(["parallel", "queue", "first_only", "latest_only", "strict_sequence"]),
    "throttle": st.fixed_dictionaries({"runs": st.integers(1, 9)}, optional={"burst": st.integers(1, 9)}),
    "paused": st.booleans(),
    "on_paused": st.sampled_from(["queue", "drop"]),
}


@given(st.fixed_dictionaries({}, optional=VALUES), st.sampled_from([None, "a.b", "a*"]))
def test_what_is_declared_comes_back_from_its_document(options: Any, kind: str | None) -> None:
    made = a_flow().on("triggers", type=kind, **options)

    assert parse_trigger(json.loads(json.dumps(made.document()))) == made
    assert made.workflow == made.name == "w"
    assert made.filter.type == kind


def test_conditions_and_places_stand_for_what_they_mean_wherever_they_are() -> None:
    made = a_flow().on(
        "triggers",
        key=event.data["a/b"].c,
        join={
            "members": ({"name": "a", "when": event.data.flag}, {"name": "b", "key": event.subject}),
            "partitions": {"each": "day", "per": "month", "at": event.data.day},
        },
    )

    assert made.join is not None
    assert made.join.partitions is not None
    assert (made.key, made.join.partitions.at) == ("/data/a~1b/c", "/data/day")
    assert made.join.members == (Member(name="a", when="trigger.data.flag"), Member(name="b", key="/subject"))


def test_a_schedule_takes_times_as_python_has_them() -> None:
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    made = a_flow().calendar(
        time(9, 30), days=[{"dates": [date(2026, 1, 2)]}], start=at, data=[moment.local, text("$day")]
    )

    assert made.calendar is not None
    assert (made.start, made.calendar.days[0].dates) == (at, (date(2026, 1, 2),))
    assert made.data == [{"$from": "/schedule/local"}, {"$text": "$day"}]
    assert parse_schedule(made.document()) == made


def declares_a_wrong_trigger() -> None:
    a_flow().on("triggers", strategy="queue", limit=3)  # the wrong trigger


def declares_a_wrong_member() -> None:
    members = [{"name": "a"}, {"name": "b", "wen": "true"}]
    a_flow().on("triggers", join={"members": members})  # the wrong member


def declares_a_wrong_schedule() -> None:
    a_flow().cron("61 * * * *")  # the wrong schedule


def declares_a_wrong_interval() -> None:
    a_flow().every(timedelta(seconds=1.5))  # the wrong interval


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (declares_a_wrong_trigger, r"`limit` is for strategy parallel"),
        (declares_a_wrong_member, r"join\.members\.1\.wen: unknown field; known are name, workflow"),
        (declares_a_wrong_schedule, r"schedule is not valid: .*61"),
        (declares_a_wrong_interval, r"interval\.every_s: "),
    ],
)
def test_what_cannot_be_used_names_the_authors_line(declare: Any, said: str) -> None:
    words = declare.__name__.removeprefix("declares_a_").replace("_", " ")
    with pytest.raises(InvalidDocument, match=rf"{said}.*\[.*{HERE}:{line_of(f'# the {words}')}\]"):
        declare()


def test_two_of_one_name_and_what_is_no_part_of_an_event_are_refused() -> None:
    traced = a_flow()
    traced.on("triggers")
    traced.every(timedelta(minutes=1))

    with pytest.raises(ValueError, match="flow w has a trigger 'w' already; give this one its own: name="):
        traced.on("others")
    with pytest.raises(ValueError, match="flow w has a schedule 'w' already"):
        traced.cron("@daily")
    with pytest.raises(ValueError, match=r"schedule is no part of an event; one is event\.data\.id"):
        traced.on("triggers", name="other", dedupe=moment)
    with pytest.raises(ValueError, match="has no offset from UTC"):
        traced.cron("@daily", name="other", start=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    assert (len(traced.triggers), len(traced.schedules)) == (1, 1)


MODULE = """
from datetime import timedelta
from millrace.sdk.flows import flow, task

do = task("data.do")

@flow("{name}")
def one(trigger):
    do(given=trigger.data)

one.on("triggers")
one.every(timedelta(hours=1))
"""


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    known, path = set(sys.modules), [*sys.path]
    folder = tmp_path / "starts_pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("from starts_pack.first import one as again\n")
    (folder / "first.py").write_text(MODULE.format(name="first"))
    (folder / "second.py").write_text("from starts_pack.first import one as before\n" + MODULE.format(name="second"))
    with chdir(tmp_path):
        yield folder
    sys.path[:] = path
    for name in sys.modules.keys() - known:
        del sys.modules[name]


def kinds_and_names(name: str) -> list[tuple[str, str]]:
    return [(kind, json.loads(document)["name"]) for kind, document in declared(name)]


def test_the_flows_of_a_package_are_found_once_with_what_starts_them(package: Path) -> None:
    found = kinds_and_names(package.name)

    kinds = ["workflow", "trigger", "schedule"]
    assert found == [(kind, name) for name in ("first", "second") for kind in kinds]
    assert kinds_and_names("starts_pack/second.py")[:1] == [("workflow", "first")]


def test_a_module_that_declares_nothing_twice_the_same_or_what_is_wrong_is_named(package: Path) -> None:
    (package / "third.py").write_text(MODULE.format(name="first"))
    with pytest.raises(InvalidInput, match="starts_pack has two flows first: keep one"):
        kinds_and_names("starts_pack")
    (package / "empty.py").write_text("")
    with pytest.raises(InvalidInput, match=r"starts_pack\.empty has no flow: write @flow"):
        kinds_and_names("starts_pack.empty")
    (package / "wrong.py").write_text(MODULE.format(name="wrong") + 'one.cron("x", name="n")\n')
    with pytest.raises(InvalidInput, match=r"schedule is not valid: .*wrong\.py:13\]"):
        kinds_and_names("starts_pack.wrong")
    with pytest.raises(NotFound, match=r"there is no module starts_pack\.nowhere"):
        kinds_and_names("starts_pack.nowhere")
    with pytest.raises(InvalidInput, match=r"nowhere\.py cannot be read"):
        kinds_and_names("nowhere.py")
    (package / "json.py").write_text(MODULE.format(name="taken"))
    with pytest.raises(InvalidInput, match=r"starts_pack/json\.py has the name of another module, json: give it one"):
        kinds_and_names("starts_pack/json.py")
    (package / "fifth.py").write_text("from uuid import UUID\n\nUUID('no')\n")
    with pytest.raises(InvalidInput, match=r"fifth cannot be imported: ValueError: .*fifth\.py, line 3\)$"):
        kinds_and_names("starts_pack.fifth")
    (package / "sixth.py").write_text("from asyncpg.pgproto.pgproto import UUID\n\nUUID('no')\n")
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"sixth\.py cannot be imported: ValueError: .*sixth\.py, line 3\)$"):
            kinds_and_names("starts_pack/sixth.py")
    (package / "seventh.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(InvalidInput, match="seventh cannot be imported: SystemExit: 0"):
        kinds_and_names("starts_pack.seventh")


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("acme.flows", True),
        ("acme", True),
        ("flows/month.py", True),
        ("month.yaml", False),
        ("-", False),
        ("a/b", False),
    ],
)
def test_a_file_is_told_from_a_module(name: str, python: bool) -> None:
    assert is_python(name) is python
