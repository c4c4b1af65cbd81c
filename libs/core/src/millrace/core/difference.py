"""What is different about a workflow's next version."""

from collections.abc import Iterator

from millrace.core.ir import Task, Workflow
from millrace.core.plan import compile_plan

_OWN = ("timeout_s", "deadline", "output")


def differences(before: Workflow, after: Workflow) -> Iterator[str]:
    """Yield, a line each, the tasks that are new, gone or changed, in bodies too, and what else is.

    A description changes nothing that is done, and is not told.
    """
    old, new = compile_plan(before).steps, compile_plan(after).steps
    for path, step in new.items():
        if path not in old:
            yield f"+ {path}: {step.task.kind or step.task.form}"
        elif changed := sorted(changed_fields(old[path].task, step.task)):
            yield f"~ {path}: {', '.join(changed)}"
    yield from (f"- {path}: {step.task.kind or step.task.form}" for path, step in old.items() if path not in new)
    yield from (f"~ {field}" for field in _OWN if getattr(before, field) != getattr(after, field))


def changed_fields(before: Task, after: Task) -> Iterator[str]:
    """Yield the fields of a task that differ; of those with bodies, what is theirs and not their tasks'."""
    old, new = before.document(), after.document()
    yield from (field for field in old.keys() | new.keys() if old.get(field) != new.get(field))
