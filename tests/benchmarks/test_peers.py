import asyncio
import json
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from tests.benchmarks.bars import tell
from tests.benchmarks.peers.comparison import bars, figures, shown
from tests.benchmarks.peers.environment import PINS, Environment, NotRun, pinned, run
from tests.benchmarks.peers.known import PEERS, named
from tests.benchmarks.peers.load import IN_FLIGHT, STEPS, closed_loop
from tests.benchmarks.peers.peer import Found, Peer, measure, measure_all
from tests.benchmarks.peers.running import Loop, Running

OURS = Found("this build", 250.0, 1.2)
CHEAP, DEAR = PEERS["restate"], PEERS["dbos"]  # at least as much as we need, and three times that
#: A peer's program: each run takes 2 ms of a processor, in a child that does not end by itself.
PROGRAM = """
import asyncio, sys, time
from concurrent.futures import ProcessPoolExecutor
from tests.benchmarks.peers.load import answer

def burn():
    end = time.process_time() + 0.002
    while time.process_time() < end:
        pass

pool = ProcessPoolExecutor(1)

async def run():
    await asyncio.get_running_loop().run_in_executor(pool, burn)
    return int(sys.argv[2])

asyncio.run(answer(run))
"""


def told(capsys: pytest.CaptureFixture[str], found: Mapping[str, Found | NotRun]) -> tuple[int, dict[str, object]]:
    peers = [PEERS[name] for name in found]
    code = tell(figures(found, OURS), at_least=bars(peers))
    return code, json.loads(capsys.readouterr().out)


def text(found: Mapping[str, Found | NotRun]) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(shown([PEERS[name] for name in found], found, OURS), markup=False)
    return captured.get()


def in_process(tmp_path: Path, *, comes_to: int = STEPS) -> Peer:
    """A peer whose program needs no environment of its own."""

    def start(_: Environment, running: Running) -> Loop:
        running.start("server", [sys.executable, "-c", "import time; time.sleep(600)", str(tmp_path)], lambda: True)
        return running.loop([sys.executable, "-c", PROGRAM, str(tmp_path), str(comes_to)])

    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "package.json").write_text('{"dependencies": {"burner": "1.2.3"}}')
    return Peer("burner", pins, "burner", 1, "in process", "nothing", start)


