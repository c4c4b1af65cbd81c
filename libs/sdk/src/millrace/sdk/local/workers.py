"""Who works in this process: coroutines on one loop, plain functions in threads or in processes, so many at once."""

import asyncio
import inspect
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from millrace.contracts.tasks import Carried
from millrace.sdk import work
from millrace.sdk.local.bodies import LocalBody, Raised, body_of, called_with, name_of, output_of, raised
from millrace.sdk.local.captured import flush
from millrace.sdk.local.child import in_child
from millrace.sdk.local.engine import Order

MAX_WAITING = 1_000
"""How many coroutines are under way at once; they only wait."""
MAX_UNREAD = 10_000
"""How many lines may be printed that nobody has looked at; whoever prints more waits."""
TOLD_EVERY_S = 0.1
"""How often it is told how far an attempt is, seconds."""

Came = dict[str, Any] | Raised | None
"""What came of an attempt: its output, what it raised, or None: it stopped as asked."""


@dataclass(frozen=True, slots=True)
class Began:
    """An attempt is being worked on."""

    order: Order


@dataclass(frozen=True, slots=True)
class Moved:
    """An attempt says how far it is, or what it leaves to the next one."""

    order: Order
    fraction: float | None = None
    message: str = ""
    carried: Carried | None = None


@dataclass(frozen=True, slots=True)
class Printed:
    """An attempt has printed or logged a line."""

    order: Order
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Nobody works on an attempt any more."""

    order: Order
    came: Came


class _Hand:
    """The work on one attempt.

    Attributes:
        stop: Asks it to stop, from any thread.
        task: Of a coroutine, once it was begun.
    """

    def __init__(self, order: Order, body: LocalBody, heard: Callable[[Any], None], room: threading.Semaphore) -> None:
        self.order, self.body, self._heard, self._room = order, body, heard, room
        self._told_at = -math.inf
        self.attempt = work.Attempt(
            str(order.run.run_id),
            order.call.task,
            order.call.kind,
            order.call.attempt,
            resources=order.needs,
            moved=self._moved,
            line=self._line,
            task_id=str(order.task_id),
            carried=order.carried,
            keep=lambda carried: heard(Moved(order, carried=carried)),
        )
        self.stop: Callable[[], object] = self.attempt.stopped.set
        self.task: asyncio.Task[Came] | None = None

    @property
    def only_waits(self) -> bool:
        """Whether it is a coroutine."""
        return inspect.iscoroutinefunction(self.body)

    def stop_waiting(self) -> None:
        """Stop a coroutine; on its loop."""
        if self.task is not None:
            self.task.cancel()

    def _moved(self, fraction: float, message: str) -> None:
        if fraction >= 1 or time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._told_at = time.monotonic()
            self._heard(Moved(self.order, fraction, message))

    def _line(self, text: str) -> None:
        self._room.acquire()
        self._heard(Printed(self.order, text))


class Workers:
    """Does the work of attempts; all of its methods are called from one thread.

    Args:
        bodies: What does each kind of work.
        heard: Where it is put what happens: `Began`, `Moved`, `Printed`, `Done`.
        at_once: How many plain functions are under way at once.
        processes: Whether plain functions are done in processes, which are killed when they are to stop; otherwise in
            threads, which stop when they next call `work.progress`.
    """

    def __init__(
        self, bodies: Mapping[str, LocalBody], heard: SimpleQueue[Any], *, at_once: int, processes: bool
    ) -> None:
        self._bodies, self._heard, self._processes = bodies, heard, processes
        self._free = {False: at_once, True: MAX_WAITING}
        self._queues: dict[bool, deque[_Hand]] = {False: deque(), True: deque()}
        self._hands: dict[UUID, _Hand] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = threading.Semaphore(MAX_UNREAD)

    @property
    def idle(self) -> bool:
        """Whether nothing is being worked on."""
        return not self._hands

    def begin(self, order: Order) -> None:
        """Work on an attempt, as soon as there is a place for it."""
        hand = self._hands[order.token] = _Hand(
            order, body_of(self._bodies, order.call.kind), self._heard.put, self._room
        )
        self._queues[hand.only_waits].append(hand)
        self._fill(kind=hand.only_waits)

    def stop(self, token: UUID) -> None:
        """Ask the work on an attempt to stop; work that has not begun stops at once."""
        hand = self._hands.get(token)
        if hand is None:
            return
        queue = self._queues[hand.only_waits]
        if hand in queue:
            queue.remove(hand)
            self._free[hand.only_waits] -= 1
            self._heard.put(Done(hand.order, None))
        else:
            hand.stop()

    def done(self, order: Order) -> None:
        """Give the place of an attempt to the next; for each `Done` that was heard."""
        hand = self._hands.pop(order.token)
        self._free[hand.only_waits] += 1
        self._fill(kind=hand.only_waits)

    def read(self) -> None:
        """Make room for another line; for each `Printed` that was heard."""
        self._room.release()

    def close(self) -> None:
        """Stop what is still under way and wait for none of it."""
        for queue in self._queues.values():
            queue.clear()
        for hand in self._hands.values():
            hand.stop()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _fill(self, *, kind: bool) -> None:
        while self._queues[kind] and self._free[kind] > 0:
            self._free[kind] -= 1
            hand = self._queues[kind].popleft()
            if kind:
                loop = self._running_loop()
                # A loop calls in order: nothing is stopped before there is a task to stop.
                hand.stop = partial(loop.call_soon_threadsafe, hand.stop_waiting)
                loop.call_soon_threadsafe(self._wait_for, hand, loop)
            else:
                threading.Thread(target=self._compute, args=(hand,), name=hand.order.call.task, daemon=True).start()

    def _compute(self, hand: _Hand) -> None:
        self._heard.put(Began(hand.order))
        came: Came = None
        with work.doing(hand.attempt):
            try:
                values, name = hand.order.run.values, name_of(hand.body)
                arguments = called_with(hand.body, values.in_full(hand.order.call.input))
                if self._processes:
                    came = in_child(hand.body, arguments, hand.attempt)
                else:
                    came = output_of(name, hand.body(**arguments))
                came = values.by_reference(name, came) if isinstance(came, dict) else came
            except BaseException as error:  # noqa: BLE001 - a body may raise anything; as in a worker, it fails its attempt
                came = _told(error)
            flush()
        self._heard.put(Done(hand.order, came))

    def _wait_for(self, hand: _Hand, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a coroutine on its loop; that it is done is told once, even when it is stopped before it began."""
        hand.task = loop.create_task(self._wait(hand))
        hand.task.add_done_callback(
            lambda task: self._heard.put(Done(hand.order, None if task.cancelled() else task.result()))
        )

    async def _wait(self, hand: _Hand) -> Came:
        self._heard.put(Began(hand.order))
        came: Came = None
        with work.doing(hand.attempt):
            try:
                values, name = hand.order.run.values, name_of(hand.body)
                arguments = called_with(hand.body, values.in_full(hand.order.call.input))
                came = values.by_reference(name, output_of(name, await hand.body(**arguments)))
            except BaseException as error:  # noqa: BLE001 - likewise
                came = _told(error)
            flush()
        return came

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), name="millrace-loop", daemon=True).start()
        return self._loop


def _told(error: BaseException) -> Came:
    """Return what came of an attempt that raised this."""
    return None if isinstance(error, work.Stopped | asyncio.CancelledError) else raised(error)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, then cancel what is left on it."""
    loop.run_forever()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    with suppress(RuntimeError):
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
