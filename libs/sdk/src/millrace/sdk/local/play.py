"""Plays runs in real time: who works, whom to ask, what to show, and how it ends when somebody interrupts."""

import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from millrace.core.ir import Workflow
from millrace.core.state import TASK_OPEN, CancelRequested, TaskRun, TaskState
from millrace.sdk.local.bodies import LocalBody, Raised
from millrace.sdk.local.captured import captured
from millrace.sdk.local.clock import Clock
from millrace.sdk.local.display import REFRESH_S, Display
from millrace.sdk.local.engine import Engine, Order, check_bodies
from millrace.sdk.local.prompt import Misunderstood, Prompt, Question, Said
from millrace.sdk.local.run import Line, LocalRun
from millrace.sdk.local.workers import Began, Done, Moved, Printed, Workers

LOOKS_EVERY_S = 3_600.0
"""The longest that is waited for anything to happen before time is looked at again, seconds."""


@dataclass(frozen=True, slots=True)
class _Interrupted:
    """Somebody wants it to end."""


@dataclass(frozen=True)
class Options:
    """How runs are played.

    Attributes:
        skip_waits: While nothing is worked on, waits and pauses between attempts take no time.
        workers: How many plain functions are under way at once.
        processes: Whether they are done in processes rather than threads.
        quiet: Show nothing.
    """

    skip_waits: bool = False
    workers: int = 8
    processes: bool = False
    quiet: bool = False


def play(
    workflow: Workflow,
    bodies: Mapping[str, LocalBody],
    trigger: Mapping[str, Any],
    others: Iterable[Workflow] = (),
    *,
    clock: Clock,
    options: Options,
) -> LocalRun:
    """Run a workflow, and whatever runs it starts, to their ends; return its run.

    Args:
        workflow: What to run.
        bodies: What does each kind of task: called with the input's fields, returns the output. `InvalidInput` fails
            the task at once; any other error is retried as the task says.
        trigger: What started it: `data`, and what else its inputs and conditions read.
        others: The workflows that its tasks start runs of.
        clock: The time.
        options: How.

    Raises:
        LookupError: A kind of task has no body, or a workflow is not among the others.
        KeyboardInterrupt: Somebody has interrupted it; it has been cancelled, and shown as far as it has come.
    """
    if options.workers < 1:
        raise ValueError(f"workers is {options.workers}: at least one is needed")
    heard: SimpleQueue[Any] = SimpleQueue()
    with ExitStack() as stack:
        display = stack.enter_context(Display(clock, shown=not options.quiet))
        engine = Engine([workflow, *others], LocalRun, clock.now, uuid4, display.changed)
        check_bodies(engine.plans.values(), bodies)
        player = _Player(engine, bodies, heard, display, clock, options)
        stack.callback(player.close)
        stack.enter_context(captured(player.beside))
        interrupted = stack.enter_context(_interruptible(heard))
        run = engine.start(workflow.name, trigger)
        player.play()
    if interrupted.is_set():
        raise KeyboardInterrupt
    return run


