"""What an author's workflow is refused for although it can be read: something in it could never be as it says.

Only what is new is held against this: versions that are in force, and runs of them, go on as they began.
"""

from collections.abc import Iterator

from millrace.core.errors import InvalidDocument, Problem
from millrace.core.expression import compile_condition
from millrace.core.ir import Task, Workflow
from millrace.core.parse import VARIABLES, no_trigger_field
from millrace.core.plan import compile_plan

MIN_HEARTBEAT_TIMEOUT_S = 15.0
"""Workers are heard of every 5 s."""


def check_fits(workflow: Workflow) -> None:
    """Do nothing when all that a workflow says can be.

    Raises:
        InvalidDocument: Something can never be; each problem names its field and what would be right.
    """
    if problems := [*misfits(workflow)]:
        raise InvalidDocument(f"workflow {workflow.name}", problems)


def misfits(workflow: Workflow) -> Iterator[Problem]:
    """Yield what of a workflow can never be as it says."""
    for step in compile_plan(workflow).steps.values():
        found = (_planned(step.task), misfit(step.task), outlives(step.task, workflow.timeout_s))
        for problem in (*found, *_unknown_fields(step.task)):
            if problem is not None:
                yield Problem(f"{step.field}.{problem.field}", problem.message)


def misfit(task: Task) -> Problem | None:
    """Return why a task can never be done, or None when it can."""
    if task.heartbeat_timeout_s < MIN_HEARTBEAT_TIMEOUT_S:
        told = f"is less than {MIN_HEARTBEAT_TIMEOUT_S:g}: workers are heard of every 5 s"
        return Problem("heartbeat_timeout_s", told)
    return None


def outlives(task: Task, run_s: float) -> Problem | None:
    """Return why a run of so many seconds is over before a task's wait can be, or None when it is not."""
    if task.wait is not None and isinstance(task.wait.for_s, float) and task.wait.for_s >= run_s:
        field, waits_s = "wait.for_s", task.wait.for_s
    elif task.approve is not None and (task.timeout_s or 0.0) >= run_s:
        field, waits_s = "timeout_s", task.timeout_s or 0.0
    else:
        return None
    return Problem(field, f"is {waits_s:g}, and its run ends after {run_s:g} s: give the workflow a longer `timeout_s`")


def _planned(task: Task) -> Problem | None:
    return Problem("planned", "what is planned is found out in a run, and not written") if task.planned else None


def _unknown_fields(task: Task) -> Iterator[Problem]:
    for field, text in (("when", task.when), *task.conditions()):
        if text is not None:
            members = compile_condition(text, VARIABLES).members
            said = (no_trigger_field(name) for variable, name in sorted(members) if variable == "trigger")
            yield from (Problem(field, told) for told in said if told)
