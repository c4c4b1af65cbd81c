"""Tasks whose output is a plan: checked, put under the task, and done."""

from typing import Any

from millrace.core.draft import Draft
from millrace.core.errors import InvalidDocument
from millrace.core.ir import Workflow
from millrace.core.misfits import misfit
from millrace.core.parse import parse_workflow
from millrace.core.paths import inside
from millrace.core.plan import compile_plan
from millrace.core.pointer import resolve
from millrace.core.state import Failure, TaskRun, TaskState

PLAN = "$plan"
MAX_PLANNED_TASKS, MAX_PLANNED_BYTES = 2_000, 1024 * 1024
"""The most tasks, and bytes of its document, that a workflow has with all that was planned in a run."""
TOLD_PROBLEMS = 5
INVALID_PLAN = "InvalidPlan"


def parse_planned(document: Any) -> Workflow:  # noqa: ANN401 - a JSON value
    """Return a workflow with what was planned in a run.

    Raises:
        InvalidDocument: It cannot be run.
    """
    return parse_workflow(document, most_tasks=MAX_PLANNED_TASKS, most_bytes=MAX_PLANNED_BYTES)


def splice(draft: Draft, task: TaskRun, plan: Any) -> None:  # noqa: ANN401 - a JSON value
    """Put a plan under the task that made it and begin it, or fail the task when it cannot be run."""
    whole = draft.plan.workflow.document()
    written = resolve(whole, tuple(draft.plan.step(task.name).field.split(".")))
    planned = written.setdefault("planned", {})
    name = f"plan{len(planned)}"
    planned[name] = plan
    try:
        workflow = parse_planned(whole)
    except InvalidDocument as error:
        told = "; ".join(map(str, error.problems[:TOLD_PROBLEMS]))
        draft.fail(task, Failure(INVALID_PLAN, told, retryable=False))
        return
    before, after = draft.plan, compile_plan(workflow)
    new = ((path, misfit(step.task)) for path, step in after.steps.items() if path not in before.steps)
    if told := next((f"{path}: {problem}" for path, problem in new if problem is not None), ""):
        draft.fail(task, Failure(INVALID_PLAN, told, retryable=False))
        return
    draft.planned, draft.plan = workflow, after
    draft.run_changed = True
    task.state, task.token, task.due_at, task.inner = TaskState.OPEN, None, draft.deadline(task), {"plan": name}
    draft.open(inside(task.name, name))
