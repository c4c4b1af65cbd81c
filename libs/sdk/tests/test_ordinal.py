"""Tests of the ordinals of a queue's workers."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from millrace.runtime.errors import Conflict, Unavailable
from millrace.sdk.worker import ordinal

HOLD = """
import time
from millrace.sdk.worker import ordinal
with ordinal("acme", "here") as own:
    print(own, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / f"millrace-workers-{os.getuid()}"


@contextmanager
def holding() -> Iterator[int]:
    """Have another process hold an ordinal until the block ends and it is killed."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def test_two_workers_of_a_queue_never_have_one_ordinal_and_one_that_was_killed_has_its_own_again() -> None:
    with ExitStack() as first:
        was = first.enter_context(holding())
        with holding() as other:
            first.close()
            with holding() as again:
                assert (was, other, again) == (0, 1, 0)


def test_an_ordinal_that_is_wanted_and_taken_is_refused() -> None:
    with ordinal("acme", "here", 3), pytest.raises(Conflict, match="a worker of queue acme runs here as instance 3"):
        ordinal("acme", "here", 3).__enter__()
    with ordinal("acme", "here", 3) as own:
        assert own == 3


def test_other_queues_and_other_places_do_not_count() -> None:
    with ordinal("acme", "here"), ordinal("acme", "there") as there, ordinal("acme2", "here") as other:
        assert (there, other) == (0, 0)


def test_a_folder_that_somebody_else_has_made_is_not_used(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")

    with pytest.raises(Unavailable, match="belongs to somebody else"):
        ordinal("acme", "here").__enter__()
