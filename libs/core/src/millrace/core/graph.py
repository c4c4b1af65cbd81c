"""A workflow as a picture: Mermaid for pages, DOT for Graphviz."""

import json
import re
from collections.abc import Iterator

from millrace.core.ir import Task, Workflow
from millrace.core.paths import inside

_PLAIN = re.compile(r"[^a-z0-9_]")
_LABEL_CHARS = 60


def mermaid(workflow: Workflow) -> str:
    """Return a Mermaid flowchart; what runs whatever became of its needs has dotted arrows."""
    return "\n".join(["flowchart TD", *_mermaid(workflow.tasks, "", "  ")]) + "\n"


def dot(workflow: Workflow) -> str:
    """Return a Graphviz digraph, with a cluster for each body."""
    head = f"digraph {json.dumps(workflow.name)} {{"
    return "\n".join([head, "  node [shape=box];", *_dot(workflow.tasks, "", "  "), "}"]) + "\n"


def _mermaid(tasks: dict[str, Task], scope: str, indent: str) -> Iterator[str]:
    for name, task in tasks.items():
        path = inside(scope, name)
        label = "<br/>".join(part.replace('"', "#quot;") for part in _label(name, task))
        bodies = list(task.bodies())
        if bodies:
            yield f'{indent}subgraph {_id(path)}["{label}"]'
            for suffix, _, body in bodies:
                yield f'{indent}  subgraph {_id(path + suffix)}["{_title(suffix)}"]'
                yield from _mermaid(body.tasks, path + suffix, f"{indent}    ")
                yield f"{indent}  end"
            yield f"{indent}end"
        else:
            yield f'{indent}{_id(path)}["{label}"]'
    for name, task in tasks.items():
        arrow = "-.->" if task.run_if == "settled" else "-->"
        yield from (f"{indent}{_id(inside(scope, need))} {arrow} {_id(inside(scope, name))}" for need in task.needs)


def _dot(tasks: dict[str, Task], scope: str, indent: str) -> Iterator[str]:
    for name, task in tasks.items():
        path = inside(scope, name)
        label = json.dumps("\n".join(_label(name, task)), ensure_ascii=False)
        bodies = list(task.bodies())
        if bodies:
            yield f"{indent}subgraph cluster_{_id(path)} {{"
            yield f"{indent}  {_id(path)} [label={label}, shape=plaintext];"
            for suffix, _, body in bodies:
                yield f"{indent}  subgraph cluster_{_id(path + suffix)} {{"
                yield f"{indent}    label={json.dumps(_title(suffix))};"
                yield from _dot(body.tasks, path + suffix, f"{indent}    ")
                yield f"{indent}  }}"
            yield f"{indent}}}"
        else:
            yield f"{indent}{_id(path)} [label={label}];"
    for name, task in tasks.items():
        style = " [style=dotted]" if task.run_if == "settled" else ""
        yield from (f"{indent}{_id(inside(scope, need))} -> {_id(inside(scope, name))}{style};" for need in task.needs)


def _label(name: str, task: Task) -> list[str]:
    what = task.kind or task.form
    if task.end is not None:
        what = f"end: {task.end.state}"
    lines = [name, what]
    if task.when is not None:
        lines.append(task.when if len(task.when) <= _LABEL_CHARS else f"{task.when[: _LABEL_CHARS - 1]}…")
    return lines


def _title(suffix: str) -> str:
    return "each" if suffix == "[]" else suffix.removeprefix(".")


def _id(path: str) -> str:
    """Return a name that neither language keeps for itself: `end` is a word of Mermaid."""
    return "t_" + _PLAIN.sub("__", path)
