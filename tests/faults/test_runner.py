"""The runner of the matrix."""

import subprocess
import sys

# pytest refuses to start where what it rewrites has been imported.
LOADED = """
import sys
import tests.faults.__main__
print(*sorted(name for name in sys.modules if name.partition(".")[0] in {"anyio", "hypothesis", "millrace"}))
"""


def test_what_the_runner_loads_before_pytest_starts_is_no_part_of_a_service() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True, timeout=60)

    assert not loaded.stdout.split()
