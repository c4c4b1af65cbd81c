import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import typer.main
from millrace.contracts.rpc.control.v1.control_pb2 import EndedAttempt, Run, Task
from millrace.contracts.rpc.lineage.v1.lineage_pb2 import ExplainResponse, Hop, Node
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli import app
from millrace.sdk.cli.documents import kind_of, read_json, read_rows
from millrace.sdk.cli.lineage import explanation_tree
from millrace.sdk.cli.output import console, duration, plain, printable, say
from millrace.sdk.cli.schedules import moment_of
from millrace.sdk.held import Place, Which
from millrace.sdk.watching import changes, run_table
from rich.console import Console
from typer.core import TyperGroup
from typer.testing import CliRunner

FLIGHTS = Path(__file__).resolve().parents[3] / "examples/flights"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from leaves(inner, f"{path} {name}")
    else:
        yield path, command


COMMANDS = dict(leaves(typer.main.get_command(app), "millrace"))

#: What takes longer to import than a whole command may.
SLOW = {
    *("aiokafka", "asyncpg", "cel", "cryptography", "faststream", "jwt", "prometheus_client", "pyarrow", "pydantic"),
    *("opentelemetry.sdk", "structlog", "uvloop", "yaml"),
}


@pytest.mark.parametrize(
    "program",
    [
        "from millrace.sdk.cli import app; app(['--help'], standalone_mode=False)",
        "from millrace.sdk.client import Client",
    ],
)
def test_nothing_waits_for_the_import_of_what_it_does_not_use(program: str) -> None:
    command = [sys.executable, "-c", f"import json, sys; {program}; print(); print(json.dumps([*sys.modules]))"]

    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    loaded = set(json.loads(told.splitlines()[-1]))
    assert "millrace.sdk.client" in loaded
    assert loaded & SLOW == set()


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_shows_an_example_of_itself_and_prints_json(path: str) -> None:
    command = COMMANDS[path]

    assert f"Example: `{path}" in (command.help or "")
    # Logs are JSON, a line each, as the services wrote them.
    assert any("--json" in one.opts for one in command.params)


@pytest.mark.parametrize(
    ("folder", "kind"), [("contracts", "contract"), ("views", "view"), ("workflows", "workflow"), (".", "trigger")]
)
def test_what_a_file_declares_is_seen_from_what_is_in_it(folder: str, kind: str) -> None:
    files = [FLIGHTS / "trigger.yaml"] if kind == "trigger" else sorted((FLIGHTS / folder).glob("*.yaml"))

    assert files
    assert {kind_of(file.read_text(), file.name) for file in files} == {kind}


@pytest.mark.parametrize("rule", ["cron: '@daily'", "interval: {every_s: 60}", "calendar: {at: ['09:00']}"])
def test_a_schedule_is_seen_from_its_rule(rule: str) -> None:
    assert kind_of(f"name: n\nworkflow: w\n{rule}\n", "x.yaml") == "schedule"


def test_a_day_is_one_of_the_schedules_zone_and_a_time_needs_its_offset() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert moment_of("2026-07-01", "from", berlin).isoformat() == "2026-07-01T00:00:00+02:00"
    assert moment_of("2026-07-01T00:00:00Z", "from", berlin).isoformat() == "2026-07-01T00:00:00+00:00"
    with pytest.raises(InvalidInput, match="--after: 2026-07-01 has no offset"):
        moment_of("2026-07-01", "after", None)
    with pytest.raises(InvalidInput, match="--to: 'x' is no day such as 2026-01-31"):
        moment_of("x", "to", berlin)


