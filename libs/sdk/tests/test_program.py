"""`python flow.py`, as somebody does it who has just installed the SDK: an empty folder, no servers."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from millrace.core.parse import parse_workflow
from millrace.sdk.local.program import fields_of

FLOW = """
import os
import time

from millrace.sdk.flows import approve, end, flow, foreach, task, wait
from millrace.sdk.work import progress


@task("data.months")
def months(year: int):
    print("looking for", year)
    return {"all": [{"name": f"{year}-0{n}"} for n in (1, 2, 3)]}


@task("training.fit", retries={"max_attempts": 2, "backoff_s": 0})
def fit(month):
    progress(0.5, "half way")
    if month["name"] == "1999-02":
        raise ValueError("no such month")
    return {"score": len(month["name"]), "process": os.getpid()}


@flow("fit.months", description="Fit a model for each month of a year.")
def all_months(trigger):
    @foreach(months(year=trigger.data.year)["all"], key="/name", concurrency=2)
    def each(month):
        return fit(month=month)

    end("refused", reason="too early", when=trigger.data.year < 1999, after=[each])
    return {"fits": each["items"]}


@task("data.pay")
def pay(budget):
    return {"paid": budget}


@flow("asked")
def asked(trigger):
    labels = wait(signal="labels_ready", name="labels")
    form = {"budget": {"type": "number", "label": "At most"}}
    ok = approve(labels["title"], assignees=["ada", "bob"], need=2, form=form, name="ok")
    return {"votes": ok["votes"], "paid": pay(budget=labels["budget"])["paid"]}


@flow("awaited")
def awaited(trigger):
    return {"uri": wait(event="jobs", key="j1", name="job")["data"]["uri"]}


@task("data.hang")
def hang():
    print("hanging")
    while True:
        time.sleep(0.01)
        progress(0.5)


@task("data.tidy")
def tidy():
    return {"tidied": True}


@flow("hangs")
def hangs():
    hang.step("slow")()
"""
TAIL = '\n\nif __name__ == "__main__":\n    {}\n'
Runs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, last: str) -> Path:
    file = folder / "flow.py"
    file.write_text(FLOW + TAIL.format(last))
    return file


def environment() -> dict[str, str]:
    """Nothing of this machine that leads to a server."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