def test_a_peers_processor_time_per_step_is_told_over_ours(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = told(capsys, {"restate": Found("1.7", 200.0, 1.2), "dbos": Found("3.4", 80.0, 4.8)})

    assert (line["restate_cpu_ratio"], line["dbos_cpu_ratio"]) == (1, 4)
    assert line["peers"] == {
        "restate": {"version": "1.7", "runs_per_s": 200.0, "cpu_ms_per_step": 1.2},
        "dbos": {"version": "3.4", "runs_per_s": 80.0, "cpu_ms_per_step": 4.8},
    }
    assert (code, line["held"], line["missed"]) == (0, True, [])


def test_a_peer_that_needs_less_than_is_claimed_misses_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = told(capsys, {"restate": Found("1.7", 200.0, 1.19), "dbos": Found("3.4", 80.0, 3.59)})

    assert (code, line["held"]) == (1, False)
    assert line["missed"] == ["restate_cpu_ratio >= 1", "dbos_cpu_ratio >= 3"]


def test_a_peer_that_is_absent_is_not_run_and_has_not_passed(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"restate": Found("1.7", 200.0, 2.4), "airflow": NotRun("pip failed: no such [version]")}

    code, line = told(capsys, found)

    assert (code, line["held"], line["missed"]) == (1, False, ["airflow_cpu_ratio >= 100"])
    assert "airflow_cpu_ratio" not in line
    assert line["peers"]["airflow"] == {"not_run": "pip failed: no such [version]"}
    assert re.search(r"airflow .* not run .* >= 100", text(found))
    assert "airflow: not run: pip failed: no such [version]" in text(found)


def test_the_table_has_what_was_found_and_what_is_on_the_disk() -> None:
    shows = text({"restate": Found("1.7", 200.04, 2.4)})

    assert re.search(r"millrace .* this build .* 250\.0 .* 1\.200 ", shows)
    assert re.search(r"restate .* 1\.7 .* 200\.0 .* 2\.400 .* 2\.00 .* >= 1 ", shows)
    assert f"{CHEAP.setup}; on the disk when a step is done: {CHEAP.flushes}" in shows


def test_without_peers_the_last_line_is_as_it_was() -> None:
    assert figures({}, OURS) == {}


def test_the_bars_are_those_of_the_issue() -> None:
    issue = {"restate": 1, "dbos": 3, "temporal": 15, "dagster": 30, "prefect": 50, "airflow": 100}

    assert {name: peer.bar for name, peer in PEERS.items()} == issue


def test_peers_are_asked_for_by_name() -> None:
    assert named("all") == tuple(PEERS.values())
    assert named("dbos,restate") == (DEAR, CHEAP)
    with pytest.raises(ArgumentTypeError, match=r"there is no kestra; there are restate, dbos, "):
        named("dbos,kestra")


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_peer_is_pinned_by_hash_and_by_no_address(peer: Peer) -> None:
    pins = {name: (peer.pins / name).read_text() for name in PINS if (peer.pins / name).exists()}

    assert re.fullmatch(r"v?\d+(\.\d+)+", pinned(peer.pins, peer.package))
    assert peer.setup
    assert peer.flushes
    for name, content in pins.items():
        assert '"resolved"' not in content, name
        assert not re.search(r"index-url|find-links|://", content), name
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", pins["requirements.lock"]))
    assert ("go.mod" in pins) == ("go.sum" in pins)
    assert ("package.json" in pins) == ("package-lock.json" in pins)


async def test_the_loop_has_as_many_runs_open_as_ours_and_counts_those_that_ended() -> None:
    open_now, most, ended = 0, 0, 0

    async def one() -> int:
        nonlocal open_now, most, ended
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        ended += 1
        return STEPS

    done, took_s = await closed_loop(one, 0.02)

    assert (most, done) == (IN_FLIGHT, ended)
    assert took_s >= 0.02


async def test_a_run_that_did_not_do_its_steps_does_not_count() -> None:
    async def one() -> int:
        return STEPS - 1

    with pytest.raises(RuntimeError, match="came to 4"):
        await closed_loop(one, 0.02)


def test_all_processes_of_a_peer_are_counted_and_ended(tmp_path: Path) -> None:
    found = measure(in_process(tmp_path), tmp_path / "cache", warm_up_s=0.1, measured_s=0.5)

    assert found.version == "1.2.3"
    assert found.runs_per_s > 0
    assert found.cpu_ms_per_step * STEPS >= 1.5
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in (p.info["cmdline"] or [])] == []


def test_a_peer_that_fails_under_the_load_is_not_run_and_says_why(tmp_path: Path) -> None:
    peer = in_process(tmp_path, comes_to=4)

    found = measure_all([peer], tmp_path / "cache")

    assert isinstance(found["burner"], NotRun)
    assert "a run of 5 steps that add 1 came to 4" in str(found["burner"])


def test_a_peer_that_does_not_start_is_not_run_and_says_why(tmp_path: Path) -> None:
    def start(_: Environment, running: Running) -> Loop:
        running.start("server", [sys.executable, "-c", "raise SystemExit('no room')"], lambda: False)
        raise AssertionError("it started")

    found = measure_all([Peer("broken", tmp_path, "x", 1, "-", "-", start)], tmp_path / "cache")

    assert "server ended while starting" in str(found["broken"])
    assert "no room" in str(found["broken"])


def test_what_cannot_be_installed_says_why() -> None:
    with pytest.raises(NotRun, match="no-such-program is not on this machine"):
        run(["no-such-program"], 1)
    with pytest.raises(NotRun, match="failed: no such package"):
        run([sys.executable, "-c", "raise SystemExit('no such package')"], 30)