@pytest.mark.parametrize("text", ["", "[]", "a: 1", "key: [", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_declares_nothing_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^x\.yaml is n"):
        kind_of(text, "x.yaml")


def test_rows_are_read_from_each_form(tmp_path: Path) -> None:
    forms = {"a.csv": "origin,hour\nEWR,5\n", "b.json": '[{"origin": "EWR"}]', "c.jsonl": '{"origin": "EWR"}\n\n'}
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert [row["origin"] for row in read_rows(str(tmp_path / name))] == ["EWR"]

    (tmp_path / "d.json").write_text("[1]")
    with pytest.raises(InvalidInput, match="each row is a JSON object"):
        read_rows(str(tmp_path / "d.json"))
    with pytest.raises(InvalidInput, match="No such file"):
        read_json("@nowhere.json")


def test_a_change_of_a_run_is_a_line_for_each_task_that_moved() -> None:
    task = Task(
        name="tune", kind="training.tune", state="running", attempts=2, progress=0.5, progress_message="5 of 10"
    )
    before = Run(run_id="r", workflow="w", state="running", tasks=[Task(name="ingest", state="blocked")])
    after = Run(run_id="r", workflow="w", state="running", tasks=[Task(name="ingest", state="blocked"), task])
    output = json.dumps({"version_id": SHA256, "auc": 0.7612345, "rows": 5, "reasons": {}})
    end = Run(run_id="r", workflow="w", state="refused", cause="skill below 0", tasks=[
        Task(name="ingest", state="succeeded", attempts=1, duration_s=1.25, output_json=output),
        Task(name="tune", state="failed", attempts=2, error="lost"),
    ])  # fmt: skip

    assert changes(before, after) == ["tune  running  attempt 2  50% 5 of 10"]
    assert changes(after, after) == []
    assert changes(after, end) == [
        "ingest  succeeded  1.2 s  version_id d9ef2f5cf1be  auc 0.76123  rows 5",
        "tune  failed  attempt 2  lost",
        "run r  w  refused  skill below 0",
    ]


def test_an_explanation_names_every_hop_down_to_the_files_hash() -> None:
    found = ExplainResponse(complete=True, prediction_json='{"score": 0.25}', hops=[
        _hop(0, "inference.deployment:d1", "late 1", ["training.model:m1"], "deploy"),
        _hop(1, "training.model:m1", "late 1", ["data.version:v1", "data.version:v2"], "tune"),
        _hop(2, "data.version:v1", "flights 2013-01", [f"file:sha256:{SHA256}"], "ingest"),
        _hop(2, "data.version:v2", "flights [2013-02]", [f"file:sha256:{SHA256}"], "ingest"),
        _hop(3, f"file:sha256:{SHA256}", "flights-2013-01.csv", [], ""),
    ])  # fmt: skip
    found.predicted_at.FromDatetime(datetime(2013, 3, 1, tzinfo=UTC))
    page = Console(width=200, record=True, file=io.StringIO())

    page.print(explanation_tree("pabc", found))
    lines = [line.strip("│├└─ ") for line in page.export_text().splitlines()]

    assert lines[0] == "prediction pabc"
    assert "score 0.2500" in lines[1]
    assert [line for line in lines[2:] if not line.startswith("made by")] == [
        "inference.deployment late 1 d1",
        "training.model late 1 m1",
        "data.version flights 2013-01 v1",
        f"file flights-2013-01.csv sha256:{SHA256}",
        "data.version flights [2013-02] v2",
        f"file flights-2013-01.csv sha256:{SHA256} (see above)",
    ]
    assert "made by tune (x.tune), run r1" in lines


def test_what_a_service_tells_is_shown_as_it_is() -> None:
    run = Run(run_id="r", workflow="w", state="failed", cause="[/red] is wrong", tasks=[
        Task(name="a", kind="x.a", state="failed", error="[bold]column[/] [x] :warning:")
    ])  # fmt: skip

    with console.capture() as shown:
        console.print(run_table(run, wide=True))
        say("run [bold]{run}[/] is {state}", run="[r]", state="[/]")

    assert "[bold]column[/] [x] :warning:" in shown.get()
    assert "[/red] is wrong" in shown.get()
    assert "run [r] is [/]" in shown.get()
    assert printable("a\x1b[2Jb\n") == "a\N{REPLACEMENT CHARACTER}[2Jb\n"


def test_a_run_is_shown_with_the_attempts_that_failed_before_the_latest() -> None:
    ended = [
        EndedAttempt(attempt=1, error="ValueError: [x] is wrong"),
        EndedAttempt(attempt=2, error="WorkerLost: nobody has heard of it", lost=True),
        EndedAttempt(attempt=3, error="ValueError: at last"),
    ]
    run = Run(run_id="r", workflow="w", state="failed", tasks=[
        Task(name="a", kind="x.a", state="failed", attempts=3, error="ValueError: at last", ended_attempts=ended)
    ])  # fmt: skip

    with console.capture() as shown:
        console.print(run_table(run, wide=True))

    lines = [" ".join(line.split()) for line in shown.get().splitlines()]
    assert lines[2:5] == [
        "a x.a failed 3 ValueError: at last",
        "failed 1 ValueError: [x] is wrong",
        "lost 2 WorkerLost: nobody has heard of it",
    ]


def _hop(depth: int, node: str, name: str, made_from: list[str], task: str) -> Hop:
    about = Node(id=node, kind=node.partition(":")[0], name=name)
    made = {"made_by": task, "made_by_kind": f"x.{task}", "made_by_task": "t1", "made_by_run": "r1"} if task else {}
    return Hop(depth=depth, node=about, made_from=made_from, **made)


def test_messages_are_json_with_numbers_as_numbers_and_json_as_json() -> None:
    run = Run(run_id="r", trigger_data_json='{"month": "2013-01"}', tasks=[Task(name="a", attempts=2)])
    run.created_at.FromDatetime(datetime(2013, 1, 1, tzinfo=UTC))

    told = json.loads(json.dumps(plain(run)))

    assert told["trigger_data"] == {"month": "2013-01"}
    assert told["created_at"] == "2013-01-01T00:00:00+00:00"
    assert told["ended_at"] is None
    assert (told["tasks"][0]["attempts"], told["tasks"][0]["output"]) == (2, None)


def test_durations_are_read_at_a_glance() -> None:
    assert [duration(seconds) for seconds in (0, 0.04, 59.94, 61, 3725)] == [
        "",
        "0.0 s",
        "59.9 s",
        "1 m 01 s",
        "1 h 02 m",
    ]


def test_the_place_of_a_held_event_is_one_word_to_copy() -> None:
    for offset in (12, -7):  # below zero: of a topic that was made again since
        place = Place("control", "flights.landed", 3, offset)
        assert Place.read(str(place)) == place
    for text in ("control:triggers:0", "nobody:triggers:0:1", "control:triggers:-1:1", "control:a:b:0:1"):
        with pytest.raises(InvalidInput, match="no place"):
            Place.read(text)


def test_a_place_goes_with_nothing_else() -> None:
    place = Place("control", "triggers", 0, 12)

    assert Which(place=place).services == ("control",)
    with pytest.raises(InvalidInput, match="control:triggers:0:12 is one event already: leave out service, since"):
        Which(service="control", since=datetime.now(UTC), place=place)


@pytest.mark.parametrize("command", ["list", "keys", "replay", "drop", "unpark"])
def test_a_place_with_a_filter_is_refused_before_anything_is_asked(command: str) -> None:
    env = {"MILLRACE_ENDPOINTS": '{"control": "127.0.0.1:1"}', "MILLRACE_TOKEN": "t"}
    place = "control:triggers:0:12"
    wrong = {"--since 2h": "leave out since, or the place", "--topic triggers --in dead": "leave out topic, state"}
    if command not in ("list", "keys"):
        wrong["--all"] = f"{place} or --all: leave out one of them"

    for options, said in wrong.items():
        told = CliRunner().invoke(app, ["held", command, place, *options.split()], env=env)
        assert (told.exit_code, said in told.stderr) == (1, True), (options, told.stderr)


@pytest.mark.parametrize("options", ["", "--in parked", "--dry-run"])
def test_to_unpark_without_a_word_on_which_is_refused(options: str) -> None:
    env = {"MILLRACE_ENDPOINTS": '{"control": "127.0.0.1:1"}', "MILLRACE_TOKEN": "t"}

    told = CliRunner().invoke(app, ["held", "unpark", *options.split()], env=env)

    assert told.exit_code == 1
    assert "say which: a place, an event's id, options such as --topic, or --all" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run start monthly --data {", "--data is not JSON"),
        ("apply nowhere.yaml", "nowhere.yaml cannot be read: No such file or directory"),
        ("apply workflow", "which workflow? name its file"),
        ("publish triggers t /s --servers 127.0.0.1:1 --time now", "'now' is no ISO 8601 time"),
        ("publish triggers t /s --servers 127.0.0.1:1", "no Kafka broker answers at 127.0.0.1:1"),
        ("predict late", "name rows to ask about"),
        ("held show control:a", "'control:a' is no place of a held event, such as control:triggers:0:12"),
        ("held replay --service nobody", "--service: one of control, data"),
        ("held drop --in limbo", "--in: dead or parked"),
        ("held list --since yesterday", "'yesterday' is no ISO 8601 time, and no time ago such as 2h"),
        ("run pause", "say which: a run, options such as --workflow or --in, or --all"),
        ("run resume last --workflow w", "last is one run: leave it out, or the options that are for many"),
        ("run cancel last --dry-run", "last is one run: leave it out, or the options that are for many"),
        ("run rerun --since yesterday", "--since: 'yesterday' is no ISO 8601 time"),
        ("run rerun --since 2h --request-id r", "--since and --until are then times, so that they mean the same again"),
        ("run rerun last --request-id r", "--request-id: name the run by its id, as `last` may be another one"),
        (
            "run set-result last a skipped --reason r --request-id r",
            "--request-id: name the run by its id, as `last` may",
        ),
        ("run signal go", "say which: a run, options such as --workflow or --in, or --all"),
        ("runs --state nowhere", "start one with `millrace up`"),
        ("publish triggers t /s --state nowhere", "start one with `millrace up`"),
    ],
)
def test_an_error_is_one_line_that_says_what_would_be_right(arguments: str, said: str) -> None:
    told = CliRunner().invoke(app, arguments.split())

    assert told.exit_code == 1
    assert told.stderr.startswith("millrace: ")
    assert said in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_endpoints_that_cannot_be_used_are_told() -> None:
    told = CliRunner().invoke(app, ["runs"], env={"MILLRACE_ENDPOINTS": "control=here", "MILLRACE_TOKEN": "t"})

    assert "MILLRACE_ENDPOINTS is no JSON object" in told.stderr


def test_a_run_shows_whose_its_results_are() -> None:
    tasks = [
        Task(name="a", state="succeeded", set_by="ada: by hand", output_json='{"x": 1}'),
        Task(name="b", state="succeeded", taken_from="3f"),
    ]
    console = Console(file=io.StringIO(), width=200)

    console.print(run_table(Run(run_id="4e", state="paused", tasks=tasks)))

    shown = console.file.getvalue()  # type: ignore[attr-defined] # it is a StringIO
    assert "set by ada: by hand  x 1" in shown
    assert "from run 3f" in shown
