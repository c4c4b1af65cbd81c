"""What work may do to itself ends its attempt, as a failure that says why, and nothing else."""

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from millrace.contracts.tasks import Carried
from millrace.runtime.errors import Conflict
from millrace.runtime.subscriptions import TaskKind, task
from millrace.runtime.tasks.attempts import Attempt, Ended, report_of
from millrace.runtime.tasks.child import preload
from millrace.runtime.tasks.computing import ComputingJob
from millrace.runtime.tasks.doing import Doing
from millrace.runtime.tasks.job import Job, WaitingJob
from millrace.runtime.testing import until
from pydantic import BaseModel
from test_attempts import attempt as attempt_of


class UnspeakableError(Conflict):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise ZeroDivisionError


class Unlike(Exception):
    """An error of the work's own that is called as one of ours."""


Unlike.__name__ = "InvalidInput"


def cancel_oneself() -> None:
    """Ask the task that the work is part of to be cancelled."""
    if (here := asyncio.current_task()) is not None:
        here.cancel()


def throw(error: BaseException) -> NoReturn:
    """Raise an error."""
    raise error


def print_to(file: Path) -> None:
    """Print into a file, which keeps it back until there is enough of it."""
    sys.stdout = file.open("w")
    sys.stdout.write("printed\n")


def sleep(folder: Path) -> None:
    """Take long, and say that it has begun."""
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def started() -> int | None:
    """Start a process and return how it ended."""
    process = multiprocessing.Process(target=sys.exit, args=(3,))
    process.start()
    process.join()
    return process.exitcode


def fork() -> str:
    """Fork, and have the copy fail."""
    if (pid := os.fork()) == 0:
        raise ZeroDivisionError
    return f"its copy has left with {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


def leave_and_be_killed() -> None:
    """Be killed, and leave a process that has all that was open here."""
    if os.fork() == 0:
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)


WAYS: dict[str, Callable[[Path], Any]] = {
    "exits": lambda _: sys.exit(3),
    "interrupts": lambda _: throw(KeyboardInterrupt()),
    "is unspeakable": lambda _: throw(UnspeakableError()),
    "is unlike": lambda _: throw(Unlike("a secret")),
    "cancels": lambda _: throw(asyncio.CancelledError()),
    "cancels itself": lambda _: cancel_oneself(),
    "hands on what is no JSON": lambda _: object(),
    "closes what is open": lambda _: os.closerange(3, 1000),
    "draws": lambda _: [random.random(), float(np.random.random())],  # noqa: NPY002 - what work may well call
    "prints": lambda folder: print_to(folder / "printed"),
    "sleeps": sleep,
    "starts": lambda _: started(),
    "forks": lambda _: fork(),
    "is killed": lambda _: leave_and_be_killed(),
}


class Step(BaseModel):
    """What work is to do."""

    way: str
    folder: Path


def compute(step: Step, _: Job) -> Any:
    """Do it, in a process of its own."""
    return WAYS[step.way](step.folder)


async def wait(step: Step, _: Job) -> Any:
    """Do it, on the loop."""
    came = WAYS[step.way](step.folder)
    await asyncio.sleep(0)
    return came


async def keep(result: Any, _: Any) -> dict[str, Any]:
    """Keep nothing."""
    return {"result": result}


COMPUTE, WAIT = task("x.compute", Step, compute, keep), task("x.wait", Step, wait, keep)


def kept(_: Attempt, __: Carried) -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


@pytest.fixture(scope="module", autouse=True)
def _preloaded() -> None:
    preload([__name__])


@pytest.fixture
def doing() -> Doing:
    return Doing("x", 40, kept, lambda one: WaitingJob(one, kept), ComputingJob)


def begin(doing: Doing, kind: TaskKind, way: str, folder: Path) -> Attempt:
    """Begin an attempt as a worker does."""
    made = attempt_of(kind.kind)
    made.kind = kind
    made.task = made.task.model_copy(update={"input": {"way": way, "folder": str(folder)}})
    made.worker = asyncio.create_task(doing.do(made))  # type: ignore[assignment]
    return made


async def ended(attempt: Attempt) -> Ended:
    assert attempt.worker is not None
    async with asyncio.timeout(30):
        return await attempt.worker  # type: ignore[return-value]


ENDS_ITSELF = "a task ends by returning, or by raising an error"


@pytest.mark.parametrize(
    ("kind", "way", "error", "message"),
    [
        (WAIT, "exits", "SystemExit", ENDS_ITSELF),
        (WAIT, "interrupts", "KeyboardInterrupt", ENDS_ITSELF),
        (WAIT, "cancels", "CancelledError", "nobody has cancelled it"),
        (WAIT, "cancels itself", "CancelledError", "nobody has cancelled it"),
        (WAIT, "is unspeakable", "UnspeakableError", "UnspeakableError"),
        (WAIT, "is unlike", "InvalidInput", "internal error"),
        (COMPUTE, "exits", "SystemExit", ENDS_ITSELF),
        (COMPUTE, "interrupts", "KeyboardInterrupt", ENDS_ITSELF),
        (COMPUTE, "cancels", "CancelledError", "nobody has cancelled it"),
        (COMPUTE, "is unspeakable", "UnspeakableError", "internal error"),
        (COMPUTE, "is unlike", "InvalidInput", "internal error"),
        (COMPUTE, "hands on what is no JSON", "PydanticSerializationError", "internal error"),
        (COMPUTE, "closes what is open", "lost", "ended before its work"),
        (COMPUTE, "is killed", "lost", "ended before its work"),
    ],
)
async def test_work_that_ends_itself_has_failed_and_may_be_tried_again(
    kind: TaskKind, way: str, error: str, message: str, doing: Doing, tmp_path: Path
) -> None:
    end = await ended(begin(doing, kind, way, tmp_path))

    report = report_of("x", end)
    assert report.error == error
    assert message in report.message
    assert report.retryable


async def test_work_that_computes_takes_no_thread_that_others_wait_for(doing: Doing, tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    attempts = [begin(doing, COMPUTE, "sleeps", tmp_path) for _ in range(3)]

    async def begun() -> bool:
        return len([*tmp_path.iterdir()]) == len(attempts)

    await until(begun)
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(lambda: "at once") == "at once"

    for attempt in attempts:
        attempt.stop()
    workers = [attempt.worker for attempt in attempts if attempt.worker is not None]
    await asyncio.wait(workers, timeout=10)
    assert all(worker.cancelled() for worker in workers)
    assert not any(Path(f"/proc/{file.name}").exists() for file in tmp_path.iterdir())


async def test_each_process_that_computes_draws_random_numbers_of_its_own(doing: Doing, tmp_path: Path) -> None:
    ends = [await ended(begin(doing, COMPUTE, "draws", tmp_path)) for _ in range(2)]

    (first, second) = [end.result for end in ends]
    assert first[0] != second[0]
    assert first[1] != second[1]


async def test_what_work_prints_is_not_lost_when_it_ends(doing: Doing, tmp_path: Path) -> None:
    await ended(begin(doing, COMPUTE, "prints", tmp_path))

    assert (tmp_path / "printed").read_text() == "printed\n"


async def test_work_may_start_processes(doing: Doing, tmp_path: Path) -> None:
    end = await ended(begin(doing, COMPUTE, "starts", tmp_path))

    assert (end.error, end.result) == ("", 3)


async def test_what_becomes_of_a_copy_that_work_forks_says_nothing_of_the_work(doing: Doing, tmp_path: Path) -> None:
    end = await ended(begin(doing, COMPUTE, "forks", tmp_path))

    assert (end.error, end.result) == ("", "its copy has left with 1")
