"""Chains: what a worker begins by itself once an attempt has succeeded, so that nothing is ordered in between.

A task is *chained* to another that is the only one it needs, and that nothing else needs, where it certainly begins
once that has succeeded, and is work of the same queue: it has no condition, and neither of the two has a deadline, asks
a cache or takes slots. An order has the links that follow it: each task that is chained to the one before, with an id
and a token that follow from those of that. Control need not keep what it has promised so. What a link's input takes
from the tasks before it is left out: these are its *holes*.

A worker may begin the next link in the transaction in which it says that an attempt has succeeded, and says so with it.
That is a fact then, whatever else has happened to the run: where that ends, the link is asked to stop; where it is
paused, it goes on but nothing after it begins. Where the success does not count, nor does what was begun with it.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from millrace.core.draft import Draft
from millrace.core.paths import inside, parent, written
from millrace.core.plan import Plan, Step, fill_in, tokens_of
from millrace.core.pointer import PointerMissing
from millrace.core.state import (
    AttemptFact,
    CancelAttempt,
    CutChain,
    Hole,
    Link,
    Run,
    RunState,
    Succeeded,
    TaskRun,
    TaskState,
)
from millrace.core.values import document_of

MAX_LINKS = 8
"""The most links that an order has: what it says of them is wasted where its worker does not go on."""
MAX_LINKS_BYTES = 64 * 1024
"""The most that their inputs have together."""


def links_of(draft: Draft, task: TaskRun, token: UUID) -> tuple[Link, ...]:
    """Return what whoever does an attempt of a task may go on with, each after the one before it."""
    step, scope = draft.plan.step(task.name), parent(task.name)
    if step.chained is None:
        return ()
    task_id, before, links, size = task.task_id, [step.name], list[Link](), 0
    document: Mapping[str, Any] | None = None
    while step.chained is not None and len(links) < MAX_LINKS and inside(scope, step.chained) not in draft.run.tasks:
        step = draft.plan.step(inside(scope, step.chained))
        given: Any = step.task.input
        holes: list[Hole] = []
        if step.has_pointers:
            document = document_of(draft.run, draft.plan, scope) if document is None else document
            try:
                given = _filled(given, document, before, (), holes)
            except PointerMissing:
                break  # it fails for that when its turn comes
        size += (
            len(json.dumps([given, [[*hole.path, hole.task, *hole.pointer] for hole in holes]]))
            if step.has_pointers
            else step.input_bytes
        )
        if size > MAX_LINKS_BYTES:
            break
        task_id, token = id_after(draft.run.run_id, task_id), id_after(draft.run.run_id, token)
        links.append(Link(inside(scope, step.name), task_id, token, given, tuple(holes)))
        before.append(step.name)
    return tuple(links)


@lru_cache(maxsize=4096)  # what an order promises is asked again of each report
def id_after(run_id: UUID, before: UUID) -> UUID:
    """Return what a link's id, or its token, is after that of the task before it; both are of one millisecond.

    Source: RFC 9562, section 5.7: a UUIDv7, whose random bits are of a SHA-256.
    """
    made = bytearray(before.bytes[:6] + sha256(run_id.bytes + before.bytes).digest()[:10])
    made[6] = made[6] & 0x0F | 0x70
    made[8] = made[8] & 0x3F | 0x80
    return UUID(bytes=bytes(made))


def new_id(draft: Draft, path: str, step: Step) -> UUID:
    """Return the id of a task that begins: where a worker may have begun it as a link, the one that it has there."""
    if step.chained_to is not None and (before := draft.run.tasks[inside(parent(path), step.chained_to)]).attempt:
        return id_after(draft.run.run_id, before.task_id)
    return draft.new_id()


def take_next(draft: Draft, fact: Succeeded, *, counts: bool) -> None:
    """Have the link be under way that a worker has begun with an attempt's success, or be stopped.

    Args:
        draft: The decision.
        fact: The success.
        counts: Whether that has been taken for one.
    """
    step, run_id = draft.plan.steps.get(written(fact.name)), draft.run.run_id
    if step is None or step.chained is None:
        return
    scope = parent(fact.name)
    path, task_id, token = inside(scope, step.chained), id_after(run_id, fact.task_id), id_after(run_id, fact.token)
    known, state = draft.run.tasks.get(path), draft.state_of(scope)
    if not counts or known is not None or state is None:
        if known is None or known.token != token:
            draft.effects.append(CancelAttempt(path, task_id, 1, token, f"the success of {fact.name} does not count"))
        return
    task = draft.add(path, TaskState.OPEN, task_id)
    draft.dispatched(task, token)
    if state is TaskState.CLOSING:
        draft.stop(task, "what it is in ends")
    elif draft.run.state is RunState.PAUSED:
        cut(draft, task)


def is_ahead(run: Run, plan: Plan, fact: AttemptFact) -> bool:
    """Return whether a fact is of a link that its worker has begun with a success that is still to be told."""
    step, steps = plan.steps.get(written(fact.name)), 0
    if step is None:
        return False
    scope = parent(fact.name)
    while inside(scope, step.name) not in run.tasks:
        if step.chained_to is None:
            return False
        step, steps = plan.step(inside(scope, step.chained_to)), steps + 1
    token = run.tasks[inside(scope, step.name)].token
    if not steps or token is None:
        return False
    for _ in range(steps):
        token = id_after(run.run_id, token)
    return token == fact.token


def cut(draft: Draft, task: TaskRun) -> None:
    """Have nothing begin by itself after an attempt that is under way."""
    if task.token is not None and not draft.plan.is_scope(task.name) and draft.plan.step(task.name).chained is not None:
        draft.effects.append(CutChain(task.name, task.task_id, task.attempt, task.token))


def _filled(
    template: Any,  # noqa: ANN401 - a JSON value
    document: Mapping[str, Any],
    before: list[str],
    path: tuple[str | int, ...],
    holes: list[Hole],
) -> Any:  # noqa: ANN401 - likewise
    """Return an input as far as it is known; where a task of the chain has a say, null, and a hole for that."""
    if isinstance(template, dict):
        if "$from" not in template:
            return {key: _filled(value, document, before, (*path, key), holes) for key, value in template.items()}
        match tokens_of(template["$from"]):
            case ("tasks", task, "output", *pointer) if task in before:
                holes.append(Hole(path, task, tuple(pointer)))
                return None
        return fill_in(template, document)
    if isinstance(template, list):
        return [_filled(value, document, before, (*path, n), holes) for n, value in enumerate(template)]
    return template
