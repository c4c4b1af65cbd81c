"""`make service name=x` makes a service that is checked, tested and started like any other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.new_service import make_service

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository with a new service `notes`, its stubs generated, its name among the services."""
    for part in ("libs/contracts", "proto"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / file, tmp_path)
    make_service("notes", tmp_path)
    subprocess.run([sys.executable, "libs/contracts/generate.py"], cwd=tmp_path, check=True, timeout=120)
    contracts = tmp_path / "libs/contracts/src/millrace/contracts/__init__.py"
    contracts.write_text(contracts.read_text().replace("SERVICES = (", 'SERVICES = ("notes", ', 1))
    return tmp_path


def run(copy: Path, *arguments: str, **environment: str) -> Any:
    sources = f"{copy}/services/notes/src:{copy}/libs/contracts/src"
    command = [sys.executable, "-m", *arguments]
    variables = os.environ | {"PYTHONPATH": sources} | environment
    return subprocess.run(command, cwd=copy, env=variables, check=False, capture_output=True, text=True, timeout=120)


def test_a_new_service_is_checked_tested_and_started_like_any_other(copy: Path, tmp_path: Path) -> None:
    checked = run(copy, "ruff", "check", "services")
    formatted = run(copy, "ruff", "format", "--check", "services")
    tested = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "services/notes")
    imported = run(copy, "millrace.runtime", "notes")
    (tmp_path / "jwks.json").write_text('{"keys": []}')

    assert checked.returncode == 0, checked.stdout
    assert formatted.returncode == 0, formatted.stdout
    assert tested.returncode == 0, tested.stdout
    assert imported.returncode == 2
    assert imported.stderr.startswith("notes cannot start; settings come from NOTES_…: postgres_dsn: Field required")


def test_its_wiring_can_be_imported(copy: Path) -> None:
    script = "import sys, millrace.notes.app as app; sys.exit(0 if callable(app.main) else 1)"
    environment = os.environ | {"PYTHONPATH": f"{copy}/services/notes/src:{copy}/libs/contracts/src"}

    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)


@pytest.mark.parametrize("name", ["data", "Notes", "two-words", "", "9lives"])
def test_a_name_that_is_taken_or_no_word_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no service's name|already"):
        make_service(name, ROOT)
