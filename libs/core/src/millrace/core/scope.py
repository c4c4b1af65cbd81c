"""What conditions and inputs of a run can see."""

from typing import Any

from millrace.core.plan import Plan, Step
from millrace.core.state import Run, TaskState


def variables_of(run: Run, step: Step) -> dict[str, Any]:
    """Return what the step's condition reads, and no more: converting values is most of its cost."""
    condition = step.condition
    variables: dict[str, Any] = {}
    if condition is None:
        return variables
    settled = {name: task for name, task in run.tasks.items() if name != step.name}
    if "outputs" in condition.variables:
        variables["outputs"] = {
            name: task.output
            for name, task in settled.items()
            if task.state is TaskState.SUCCEEDED and (condition.outputs is None or name in condition.outputs)
        }
    if "status" in condition.variables:
        variables["status"] = {name: str(task.state) for name, task in settled.items()}
    if "trigger" in condition.variables:
        variables["trigger"] = run.trigger
    return variables


def document_of(run: Run, plan: Plan) -> dict[str, Any]:
    """Return what pointers lead into."""
    return {
        "trigger": run.trigger,
        "tasks": {
            name: {"output": task.output}
            for name, task in run.tasks.items()
            if task.state is TaskState.SUCCEEDED and plan.steps[name].task.end is None
        },
        "run": {"id": str(run.run_id), "started_at": run.started_at.isoformat() if run.started_at else None},
    }
