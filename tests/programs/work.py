"""What the workers of the programs' queues do: `millrace worker --queue programs tests.programs.work`."""

import asyncio
import json
import os
import time
from functools import partial
from typing import Any

from millrace.runtime.errors import Unavailable
from millrace.sdk import work
from millrace.sdk.flows import task

from tests.faults.effects import add
from tests.programs.adding import added
from tests.programs.program import LEASED, TAKEN


@task(f"{TAKEN}.add")
async def add_waiting(takes_s: float = 0.0, **given: Any) -> dict[str, Any]:
    """Add on the worker's loop."""
    await asyncio.sleep(takes_s)
    return await asyncio.to_thread(_added, given)


@task(f"{LEASED}.add")
def add_computing(takes_s: float = 0.0, **given: Any) -> dict[str, Any]:
    """Add in a process of its own."""
    time.sleep(takes_s)
    return _added(given)


def planned(plan: str) -> dict[str, Any]:
    """Return the plan that a text is."""
    found: dict[str, Any] = json.loads(plan)
    return found


plan_waiting = task(f"{TAKEN}.plan")(planned)


def _added(given: dict[str, Any]) -> dict[str, Any]:
    here = work.attempt()
    if here is None:
        raise RuntimeError("it is done by a worker")
    try:
        return added(partial(add, os.environ["EFFECTS_URL"]), here.task_id, here.number, here.task, **given)
    except OSError as error:
        raise Unavailable(f"the counters do not answer: {error}") from None
