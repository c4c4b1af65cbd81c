"""Chains: what a worker begins by itself once an attempt has succeeded, so that nothing is ordered in between."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from millrace.contracts.tasks import ChainedTask, TaskDispatched
from millrace.runtime.tasks.attempts import output_json

MAX_INPUT_BYTES = 256 * 1024
"""The most that an attempt is given, as control has it."""


def order_after(order: TaskDispatched, output: Any, now: datetime) -> TaskDispatched | None:  # noqa: ANN401 - JSON
    """Return the order of what is chained to an attempt that has succeeded, as control would say it.

    Args:
        order: Of that attempt.
        output: What it hands on.
        now: When the next one begins.

    Returns:
        None where nothing is chained to it, or what its input needs is not there: control orders it then, or says why
        that cannot be.
    """
    if not order.chain or "$plan" in output:  # which control may take for a plan that cannot be done
        return None
    try:
        task, *behind = _filled(order, output)
    except LookupError:
        return None
    if task.holes:
        return None
    return order.model_copy(
        update={
            "task_id": task.task_id,
            "attempt": 1,
            "token": task.token,
            "kind": task.kind,
            "input": task.input,
            "name": task.name,
            "deadline": now + timedelta(seconds=task.lasts_s),
            "heartbeat_timeout_s": task.heartbeat_timeout_s,
            "carried": None,
            "resources": task.resources,
            "chain": tuple(behind),
        }
    )


def _filled(order: TaskDispatched, output: Any) -> Sequence[ChainedTask]:  # noqa: ANN401 - JSON
    """Return what is chained to an attempt, with what that hands on.

    Raises:
        LookupError: Something is not in that, or an input is too large with it.
    """
    name = order.name.rpartition(".")[2]
    if not any(hole.task == name for task in order.chain for hole in task.holes):
        return order.chain
    document = json.loads(output_json(output))
    return [_with(task, name, document) for task in order.chain]


def _with(task: ChainedTask, name: str, document: Any) -> ChainedTask:  # noqa: ANN401 - JSON
    mine = [hole for hole in task.holes if hole.task == name]
    if not mine:
        return task
    given: Any = task.input
    for hole in mine:
        given = _put(given, hole.path, _value(document, hole.pointer))
    if len(json.dumps(given)) > MAX_INPUT_BYTES:
        raise LookupError(task.name)
    return task.model_copy(update={"input": given, "holes": tuple(hole for hole in task.holes if hole.task != name)})


def _value(document: Any, pointer: Sequence[str]) -> Any:  # noqa: ANN401 - JSON
    """Return what a JSON pointer leads to; RFC 6901 has the indices of lists without leading zeros."""
    value = document
    for token in pointer:
        if isinstance(value, dict):
            value = value[token]
        elif isinstance(value, list) and token.isascii() and token.isdigit() and token == str(int(token)):
            value = value[int(token)]
        else:
            raise LookupError(token)
    return value


def _put(value: Any, path: Sequence[str | int], what: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value with something else in one place."""
    if not path:
        return what
    key: Any = path[0]
    made = value.copy()
    made[key] = _put(value[key], path[1:], what)
    return made
