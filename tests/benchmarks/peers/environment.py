"""Where a peer is installed: outside the repository, from the pins beside it, by the machine's own pip, npm and go."""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.sdk.stack.program import run_as

PINS = ("requirements.lock", "package.json", "package-lock.json", "go.mod", "go.sum")
INSTALL_S = 1800.0
SHOWN = 300


class NotRun(Exception):
    """A peer could not be installed, started or measured here; the text says why."""


@dataclass(frozen=True)
class Environment:
    """A peer's programs.

    Attributes:
        folder: Where they are: `python/`, `node_modules/` and `bin/`, whichever the peer has pins for.
    """

    folder: Path

    @property
    def python(self) -> str:
        """The interpreter that has the peer's packages."""
        return str(self.folder / "python/bin/python")


def pinned(pins: Path, package: str) -> str:
    """Return the version of a package that the pins in a folder name.

    Raises:
        LookupError: None does.
    """
    line = re.compile(rf'(?:^|["\s]){re.escape(package)}(?:==|": "| v)([^\s;"\\]+)', re.MULTILINE)
    for name in PINS:
        if (pins / name).exists() and (found := line.search((pins / name).read_text())):
            return found[1]
    raise LookupError(f"{pins} pins no {package}")


def installed(pins: Path, cache: Path) -> Environment:
    """Return the environment that a folder's pins describe, made at the first time; other pins make another one.

    Raises:
        NotRun: Something could not be installed.
    """
    present = [pins / name for name in PINS if (pins / name).exists()]
    digest = hashlib.sha256(sys.version.encode())
    for file in present:
        digest.update(file.read_bytes())
    folder = cache / f"{pins.name}-{digest.hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{pins.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _install(pins, folder)
            (folder / "complete").touch()
    return Environment(folder)


def _install(pins: Path, folder: Path) -> None:
    if (lock := pins / "requirements.lock").exists():
        python = Environment(folder).python
        run([sys.executable, "-m", "venv", str(folder / "python")], INSTALL_S)
        options = ("--quiet", "--disable-pip-version-check", "--require-hashes")
        run([python, "-m", "pip", "install", *options, "-r", str(lock)], INSTALL_S)
    if (pins / "package-lock.json").exists():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(pins / name, folder)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], INSTALL_S, folder)
    if (pins / "go.mod").exists():
        run(["go", "build", "-mod=readonly", "-o", f"{folder / 'bin'}/", "tool"], INSTALL_S, pins)


def run(
    command: Sequence[str],
    seconds: float,
    folder: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> None:
    """Run a command to its end.

    Raises:
        NotRun: It is not there, failed or took too long.
    """
    name = Path(command[0]).name
    try:
        subprocess.run(
            command,
            cwd=folder or "/",
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds,
            **run_as(user),
        )
    except FileNotFoundError:
        raise NotRun(f"{name} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise NotRun(f"`{' '.join(command)}` took longer than {seconds:.0f} s") from None
    except subprocess.CalledProcessError as failed:
        said = (failed.stderr or failed.stdout).strip()
        raise NotRun(f"`{' '.join(command)}` failed: {said[-SHOWN:]}") from None
