"""Going over a list: a body for each item, so many at once, and what all of them came to."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.core.draft import LARGE_OUTPUT, OPENED_AT_ONCE, Draft
from millrace.core.ir import Foreach, Tolerate
from millrace.core.paths import MAX_KEY_BYTES, escaped, item, parent
from millrace.core.pointer import KeptElsewhere, PointerMissing, parse_pointer, resolve
from millrace.core.state import Collect, Collected, Failure, TaskRun, TaskState
from millrace.core.values import items_of, missing

MAX_ITEMS = 100_000
MAX_STRETCHES = 1_000
"""The most gaps that are remembered of a list of which an earlier run has done some items."""

#: Where a task has how many of its items an earlier run has done.
TAKEN_ITEMS = "taken_items"
INVALID_ITEMS, TOO_MANY_FAILED = "InvalidItems", "TooManyFailed"


def next_items(draft: Draft, task: TaskRun, foreach: Foreach) -> None:
    """Open as many items as may be under way, or end once all are over or too many have failed."""
    try:
        items = items_of(draft.run, draft.plan, task.name, foreach)
        if task.inner is None:
            task.inner = {"total": _checked(items, foreach), "next": 0, "open": 0}
    except KeptElsewhere as error:
        draft.close_task(task, TaskState.FAILED, missing(error))
        return
    except (PointerMissing, TypeError, ValueError) as error:
        draft.close_task(task, TaskState.FAILED, Failure(INVALID_ITEMS, f"{error}", retryable=False))
        return
    inner = dict(task.inner)
    total, failed = inner["total"], inner.get("failed", 0)
    if failed > _tolerated(foreach.tolerate, total):
        last = Failure(**inner["error"])
        told = Failure(TOO_MANY_FAILED, f"{failed} of {total} items failed; the last: {last}", retryable=False)
        draft.close_task(task, TaskState.FAILED, told)
        return
    while _is_left(inner) and inner["open"] < foreach.concurrency and draft.opened < OPENED_AT_ONCE:
        index = _take_next(inner)
        draft.open(item(task.name, _key(items[index], index, foreach)), {"index": index, "item": items[index]})
        inner["open"] += 1
    task.inner = inner
    if _is_left(inner) and inner["open"] < foreach.concurrency:
        task.due_at = draft.now
    elif not inner["open"]:
        _items_done(draft, task, foreach)


def taken_up(total: int, done: Sequence[int]) -> dict[str, Any] | None:
    """Return how far a task is that begins with some of its items done; None where the others lie too scattered.

    Args:
        total: How many items there are.
        done: The indexes of those that are done, ascending.
    """
    left, start = [], 0
    for index in (*done, total):
        if start < index:
            left.append([start, index])
        start = index + 1
    if len(left) > MAX_STRETCHES:
        return None
    return {"total": total, "next": total, "open": 0, "succeeded": len(done), TAKEN_ITEMS: len(done), "left": left}


def _is_left(inner: Mapping[str, Any]) -> bool:
    return bool(inner["left"]) if "left" in inner else inner["next"] < inner["total"]


def _take_next(inner: dict[str, Any]) -> int:
    """Return the index of the next item to open, and take it from what is left."""
    if "left" not in inner:
        inner["next"] += 1
        return int(inner["next"] - 1)
    (start, end), *others = inner["left"]
    inner["left"] = [*([[start + 1, end]] if start + 1 < end else []), *others]
    return int(start)


def _items_done(draft: Draft, task: TaskRun, foreach: Foreach) -> None:
    if foreach.do.output is None:
        draft.succeed(task, _summary(task))
        return
    task.state, task.outcome, task.due_at = TaskState.CLOSING, TaskState.SUCCEEDED, None
    task.inner = {**(task.inner or {}), "collecting": True}
    draft.effects.append(Collect(task.name))


def collected(draft: Draft, told: Collected) -> str | None:
    """Take the outputs of a foreach's items; return why that changed nothing, or None."""
    known = draft.run.tasks.get(told.name)
    if known is None or known.state is not TaskState.CLOSING or not awaits_outputs(known):
        return f"run {draft.run.run_id} has no task {told.name!r} that waits for the outputs of its items"
    task = draft.change(told.name)
    task.inner = {**(task.inner or {}), "collecting": False}
    if told.outputs is None:
        said = "what its items hand on is too much together: hand on references"
        draft.fail(task, Failure(LARGE_OUTPUT, said, retryable=False))
    else:
        draft.succeed(task, _summary(task) | {"items": list(told.outputs)})
    return None


def outputs_of(tasks: Mapping[str, TaskRun], name: str) -> list[Any]:
    """Return what the items of a foreach handed on, in their order, of all the records of a run."""
    scopes = [task for path, task in tasks.items() if path.endswith("]") and parent(path) == name]
    return [task.output for task in sorted(scopes, key=lambda task: (task.inner or {})["index"])]


def awaits_outputs(task: TaskRun) -> bool:
    """Return whether all items of a task are over, and what they handed on is to be read."""
    return bool((task.inner or {}).get("collecting"))


def _tolerated(tolerate: Tolerate, total: int) -> float:
    return max(tolerate.count, total * tolerate.percent / 100)


def _checked(items: Any, foreach: Foreach) -> int:  # noqa: ANN401 - a JSON value
    """Return how many items there are, each with a key of its own."""
    if len(items) > MAX_ITEMS:
        raise ValueError(f"{len(items)} items; at most {MAX_ITEMS} are allowed")
    seen: set[str] = set()
    for index, one in enumerate(items) if foreach.key is not None else ():
        if (key := _key(one, index, foreach)) in seen:
            raise ValueError(f"two items have the key {key!r}")
        seen.add(key)
    return len(items)


def _key(one: Any, index: int, foreach: Foreach) -> str:  # noqa: ANN401 - a JSON value
    """Return what an item is called in the run."""
    if foreach.key is None:
        return str(index)
    key = resolve(one, parse_pointer(foreach.key))
    text = str(key)
    plain = isinstance(key, str | int | float) and not isinstance(key, bool) and text.isprintable()
    if not plain or not 0 < len(escaped(text).encode()) <= MAX_KEY_BYTES:
        raise ValueError(
            f"item {index} has no key at {foreach.key}: a printable text or a number, of up to {MAX_KEY_BYTES} bytes"
        )
    return text


def _summary(task: TaskRun) -> dict[str, Any]:
    inner = task.inner or {}
    return {"total": inner["total"], "succeeded": inner.get("succeeded", 0), "failed": inner.get("failed", 0)}
