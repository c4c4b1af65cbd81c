"""Writes the lock files: versions and hashes of everything installed, no addresses.

One lock for the workspace; each distribution's own is compiled within it, so that all of them install together. The
peers of the benchmarks never do: each has a lock of its own.
Run by `make locks` after a change to any pyproject.toml; the package index is the one pip is configured for.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OWN = "millrace-"


def distributions() -> dict[str, Path]:
    """Return the folders of our own distributions, by name."""
    files = sorted((*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")))
    return {f"{OWN}{file.parent.name}": file.parent for file in files}


def needs(name: str, folders: dict[str, Path], *, extras: bool) -> set[str]:
    """Return what a distribution needs from others, through our own ones too."""
    project = tomllib.loads((folders[name] / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    wanted = list(project["dependencies"])
    if extras:
        wanted += [need for extra in project.get("optional-dependencies", {}).values() for need in extra]
    for need in wanted:
        if need.startswith(OWN):
            found |= needs(need.partition("[")[0], folders, extras=False)
        else:
            found.add(need)
    return found


def asked(file: Path) -> set[str]:
    """Return the requirements that a file lists."""
    return {line for line in file.read_text().splitlines() if line[:1] not in ("", "#")}


def compile_lock(wanted: set[str], target: Path, *, within: Path | None = None) -> None:
    """Write a lock of some requirements, within another lock's versions where one is given."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write("\n".join(sorted(wanted)) + "\n")
        file.flush()
        subprocess.run(  # noqa: S603 - our own arguments
            [
                *(sys.executable, "-m", "uv", "pip", "compile", file.name, "--quiet", "--generate-hashes"),
                *("--no-emit-index-url", "--no-annotate", "--no-header", "--python-version", "3.11"),
                *("--universal", "--output-file", str(target)),
                *(("--constraint", str(within)) if within else ()),
            ],
            check=True,
        )


def main() -> None:
    """Write every lock."""
    folders = distributions()
    everything = set().union(*(needs(name, folders, extras=True) for name in folders))
    listed = {name: asked(ROOT / f"requirements/{name}.in") for name in ("build", "dev")}
    lock = ROOT / "requirements/dev.lock"
    compile_lock(everything | listed["dev"] | listed["build"], lock)
    compile_lock(everything | listed["build"], ROOT / "requirements/all.lock", within=lock)
    for name, folder in folders.items():
        compile_lock(needs(name, folders, extras=False) | listed["build"], folder / "requirements.lock", within=lock)
    for file in sorted(ROOT.glob("tests/benchmarks/peers/*/requirements.in")):
        compile_lock(asked(file), file.with_suffix(".lock"))


if __name__ == "__main__":
    main()
