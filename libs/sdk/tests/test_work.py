"""What work says while it is done, and what it leaves to its next attempt: in this process as in a worker's."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from millrace.contracts.tasks import MAX_CHECKPOINT_BYTES
from millrace.runtime.errors import InvalidInput
from millrace.sdk import work
from millrace.sdk.flows import Flow, Node, Ref, flow, task
from millrace.sdk.testing import Environment

AGAIN: dict[str, Any] = {"retries": {"max_attempts": 3, "lost": 3, "backoff_s": 0}}


def submit(folder: str, name: str) -> None:
    with Path(folder, "submitted").open("a") as submitted:
        submitted.write(name)


@task("data.outside", **AGAIN)
def outside(folder: str) -> dict[str, Any]:
    """Begin a job elsewhere, once, and fail after that as often as there are attempts but one."""
    here = work.attempt()
    assert here is not None
    if not here.last_external_ref:
        submit(folder, here.task_id)
        work.external_ref("job-1")
    work.checkpoint({"epoch": here.number})
    if here.number < 3:
        raise ConnectionError
    return {"job": here.last_external_ref, "from": here.last_checkpoint, "task_id": here.task_id}


@task("data.outside_waiting", **AGAIN)
async def outside_waiting(folder: str) -> dict[str, Any]:
    """Do the same without a thread."""
    here = work.attempt()
    assert here is not None
    if not here.last_external_ref:
        submit(folder, here.task_id)
        await work.external_ref("job-1")
    await work.checkpoint({"epoch": here.number})
    if here.number < 3:
        raise ConnectionError
    await asyncio.sleep(0)
    return {"job": here.last_external_ref, "from": here.last_checkpoint, "task_id": here.task_id}


@flow("submits")
def submits(trigger: Ref) -> Node:
    return outside(folder=trigger.data)


@flow("submits.waiting")
def submits_waiting(trigger: Ref) -> Node:
    return outside_waiting(folder=trigger.data)


@pytest.mark.parametrize(("made", "processes"), [(submits, False), (submits, True), (submits_waiting, False)])
def test_m5_what_a_local_attempt_has_begun_elsewhere_is_gone_on_with(
    made: Flow, processes: bool, tmp_path: Path
) -> None:
    run = made.run_local(str(tmp_path), quiet=True, processes=processes, skip_waits=True)

    (outcome,) = (task.output for task in run.run.tasks.values())
    assert (outcome["job"], outcome["from"]) == ("job-1", {"epoch": 2})
    assert (tmp_path / "submitted").read_text() == outcome["task_id"], "once, and under a name that every attempt has"


def test_a_flow_under_test_keeps_what_its_work_leaves_over_a_preemption() -> None:
    @task("data.count", retries={"max_attempts": 1, "lost": 2, "backoff_s": 0})
    def count() -> dict[str, Any]:
        here = work.attempt()
        assert here is not None
        at = (here.last_checkpoint or 0) + 1
        work.checkpoint(at)
        if here.number < 3:
            raise work.Preempted
        return {"counted": at}

    @flow("counts")
    def counts() -> Node:
        return count()

    run = Environment(counts).start(counts)
    run.finish()

    assert run.run.tasks["count"].output == {"counted": 3}
    assert (run.run.tasks["count"].losses, run.run.tasks["count"].failures) == (2, 0)


def test_work_that_has_to_go_goes_at_its_next_checkpoint_once_that_is_kept() -> None:
    kept: list[Any] = []
    here = work.Attempt("run", "a", "data.a", 1, keep=kept.append, preempted=lambda: True)

    with work.doing(here):
        work.external_ref("job-1")
        with pytest.raises(work.Preempted):
            work.checkpoint([1])

    assert work.preempted() is False, "outside of work, nobody has to go"
    assert [(left.checkpoint, left.external_ref) for left in kept] == [(None, "job-1"), ([1], "job-1")]


@pytest.mark.parametrize(
    ("say", "told"),
    [
        (lambda: work.checkpoint("x" * MAX_CHECKPOINT_BYTES), "checkpoint: .*more than 65536: put it in an artifact"),
        (lambda: work.checkpoint(object()), "checkpoint: "),
        (lambda: work.checkpoint({"x": "\0"}), "checkpoint: .*NUL"),
        (lambda: work.external_ref("x" * 1025), "external_ref: String should have at most 1024 characters"),
        (lambda: work.external_ref("a\0"), "external_ref: "),
        (lambda: work.external_ref(7), "external_ref: Input should be a valid string"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_field(say: Any, told: str) -> None:
    with work.doing(work.Attempt("run", "a", "data.a", 1)), pytest.raises(InvalidInput, match=told):
        say()


def test_work_that_nobody_wants_any_more_stops_where_it_would_keep_something() -> None:
    here = work.Attempt("run", "a", "data.a", 1)
    here.stopped.set()

    with work.doing(here), pytest.raises(work.Stopped):
        work.checkpoint(1)


async def test_outside_a_run_nothing_is_kept() -> None:
    work.external_ref("job-1")
    await work.checkpoint({"epoch": 1})

    assert work.attempt() is None


def test_the_work_of_the_page_on_workers_goes_on_where_it_was() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/workers.md").read_text()
    (text,) = re.findall(r"```python\n# acme/jobs.py\n(.*?)```", page, re.DOTALL)
    begun: list[str] = []
    asked = iter([ConnectionError(), False, True])

    def cluster_job(cluster: str, name: str) -> str:
        begun.append(name)
        return f"{cluster}/{name}"

    def is_done(job: str) -> bool:
        answer = next(asked)
        if isinstance(answer, Exception):
            raise answer
        return answer

    names: dict[str, Any] = {"cluster_job": cluster_job, "is_done": is_done}
    exec(text, names)  # noqa: S102 - our own page
    names["time"] = SimpleNamespace(sleep=lambda _: None)

    @flow("jobs")
    def jobs() -> dict[str, Any]:
        return {"counted": names["count"](to=3)["counted"], "job": names["submit"](cluster="c")["job"]}

    run = Environment(jobs).start(jobs)
    run.finish()

    assert run.output == {"counted": 3, "job": f"c/{begun[0]}"}
    assert len(begun) == 1
