"""Generates the gRPC stubs of `millrace.contracts.rpc` from `proto/`.

Run by `make proto`; `make check` runs it with `--check`, which fails when what is committed is stale.
"""

import argparse
import filecmp
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
TARGET = ROOT / "libs/contracts/src/millrace/contracts/rpc"
OPEN_INFERENCE = ROOT / "libs/contracts/src/millrace/contracts/oip"
SUFFIXES = {".py", ".pyi", ".binpb"}
IMPORT = re.compile(r"\bmillrace\.(\w+)\.v1\b(?! ?\.)")


def generate(folder: Path) -> None:
    """Write the stubs of every proto below `folder`, as packages that import one another by full name."""
    protos = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    outs = ["--python_out", "--pyi_out", "--grpc_python_out", "--mypy_grpc_out"]
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--plugin=protoc-gen-mypy_grpc={plugin}"]
    subprocess.run([*command, *(f"{out}={folder}" for out in outs), *protos], check=True)  # noqa: S603 - our own arguments
    for made in sorted((folder / "millrace").rglob("*_pb2*.py*")):
        target = folder / made.relative_to(folder / "millrace")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_renamed(made.read_text()))
        made.unlink()
    for package in {path.parent for path in folder.rglob("*_pb2.py")}:
        for parent in (package, package.parent):
            (parent / "__init__.py").write_text('"""Generated from proto/."""\n')
    (folder / "__init__.py").write_text('"""gRPC stubs, generated from proto/ by libs/contracts/generate.py."""\n')


def generate_open_inference(folder: Path) -> None:
    """Write what `millrace.contracts.oip` makes its classes from, and their types."""
    outs = [f"--descriptor_set_out={folder / 'open_inference.binpb'}", f"--pyi_out={folder}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{OPEN_INFERENCE}", *outs, "open_inference.proto"]
    subprocess.run(command, check=True)  # noqa: S603 - our own arguments
    (folder / "open_inference_pb2.pyi").rename(folder / "messages.pyi")


def _renamed(text: str) -> str:
    lines = text.splitlines(keepends=True)
    python = ("from millrace.", "import millrace.")
    return "".join(
        IMPORT.sub(r"millrace.contracts.rpc.\1.v1", line)
        if line.startswith(python) or ("_pb2" in line and "DESCRIPTOR" not in line and "'millrace." not in line)
        else line
        for line in lines
    )


def main() -> None:
    """Regenerate, or compare with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the committed stubs are stale")
    check = parser.parse_args().check
    kept = sorted(path.relative_to(TARGET) for path in TARGET.rglob("*.py*") if "__pycache__" not in path.parts)
    stale = _refresh(generate, TARGET, kept, check=check)
    stale += _refresh(generate_open_inference, OPEN_INFERENCE, [], check=check)
    if check and stale:
        sys.exit(f"stale stubs, run `make proto`: {', '.join(map(str, stale))}")


def _refresh(make: Callable[[Path], None], target: Path, kept: list[Path], *, check: bool) -> list[Path]:
    """Return which files of `target` are stale; unless it is only checked, they are written or removed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder)
        fresh = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix in SUFFIXES)
        same = {p for p in fresh if (target / p).exists() and filecmp.cmp(folder / p, target / p, shallow=False)}
        stale = [path for path in fresh if path not in same]
        stale += [path for path in kept if path not in fresh]
        for path in [] if check else stale:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            if path in fresh:
                (target / path).write_bytes((folder / path).read_bytes())
            else:
                (target / path).unlink()
    return stale


if __name__ == "__main__":
    main()
