"""`millrace up`, `down`, `status` and `logs`."""

import json
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from millrace.sdk.cli.connection import FOLDER, Folder, Json
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.state import FIRST_PORT, PARTS, Ports

if TYPE_CHECKING:
    from millrace.sdk.stack.embedded import Embedded, PartStatus, Phase

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

app = typer.Typer()
_console = Console()
_FOLLOW_S = 0.2
_STYLES = {"starting": "yellow", "ready": "green", "stopping": "yellow", "stopped": "dim"}

Port = Annotated[int | None, typer.Option("--port", help=f"First of the 40 ports to use; {FIRST_PORT} at first.")]
Roots = Annotated[
    list[Path] | None,
    typer.Option("--data-root", help="Folder that data may be read from; by default the one that holds the state."),
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Stay, show the logs, and stop all on Ctrl-C.")]
Part = Annotated[str | None, typer.Argument(help=f"One of {', '.join(PARTS)}; all when not given.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written, until Ctrl-C.")]
Lines = Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines of each log to show.")]


@app.command()
def up(
    state: Folder = FOLDER,
    port: Port = None,
    data_root: Roots = None,
    foreground: Foreground = False,
    as_json: Json = False,
) -> None:
    """Start PostgreSQL, Kafka and the seven services; return when all are ready.

    The data of earlier starts is there again. The first start fetches Kafka, once.

    Example: `millrace up --data-root ./landing`
    """
    stack = _stack(state, data_root or ())
    with _Progress(quiet=as_json) as progress:
        stack.up(progress.tell, Ports(port) if port else None)
    if as_json:
        _print_json(stack)
    else:
        folder = stack.state.folder
        _console.print(f"Millrace runs; its data and logs are in [bold]{folder}[/]. `millrace status`, `millrace down`")
    if foreground:
        _stay(stack)


@app.command()
def down(state: Folder = FOLDER, as_json: Json = False) -> None:
    """Stop the services, then Kafka, then PostgreSQL; the data stays.

    Example: `millrace down`
    """
    stack = _stack(state)
    with _Progress(quiet=as_json) as progress:
        stopped = stack.down(progress.tell)
    if as_json:
        print(json.dumps({"state": str(stack.state.folder), "stopped": stopped}))
    elif not stopped:
        _console.print(f"nothing runs in {stack.state.folder}")


@app.command()
def status(state: Folder = FOLDER, as_json: Json = False) -> None:
    """Show each part: whether it is ready, since when and where it answers.

    Leaves with status 1 unless all are ready.

    Example: `millrace status --json`
    """
    stack = _stack(state)
    parts = _print_json(stack) if as_json else _print_table(stack)
    raise typer.Exit(0 if all(part.ready for part in parts) else 1)


@app.command()
def logs(
    part: Part = None, state: Folder = FOLDER, follow: Follow = False, lines: Lines = 50, as_json: Json = False
) -> None:
    """Show what a part wrote, or all of them; with `--json` an object for each line: its part and its text.

    Example: `millrace logs training --follow`
    """
    if part and part not in (*PARTS, "supervisor"):
        raise CannotStart(f"there is no part {part}: it is one of {', '.join(PARTS)}")
    _show_logs(_stack(state), [part] if part else PARTS, lines, follow=follow, as_json=as_json)


def _stack(state: Path, roots: Sequence[Path] = ()) -> "Embedded":
    try:
        from millrace.sdk.stack.embedded import Embedded  # noqa: PLC0415  # there only with the extra [stack]
    except ImportError as error:
        missing = f"the embedded stack is not installed ({error.name} is missing)"
        raise CannotStart(f"{missing}: pip install 'millrace-sdk[stack]'") from error
    return Embedded(state, roots=roots)


class _Progress:
    """A live table of the parts as they start or stop; nothing moves when the output is not a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._began = time.monotonic()
        self._rows: dict[str, tuple[Phase, str, float]] = {}
        self._live = Live(console=_console, refresh_per_second=8, get_renderable=self._table)

    def __enter__(self) -> Self:
        if not self._quiet and _console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tell(self, name: str, phase: "Phase", note: str) -> None:
        """Show that a part is in a phase."""
        elapsed_s = time.monotonic() - self._began
        self._rows[name] = (phase, note, elapsed_s)
        if not self._quiet and not _console.is_terminal:
            print(f"{elapsed_s:5.1f} s  {name}: {phase}{' ' + note if note else ''}", flush=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, (phase, note, since_s) in self._rows.items():
            table.add_row(name, Text(phase, style=_STYLES[phase]), f"{since_s:.1f} s", Text(note, style="dim"))
        return table


def _print_json(stack: "Embedded") -> list["PartStatus"]:
    parts = stack.status()
    running = any(part.pid for part in parts)
    shown = {"state": str(stack.state.folder), "running": running, "parts": [asdict(part) for part in parts]}
    print(json.dumps(shown, indent=2))
    return parts


def _print_table(stack: "Embedded") -> list["PartStatus"]:
    parts = stack.status()
    table = Table("part", "state", "process", "up", Column("address", overflow="fold"), box=None, header_style="bold")
    for part in parts:
        style = "green" if part.ready else "dim" if part.state == "stopped" else "red"
        pid, up_s = (str(part.pid), f"{part.up_s} s") if part.pid else ("", "")
        table.add_row(part.name, Text(part.state, style=style), pid, up_s, part.address)
    _console.print(f"{stack.state.folder}")
    _console.print(table)
    return parts


def _stay(stack: "Embedded") -> None:
    with _interrupted_by_sigterm():
        try:
            _show_logs(stack, PARTS, 0, follow=True, as_json=False)
        finally:
            with _Progress(quiet=False) as progress:
                stack.down(progress.tell)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_logs(stack: "Embedded", parts: Sequence[str], lines: int, *, follow: bool, as_json: bool) -> None:
    def show(part: str, line: str) -> None:
        prefix = f"{part:<13} | " if len(parts) > 1 else ""
        print(json.dumps({"part": part, "line": line}) if as_json else prefix + line, flush=True)

    read = dict.fromkeys(parts, 0)
    for part in parts:
        log = stack.state.log(part)
        if log.exists():
            with log.open(errors="replace") as content:
                for line in deque(content, maxlen=lines):
                    show(part, line.rstrip("\n"))
                read[part] = log.stat().st_size
    while follow:
        try:
            time.sleep(_FOLLOW_S)
        except KeyboardInterrupt:
            return
        for part in parts:
            read[part] = _show_new(stack.state.log(part), read[part], partial(show, part))


def _show_new(log: Path, read_bytes: int, show: Callable[[str], None]) -> int:
    """Show the whole lines written since; a shorter file is a new one."""
    if not log.exists():
        return 0
    with log.open("rb") as content:
        content.seek(read_bytes if log.stat().st_size >= read_bytes else 0)
        new = content.read()
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.decode(errors="replace").splitlines():
            show(line)
        return content.tell() - len(new) + len(whole)
