"""What docs/local.md and the README say of flows on one machine is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/local.md").read_text()


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=os.environ
    )


def test_every_example_of_the_page_runs_as_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    for name, text in blocks:
        (tmp_path / name).write_text(text)

    program = run(tmp_path, "flow.py", "--year", "2013")
    script = run(tmp_path, "script.py")
    tests = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_flow.py")

    assert [name for name, _ in blocks] == ["flow.py", "script.py", "test_flow.py"]
    assert PAGE.count("```python") == len(blocks)
    assert (program.returncode, program.stdout.split()) == (0, ["{", '"scores":', "[", "0.7,", "0.7,", "0.7", "]", "}"])
    assert script.stdout.splitlines()[0] == "succeeded [0.7, 0.7, 0.7] {'name': '2013-01'}"
    assert "3 passed" in tests.stdout, tests.stdout


def test_the_options_that_the_page_lists_are_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(re.findall(r"```python\n# flow.py\n(.*?)```", PAGE, re.DOTALL)[0])

    told = run(tmp_path, "flow.py", "--help").stdout

    listed = set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE))
    assert listed == set(re.findall(r"^  (--[a-z-]+)", told, re.MULTILINE)) - {"--year"}


def test_the_flow_of_the_readme_runs_by_itself(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (text,) = [one for one in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "__main__" in one]
    (tmp_path / "flow.py").write_text(text)
    (command,) = re.findall(r"`python (flow\.py [^`]*)`", readme)

    done = run(tmp_path, *command.split())

    assert done.returncode == 0, done.stderr
