"""Tasks whose results are taken from the cache: the key of a result, and what is said of it.

Before its first attempt such a task asks for its key (`AskCache`) and waits, holding nobody. It is told that there is a
result (`hit`), or that it is to do the work itself (`miss`); while another does that it is told nothing. Once it is
settled it tells (`TellCache`) what it came to, or that nobody is to wait for it any more. `results` says who computes.
"""

from collections.abc import Mapping
from typing import Any

from millrace.core.cache_key import key_of, parts_of
from millrace.core.draft import Draft
from millrace.core.ir import Task
from millrace.core.parts import Cache
from millrace.core.paths import parent
from millrace.core.plan import fill_in
from millrace.core.state import CACHE, AskCache, CacheAnswered, TaskRun, TaskState
from millrace.core.values import document_of


def must_ask(task: TaskRun, spec: Task) -> bool:
    """Return whether a task is to ask for its result before it is dispatched."""
    return spec.cache is not None and CACHE not in (task.inner or {})


def ask(draft: Draft, task: TaskRun, spec: Task, given: Mapping[str, Any]) -> None:
    """Have a task wait for the answer whether its result is known.

    Raises:
        PointerMissing: What the key is made of is not there.
    """
    cache = spec.cache or Cache()
    more = fill_in(cache.key, document_of(draft.run, draft.plan, parent(task.name)))
    parts = parts_of(spec.kind or "", cache, given, more)
    key = key_of(spec.kind or "", cache, given, more)
    task.state, task.due_at = TaskState.WAITING, draft.deadline(task)
    task.inner = {**(task.inner or {}), CACHE: {"key": key, "asked_at": draft.now.isoformat(), "parts": parts}}
    refresh = draft.run.refresh
    draft.effects.append(AskCache(task.name, task.task_id, key, spec.kind or "", cache.expires_s, refresh, parts))


def answer(draft: Draft, told: CacheAnswered) -> tuple[TaskRun | None, str | None]:
    """Take the answer to what a task has asked.

    Returns:
        The task, where it is to be dispatched now; why the answer changed nothing, or None.
    """
    known = draft.run.tasks.get(told.name)
    asked = (known.inner or {}).get(CACHE) if known is not None else None
    if known is None or known.task_id != told.task_id or known.state is not TaskState.WAITING or asked is None:
        return None, f"run {draft.run.run_id} has no task {told.task_id} named {told.name!r} that asks for a result"
    task = draft.change(told.name)
    task.inner = {**(known.inner or {}), CACHE: {**asked, "found": told.found, "why": told.why, **told.source}}
    if told.found == "hit":
        task.output = told.output
        draft.settle(task, TaskState.SUCCEEDED)
        return None, None
    task.state, task.due_at = TaskState.RETRY_WAIT, draft.now
    return (None if draft.holds_back(task) else task), None
