"""Reads a workflow document and says everything that is wrong with it before anything runs."""

from collections.abc import Iterator

from millrace.core.errors import InvalidDocument, Problem, problems_of
from millrace.core.expression import InvalidExpression, compile_condition
from millrace.core.ir import KNOWN_FIELDS, MAX_WORKFLOW_BYTES, Pointer, Task, Workflow, canonical_json, pointers_in
from millrace.core.pointer import parse_pointer
from pydantic import JsonValue, ValidationError

TRIGGER_FIELDS = ("id", "source", "type", "subject", "time", "data")
RUN_FIELDS = ("id", "started_at")
WHEN_VARIABLES = frozenset({"outputs", "status", "trigger"})
#: Words that CEL keeps for itself, so `outputs.<word>` would not parse.
CEL_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)


def parse_workflow(document: JsonValue) -> Workflow:
    """Return the workflow that a JSON document describes, checked whole: fields, names, graph, pointers, conditions.

    Raises:
        InvalidDocument: It cannot be run; each problem names its field and what would be right.
    """
    try:
        if len(canonical_json(document)) > MAX_WORKFLOW_BYTES:
            raise InvalidDocument("workflow", [Problem("", f"larger than {MAX_WORKFLOW_BYTES} bytes")])
        workflow = Workflow.model_validate(document)
    except ValidationError as error:
        raise InvalidDocument("workflow", problems_of(error, KNOWN_FIELDS)) from error
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InvalidDocument):
            raise
        raise InvalidDocument("workflow", [Problem("", f"not JSON: {error}")]) from error
    if problems := problems_in(workflow):
        raise InvalidDocument(f"workflow {workflow.name}", problems)
    return workflow


def problems_in(workflow: Workflow) -> list[Problem]:
    """Return what is wrong with a well-formed workflow's graph, pointers and conditions."""
    problems = list(_bad_needs(workflow))
    if problems:
        return problems
    if cycle := _cycle(workflow):
        return [Problem(f"tasks.{cycle[0]}.needs", f"the tasks need each other in a circle: {' -> '.join(cycle)}")]
    upstream = upstream_of(workflow)
    for name, task in workflow.tasks.items():
        problems.extend(_bad_when(name, task, upstream[name]))
        problems.extend(_bad_pointers(name, task, upstream[name]))
    return problems


def upstream_of(workflow: Workflow) -> dict[str, frozenset[str]]:
    """Return, for each task of an acyclic workflow, all tasks that are settled before it starts."""
    upstream: dict[str, frozenset[str]] = {}
    for name in topological_order(workflow):
        needs = workflow.tasks[name].needs
        upstream[name] = frozenset(needs).union(*(upstream[need] for need in needs))
    return upstream


def topological_order(workflow: Workflow) -> tuple[str, ...]:
    """Return the task names so that each follows its needs; those in or behind a cycle are left out."""
    order: dict[str, None] = {}
    waiting = dict(workflow.tasks)
    while ready := [name for name, task in waiting.items() if all(need in order for need in task.needs)]:
        for name in ready:
            order[name] = None
            del waiting[name]
    return tuple(order)


def _bad_needs(workflow: Workflow) -> Iterator[Problem]:
    for name, task in workflow.tasks.items():
        if name in CEL_RESERVED:
            yield Problem(f"tasks.{name}", f"{name!r} is a reserved word of CEL; choose another name")
        if len(set(task.needs)) < len(task.needs):
            yield Problem(f"tasks.{name}.needs", "names a task twice; name each once")
        for need in task.needs:
            if need not in workflow.tasks:
                known = ", ".join(other for other in workflow.tasks if other != name)
                yield Problem(f"tasks.{name}.needs", f"there is no task {need!r}; tasks are {known}")


def _cycle(workflow: Workflow) -> list[str]:
    stuck = set(workflow.tasks) - set(topological_order(workflow))
    if not stuck:
        return []
    path = [min(stuck)]
    while True:
        following = next(need for need in workflow.tasks[path[-1]].needs if need in stuck)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _bad_when(name: str, task: Task, upstream: frozenset[str]) -> Iterator[Problem]:
    if task.when is None:
        return
    field = f"tasks.{name}.when"
    try:
        condition = compile_condition(task.when, WHEN_VARIABLES)
    except InvalidExpression as error:
        yield Problem(field, str(error))
        return
    for variable, other in sorted(condition.members):
        if other not in upstream:
            yield Problem(field, f"{variable}.{other}: {_not_upstream(name, other, upstream)}")


def _bad_pointers(name: str, task: Task, upstream: frozenset[str]) -> Iterator[Problem]:
    try:
        pointers = list(pointers_in(task.input))
    except InvalidDocument as error:
        yield from (Problem(f"tasks.{name}.{problem.field}", problem.message) for problem in error.problems)
        return
    if task.end is not None and isinstance(task.end.reason, Pointer):
        pointers.append(("end.reason", task.end.reason))
    for field, pointer in pointers:
        if complaint := _pointer_complaint(name, pointer.pointer, upstream):
            yield Problem(f"tasks.{name}.{field}.$from", complaint)


def _pointer_complaint(name: str, text: str, upstream: frozenset[str]) -> str | None:
    try:
        tokens = parse_pointer(text)
    except ValueError as error:
        return str(error)
    match tokens:
        case ("trigger", *rest) if not rest or rest[0] in TRIGGER_FIELDS:
            return None
        case ("run", field) if field in RUN_FIELDS:
            return None
        case ("tasks", other, "output", *_):
            return None if other in upstream else _not_upstream(name, other, upstream)
    return (
        f"{text!r} leads nowhere; it must start with /trigger/<{'|'.join(TRIGGER_FIELDS)}>, "
        f"/tasks/<task>/output or be /run/<{'|'.join(RUN_FIELDS)}>"
    )


def _not_upstream(name: str, other: str, upstream: frozenset[str]) -> str:
    known = ", ".join(sorted(upstream)) or "none: it needs no task"
    return f"{other!r} is not settled before {name!r} starts; add it to `needs` (now settled before: {known})"
