"""Where a task stands in a run: `ingest`, `each[2013-01].train`, `pick.large.train`.

A *scope* is one body that is being run: the run itself (the empty path), an item or iteration `each[2013-01]`, a branch
`pick.large`. Tasks are in scopes, scopes are in tasks; the parent of either is the other.
"""

import re
from collections.abc import Iterator

ROOT = ""
#: So that a path of eight keys and names is no longer than what an index of PostgreSQL takes, 2,704 bytes.
MAX_KEY_BYTES = 250
_KEY = re.compile(r"\[[^\]]*\]")
_END_OF_FIRST = re.compile(r"[.\[]")
_ESCAPED = str.maketrans({character: f"%{ord(character):02X}" for character in "%.[]"})


def inside(scope: str, name: str) -> str:
    """Return the path of a task in a scope."""
    return f"{scope}.{name}" if scope else name


def escaped(key: str) -> str:
    """Return a key as it stands in a path."""
    return key.translate(_ESCAPED)


def item(task: str, key: str) -> str:
    """Return the path of the scope of one item or iteration of a task."""
    return f"{task}[{escaped(key)}]"


def parent(path: str) -> str:
    """Return the scope that a task is in, or the task that a scope belongs to."""
    return path[: path.rindex("[")] if path.endswith("]") else path.rpartition(".")[0]


def leaf(path: str) -> str:
    """Return a task's own name."""
    return path.rpartition(".")[2]


def first_task(path: str) -> str:
    """Return the task of the workflow itself that a path leads into."""
    return _END_OF_FIRST.split(path, maxsplit=1)[0]


def written(path: str) -> str:
    """Return the path as it stands in the workflow: without keys."""
    return _KEY.sub("[]", path) if "[" in path else path


def is_within(path: str, other: str) -> bool:
    """Return whether `path` lies in `other`, a task or a scope, and is not that itself."""
    return other == ROOT or (path.startswith(other) and path[len(other) : len(other) + 1] in {".", "["})


def scopes_around(scope: str) -> Iterator[str]:
    """Yield a scope, the one that its task is in, and so on to the run."""
    yield scope
    while scope:
        scope = parent(parent(scope))
        yield scope