@pytest.fixture
def runs(folder: Path) -> Runs:
    def run(last: str, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, write(folder, last).name, *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment(), input=said, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_new_users_flow_runs_and_shows_what_it_did(runs: Runs, folder: Path) -> None:
    done = runs("all_months.main()", "--year", "2013")

    assert done.returncode == 0, done.stderr
    assert [one["score"] for one in json.loads(done.stdout)["fits"]] == [7, 7, 7]
    assert re.search(r"\d\d:\d\d:\d\d  months  looking for 2013\n", done.stderr)
    tree = done.stderr[done.stderr.index("task ") :].splitlines()
    shown = [re.split(r"\s{2,}", line.strip())[:3] for line in tree]
    assert shown[1:5] == [
        ["months", "data.months", "succeeded"],
        ["each", "foreach", "succeeded"],
        ["[2013-01]", "body", "succeeded"],
        ["fit", "training.fit", "succeeded"],
    ]
    assert tree[4].startswith("    fit ")
    assert sorted(path.name for path in folder.iterdir()) == ["flow.py"]


def test_a_run_that_fails_shows_the_authors_line_and_leaves_with_1(runs: Runs) -> None:
    done = runs("all_months.main()", "--data", '{"year": 1999}')

    line = 1 + (FLOW + TAIL).splitlines().index('        raise ValueError("no such month")')
    assert done.returncode == 1
    assert done.stdout == ""
    assert f'flow.py:{line}: raise ValueError("no such month")]' in done.stderr
    assert f'flow.py", line {line}, in fit\n' in done.stderr
    assert "millrace/sdk" not in done.stderr, "nothing of ours is in the traceback"
    assert re.search(r"each\[1999-02\]\.fit  again in", done.stderr)


def test_a_script_that_calls_run_local_leaves_with_1_too(runs: Runs) -> None:
    done = runs('print(all_months.run_local({"year": 1999}).output)')

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.rstrip().endswith("(task each[1999-02].fit)")
    assert "ValueError: no such month\n\nThe above exception was the direct cause" in done.stderr


def test_a_run_as_json_is_the_one_document_on_stdout_in_controls_form(runs: Runs) -> None:
    done = runs("all_months.main()", "--year", "1998", "--json", "--quiet")

    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (3, "")
    assert (told["state"], told["cause"], told["trigger_data"]) == ("refused", "too early", {"year": 1998})
    assert [task["name"] for task in told["tasks"]][:3] == ["months", "each", "each[1998-01]"]
    assert told["tasks"][3]["output"]["score"] == 7


def test_the_options_are_the_fields_that_the_flow_reads(runs: Runs) -> None:
    told = runs("all_months.main()", "--help")
    wrong = runs("all_months.main()", "--month", "3")
    no_json = runs("all_months.main()", "--data", "{year")

    assert "Fit a model for each month of a year." in told.stdout
    assert "--year VALUE" in told.stdout
    assert "Example: python flow.py --year …" in told.stdout
    assert (wrong.returncode, no_json.returncode) == (2, 2)
    assert "unrecognized arguments: --month" in wrong.stderr
    assert "write JSON, such as" in no_json.stderr


def test_options_are_read_off_pointers_and_conditions_alike() -> None:
    tasks = {
        "one": {"kind": "data.one", "input": {"a": {"$from": "/trigger/data/flights/uri"}}},
        "two": {"kind": "data.two", "when": "trigger.data.name.startsWith('x') && trigger.data.rows > 3"},
    }
    workflow = parse_workflow({"name": "read", "tasks": tasks})

    assert fields_of(workflow) == ["flights.uri", "name", "rows"]


def test_work_in_processes_is_done_in_others_than_ours(runs: Runs) -> None:
    done = runs("print(os.getpid()); all_months.main()", "--year", "2013", "--processes")

    ours, _, output = done.stdout.partition("\n")
    assert done.returncode == 0, done.stderr
    processes = {one["process"] for one in json.loads(output)["fits"]}
    assert len(processes) == 3
    assert int(ours) not in processes
    assert "  months  looking for 2013\n" in done.stderr


def test_what_a_run_waits_for_from_people_is_asked_and_taken_line_by_line(runs: Runs) -> None:
    said = 'no json\n{"title": "Spend?", "budget": 5}\nmaybe\ny it is cheap\nmuch\n3\ny\n4\n'

    done = runs("asked.main()", said=said)

    assert done.returncode == 0, done.stderr
    votes = json.loads(done.stdout)["votes"]
    assert [(vote["by"], vote["comment"], vote["form"]) for vote in votes] == [
        ("ada", "it is cheap", {"budget": 3}),
        ("bob", "", {"budget": 4}),
    ]
    assert "labels waits for the signal labels_ready" in done.stderr
    assert "that is no JSON" in done.stderr
    assert "ok: Spend?  [y/n, then a comment; as ada]" in done.stderr
    assert "write y to approve or n to reject" in done.stderr
    assert "form.budget: it is 'much', not a number" in done.stderr


def test_an_event_that_a_run_waits_for_is_asked_for(runs: Runs) -> None:
    done = runs("awaited.main()", said='{"uri": "file:///j1"}\n')

    assert (done.returncode, json.loads(done.stdout)) == (0, {"uri": "file:///j1"}), done.stderr
    assert "job waits for an event that trigger jobs takes under key 'j1'; its data as JSON" in done.stderr


def test_a_run_that_only_people_could_go_on_with_ends_when_nobody_can_answer(runs: Runs) -> None:
    done = runs("asked.main()", said="")

    assert done.returncode == 1
    assert "task labels waits for somebody, and nobody can answer: the input has ended" in done.stderr


@pytest.mark.parametrize(("last", "processes"), [("hangs.main()", False), ("hangs.run_local(processes=True)", True)])
def test_an_interruption_ends_with_the_tree_of_what_was_done(folder: Path, last: str, *, processes: bool) -> None:
    command = [sys.executable, str(write(folder, last))]
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        until(program.stderr, "hanging")
        program.send_signal(signal.SIGINT)
        rest = program.stderr.read()

    assert program.returncode in {130, -signal.SIGINT}
    assert "interrupt again to leave at once" in rest
    assert re.search(r"slow +data\.hang +cancelled +1", rest)
    assert ("KeyboardInterrupt" in rest) == processes, "a script sees it as any other"


def until(lines: Iterator[str], word: str) -> None:
    """Read until a line has a word in it."""
    seen = []
    for line in lines:
        seen.append(line)
        if word in line:
            return
    raise AssertionError(f"no {word!r} in {seen}")


def test_on_a_terminal_the_tree_is_drawn_while_it_goes_and_questions_are_asked_below(folder: Path) -> None:
    command = [sys.executable, str(write(folder, "asked.main()"))]
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with (
        closing(os.fdopen(ours, "r+b", buffering=0)) as terminal,
        subprocess.Popen(command, cwd=folder, env={**environment(), "TERM": "xterm", "COLUMNS": "100"}, **streams),
    ):
        os.close(theirs)
        shown = ""
        for asked, answer in (
            ("nothing for {}: ", '{"title": "Spend?", "budget": 5}'),
            ("as ada]: ", "y"),
            ("(a number): ", "3"),
            ("as bob]: ", "n too dear"),
        ):
            shown += read_until(terminal, asked)
            terminal.write(f"{answer}\n".encode())
        shown += read_until(terminal, "rejected it: too dear")

    assert "\x1b[" in shown
    assert re.search(r"labels\s+wait\s+\S*succeeded", shown)
    assert re.search(r"pay\s+data\.pay\s+", shown)


def read_until(terminal: object, words: str) -> str:
    """Return what a terminal shows until it has shown some words."""
    shown = b""
    while words.encode() not in shown:
        shown += os.read(terminal.fileno(), 4_096)  # type: ignore[attr-defined]  # a file
    return shown.decode()


STRAYS = """
import os
import time
from pathlib import Path

from millrace.sdk.flows import flow, task


@task("data.stay", run_timeout_s=1, retries={"max_attempts": 1})
def stay():
    Path("pid").write_text(str(os.getpid()))
    print("staying")
    time.sleep(600)


@task("data.vanish", retries={"max_attempts": 1, "lost": 1, "backoff_s": 0})
def vanish():
    if not Path("vanished").exists():
        Path("vanished").touch()
        os._exit(9)


@flow("strays")
def strays():
    stay.step(after=[vanish()])()


if __name__ == "__main__":
    strays.main()
"""


def test_a_process_is_killed_when_its_time_is_up_and_tried_again_when_it_vanished(folder: Path) -> None:
    (folder / "flow.py").write_text(STRAYS)

    done = subprocess.run(
        [sys.executable, "flow.py", "--processes"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "vanish  attempt 1 failed: lost: the process ended before its work" in done.stderr
    assert "RunTimeout: not finished within 1 s" in done.stderr
    assert not is_alive(int((folder / "pid").read_text()))


def test_a_process_ends_with_the_one_that_it_works_for(folder: Path) -> None:
    (folder / "flow.py").write_text(STRAYS.replace("run_timeout_s=1", "run_timeout_s=600"))
    command = [sys.executable, "flow.py", "--processes"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        until(program.stderr, "staying")
        program.kill()

    ends_by = time.monotonic() + 10
    while is_alive(int((folder / "pid").read_text())):
        assert time.monotonic() < ends_by


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
