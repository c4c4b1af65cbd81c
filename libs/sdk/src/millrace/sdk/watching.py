"""A run as it goes, in control or in this process: a live tree on a terminal, a line for each change elsewhere."""

import json
from datetime import datetime
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.control.v1.control_pb2 import Run, Task
from millrace.sdk.rendering import console, duration, moment, state_text, table, took
from rich.live import Live
from rich.table import Table
from rich.text import Text

_GOING = frozenset({"queued", "dispatched", "running", "retry_wait", "waiting", "open", "closing"})
_SHORT_CHARS = 12
_NOTE_CHARS = 90


def run_table(run: Run, *, wide: bool = False) -> Table:
    """Return a run with its tasks: states, attempts, durations, and what they say."""
    shown = table("task", "kind", "state", "attempts", "took", "")
    shown.title = f"{run.workflow}  {run.run_id}"
    shown.title_justify = "left"
    shown.caption_justify = "left"
    for task in run.tasks:
        attempts = str(task.attempts) if task.attempts else ""
        note = _note(task, None if wide else _NOTE_CHARS)
        shown.add_row(_indented(task.name), task.kind, state_text(task.state), attempts, duration(_took_s(task)), note)
        for one in task.ended_attempts if wide else ():
            if one.attempt < task.attempts:  # what the latest says is said of the task
                how = "lost" if one.lost else "failed"
                took_s = duration(took(one.dispatched_at, one.ended_at))
                shown.add_row("", "", how, str(one.attempt), took_s, one.error, style="dim")
    caption = Text.assemble(state_text(run.state), f"  {duration(took(run.started_at, run.ended_at))}")
    shown.caption = caption.append(f"  {run.cause}" if run.cause else "")
    return shown


class Watcher:
    """Shows a run while it changes.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._run = Run()
        self._live = Live(console=console, refresh_per_second=4, get_renderable=lambda: run_table(self._run))

    def __enter__(self) -> Self:
        if not self._quiet and console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tell(self, run: Run) -> None:
        """Show how the run is now."""
        before, self._run = self._run, run
        if not self._quiet and not console.is_terminal:
            for line in changes(before, run):
                print(f"{datetime.now().astimezone():%H:%M:%S}  {line}", flush=True)


def changes(before: Run, run: Run) -> list[str]:
    """Return what is new of a run, a line for each task that changed its state or its attempt, and one for the run."""
    was = {task.name: (task.state, task.attempts) for task in before.tasks}
    lines = [task_line(task) for task in run.tasks if was.get(task.name, ("blocked", 0)) != (task.state, task.attempts)]
    if before.state != run.state:
        lines.append("  ".join(filter(None, (f"run {run.run_id}", run.workflow, run.state, run.cause))))
    return lines


def task_line(task: Task) -> str:
    """Return how a task is now, in one line."""
    return "  ".join(filter(None, (task.name, task.state, _attempt(task), duration(task.duration_s), _note(task))))


def _indented(name: str) -> str:
    """Return a task's own name, as far in as the bodies are deep that it is in."""
    deep = name.count(".") + name.count("[")
    return "  " * deep + (name[name.rindex("[") :] if name.endswith("]") else name.rpartition(".")[2])


def _attempt(task: Task) -> str:
    return f"attempt {task.attempts}" if task.attempts > 1 else ""


def _took_s(task: Task) -> float:
    return task.duration_s or (took(task.dispatched_at, Timestamp()) if task.state in _GOING else 0.0)


def _note(task: Task, most_chars: int | None = _NOTE_CHARS) -> str:
    """Return who has set its result, where that is from, when it was due, and what a task says."""
    set_by = f"set by {task.set_by}" if task.set_by else ""
    taken_from = f"from run {task.taken_from}" if task.taken_from else ""
    outside = f"outside: {task.external_ref}" if task.external_ref else ""
    wide = most_chars is None
    told = (set_by, taken_from, outside, _cached(task, wide=wide), _due(task), _needs(task) if wide else "")
    return "  ".join(filter(None, (*told, _said(task, most_chars))))


def _cached(task: Task, *, wide: bool) -> str:
    """Return what the cache had for a task; that it had nothing, only where there is room for the reason."""
    if not task.cache_json:
        return ""
    asked = json.loads(task.cache_json)
    key = f"key {asked['key'][:_SHORT_CHARS]}"
    match asked.get("found"):
        case "hit":
            at = datetime.fromisoformat(asked["at"]).astimezone()
            return (
                f"from cache: {key}, computed by run {asked['run_id']} task {asked['task']} at {at:%Y-%m-%d %H:%M:%S}"
            )
        case "miss":
            return f"not in the cache: {key}: {asked['why']}" if wide else ""
    return f"waits for who computes {key}" if task.state == "waiting" else ""


def _due(task: Task) -> str:
    if task.HasField("missed_at"):
        return f"missed its deadline {moment(task.missed_at)}"
    return f"due {moment(task.deadline_at)}" if task.HasField("deadline_at") else ""


def _needs(task: Task) -> str:
    """Return what a worker needs for a task."""
    if not task.resources_json:
        return ""
    return "needs " + ", ".join(f"{name} {amount}" for name, amount in json.loads(task.resources_json).items())


def _said(task: Task, most_chars: int | None) -> str:
    """Return what a task says: what it waits for, why it was skipped, its error, how far it is, what it handed on."""
    if task.state == "queued":
        return task.waits_for or f"waits for slots of pool {task.pool}"
    if task.error or task.skipped_because:
        return task.error or task.skipped_because
    if task.state == "waiting" and task.waits_for:
        return task.waits_for
    if task.state in _GOING:
        return f"{task.progress:.0%} {task.progress_message}".rstrip() if task.progress else ""
    output = json.loads(task.output_json) if task.output_json else None
    if not isinstance(output, dict):
        return ""
    text = "  ".join(
        f"{name} {_short(value)}" for name, value in output.items() if isinstance(value, str | int | float) and value
    )
    return text if most_chars is None or len(text) <= most_chars else text[: most_chars - 1] + "…"


def _short(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    is_hash = len(text) == 64  # noqa: PLR2004 - hex digits of a SHA-256
    return text[:_SHORT_CHARS] if is_hash else text