class _Player:
    """Plays the runs of an engine until all have ended."""

    def __init__(
        self,
        engine: Engine[LocalRun],
        bodies: Mapping[str, LocalBody],
        heard: SimpleQueue[Any],
        display: Display,
        clock: Clock,
        options: Options,
    ) -> None:
        self._engine, self._heard, self._display, self._clock = engine, heard, display, clock
        self._workers = Workers(bodies, heard, at_once=options.workers, processes=options.processes)
        self._prompt = Prompt(heard)
        self._skips = options.skip_waits
        self._question: Question | None = None
        self._lines: deque[str] = deque()
        self._nobody_answers = False

    def play(self) -> None:
        """Let happen what happens until every run has ended."""
        self._react()
        while self._engine.going:
            if self._question is None:
                self._display.draw()
            self._take(self._next())
            self._engine.tick()
            self._react()

    def close(self) -> None:
        """Leave the rest undone."""
        self._prompt.close()
        self._workers.close()

    def beside(self, text: str) -> None:
        """Take what was logged beside all work."""
        self._heard.put(Line(self._clock.now(), "", text))

    def _react(self) -> None:
        self._ask()
        self._give_up_if_stuck()
        self._hand_out()

    def _hand_out(self) -> None:
        while self._engine.orders:
            self._workers.begin(self._engine.orders.popleft())
        while self._engine.stops:
            self._workers.stop(self._engine.stops.popleft())

    def _next(self) -> object:
        """Return the next thing that is heard; None when time has passed first."""
        due_at = self._engine.next_due()
        if self._skips and due_at is not None and self._workers.idle and self._heard.empty() and not self._question:
            self._clock.move_to(due_at)
        wait_s = LOOKS_EVERY_S if due_at is None else (due_at - self._clock.now()) / timedelta(seconds=1)
        longest_s = REFRESH_S if self._display.live and self._question is None else LOOKS_EVERY_S
        try:
            return self._heard.get(timeout=min(longest_s, max(0.0, wait_s)))
        except Empty:
            return None

    def _take(self, what: object) -> None:
        match what:
            case Began(order=order):
                self._engine.began(order)
            case Moved(order=order, fraction=fraction, message=message, carried=carried):
                self._engine.progressed(order, fraction, message, carried)
            case Printed(order=order, text=text):
                self._workers.read()
                self._line(order.run, Line(self._clock.now(), order.call.task, text))
            case Line():
                self._display.say(what.text)
            case Done(order=order, came=came):
                self._done(order, came)
            case Said(text=None):
                self._nobody_answers = True
            case Said(text=str(text)):
                self._lines.append(text)
            case _Interrupted():
                self._display.say("stopping what is under way; interrupt again to leave at once")
                for run in list(self._engine.going.values()):
                    self._engine.tell(run, CancelRequested("interrupted"))

    def _done(self, order: Order, came: Raised | dict[str, Any] | None) -> None:
        self._workers.done(order)
        if came is None:
            self._engine.stopped(order)
            return
        if isinstance(came, Raised):
            said = f"{came.kind}: {came.message}" if came.message else came.kind
            place = f"  [{came.place}]" if came.place else ""
            self._display.say(f"{order.call.task}  attempt {order.call.attempt} failed: {said}{place}")
        self._engine.ended(order, came)

    def _line(self, run: LocalRun, line: Line) -> None:
        run.lines.append(line)
        self._display.say(f"{line.task}  {line.text}")

    # People.

    def _ask(self) -> None:
        """Ask for what runs wait for, one thing after the other, and take what was answered."""
        while (question := self._open_question()) is not None and self._lines:
            line = self._lines.popleft()
            self._display.answered(line)
            try:
                told = question.answer(line)
                refused = self._engine.tell(question.run, told) if told is not None else None
                if refused is not None:
                    self._display.say(refused)
            except Misunderstood as error:
                self._display.say(str(error))
            if question.is_open:
                self._display.ask(question.text())
        if self._question is not None:
            self._prompt.open()

    def _open_question(self) -> Question | None:
        if self._nobody_answers and not self._lines:
            self._question = None
        elif self._question is None or not self._question.is_open:
            waiting = [(run, name) for run in self._engine.going.values() for name in run.waiting]
            self._question = Question(*waiting[0]) if waiting else None
            if self._question is not None:
                self._display.ask(self._question.text())
        return self._question

    def _give_up_if_stuck(self) -> None:
        """Cancel runs that wait for people only, and for as long as a run may last, when nobody will answer."""
        going = list(self._engine.going.values())
        if self._skips or not self._nobody_answers or self._lines or not self._workers.idle or self._engine.orders:
            return
        open_tasks = [(run, task) for run in going for task in run.run.tasks.values() if task.state in TASK_OPEN]
        waiting = [(run, task) for run, task in open_tasks if task.name in run.waiting]
        if not waiting or any(_goes_on_by_itself(task) for _, task in open_tasks):
            return
        for run, task in waiting:
            cause = f"task {task.name} waits for somebody, and nobody can answer: the input has ended"
            self._engine.tell(run, CancelRequested(cause))


def _goes_on_by_itself(task: TaskRun) -> bool:
    return task.state not in {TaskState.OPEN, TaskState.CLOSING, TaskState.WAITING} or task.due_at is not None


@contextmanager
def _interruptible(heard: SimpleQueue[Any]) -> Iterator[threading.Event]:
    """Have the first interruption be heard, and the second end all at once; yield whether there was one."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        heard.put(_Interrupted())

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
