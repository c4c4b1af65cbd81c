"""The key of a result: all that it depends on, and what is said of it so that two can be compared."""

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from millrace.core.ir import Task
from millrace.core.parts import Cache
from millrace.core.references import has_references
from millrace.core.state import CACHE, SET_BY, TaskRun, TaskState, TellCache

MOST_FIELDS = 50
"""The most fields of an input that are told apart where it is said what differs."""
REFERRED_S = 30 * 86_400.0
"""How long a result is kept at most that refers to artifacts, seconds."""
_VERSION, _DIGITS = 1, 12


def told_of(task: TaskRun, spec: Task) -> TellCache | None:
    """Return what a settled task that has asked for its result says of it; nothing where it was given that."""
    inner = task.inner or {}
    asked = inner[CACHE]
    if asked.get("found") == "hit" or spec.cache is None:
        return None
    at = (task.name, task.task_id, asked["key"], spec.kind or "", asked["parts"])
    if task.state is not TaskState.SUCCEEDED or SET_BY in inner:
        return TellCache(*at)
    return TellCache(*at, output=task.output, kept_s=kept_s(spec.cache, task.output))


def kept_s(cache: Cache, output: Any) -> float:  # noqa: ANN401 - a JSON value
    """Return how long a result is kept: what it refers to is not kept for ever."""
    return min(cache.expires_s, REFERRED_S) if has_references(output) else cache.expires_s


def key_of(kind: str, cache: Cache, given: Mapping[str, Any], more: Any) -> str:  # noqa: ANN401 - a JSON value
    """Return the key of a result: SHA-256, hexadecimal, of all that it depends on.

    Args:
        kind: What work it is.
        cache: What its author says of that.
        given: Its input.
        more: What `cache.key` came to.
    """
    return _digest([_VERSION, kind, cache.version, _of_the_input(cache, given), more])


def parts_of(kind: str, cache: Cache, given: Mapping[str, Any], more: Any) -> dict[str, str]:  # noqa: ANN401 - likewise
    """Return what a key is made of, so that two can be compared: the short digest of each part."""
    counted = _of_the_input(cache, given)
    parts = {"kind": kind, "version": cache.version, "key": _digest(more)[:_DIGITS]}
    if len(counted) > MOST_FIELDS:
        return parts | {"input": _digest(counted)[:_DIGITS]}
    return parts | {f"input.{name}": _digest(value)[:_DIGITS] for name, value in counted.items()}


def differing(parts: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the parts in which two keys differ."""
    return sorted(name for name in parts.keys() | other.keys() if parts.get(name) != other.get(name))


def _of_the_input(cache: Cache, given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in cache.ignore}


def _digest(value: Any) -> str:  # noqa: ANN401 - a JSON value
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _plain(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Return the same with one spelling for each number: PostgreSQL reads 1e2 as 100 and 1.0 as 1.0."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))  # as its digits are written: 1e300 is stored as a one with 300 zeros
    return value
