"""Reads a workflow document and says everything that is wrong with it before anything runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches

from millrace.core.errors import InvalidDocument, Problem, problems_of
from millrace.core.expression import InvalidExpression, compile_condition
from millrace.core.ir import KNOWN_FIELDS, MAX_DEPTH, MAX_TASKS, MAX_WORKFLOW_BYTES, Body, Task, Workflow
from millrace.core.parts import Deadline, Pointer, canonical_json, pointers_in
from millrace.core.pointer import parse_pointer
from pydantic import JsonValue, ValidationError

TRIGGER_FIELDS = ("id", "source", "type", "subject", "time", "data", "schedule")
RUN_FIELDS = ("id", "started_at")
#: What a task with bodies tells those: an item, how many came before it, what the last iteration handed on, a failure.
TOLD = ("item", "index", "last", "error")
VARIABLES = frozenset({"outputs", "status", "trigger", *TOLD})
#: Words that CEL keeps for itself, so `outputs.<word>` would not parse.
CEL_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)


def parse_workflow(
    document: JsonValue, *, most_tasks: int = MAX_TASKS, most_bytes: int = MAX_WORKFLOW_BYTES
) -> Workflow:
    """Return the workflow that a JSON document describes, checked whole: fields, names, graph, pointers, conditions.

    Raises:
        InvalidDocument: It cannot be run; each problem names its field and what would be right.
    """
    try:
        if len(canonical_json(document)) > most_bytes:
            raise InvalidDocument("workflow", [Problem("", f"larger than {most_bytes} bytes")])
        workflow = Workflow.model_validate(document)
    except ValidationError as error:
        raise InvalidDocument("workflow", problems_of(error, KNOWN_FIELDS)) from error
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InvalidDocument):
            raise
        raise InvalidDocument("workflow", [Problem("", f"not JSON: {error}")]) from error
    if problems := problems_in(workflow, most_tasks):
        raise InvalidDocument(f"workflow {workflow.name}", problems)
    return workflow


@dataclass(frozen=True, slots=True)
class _Sees:
    """What is known when a task starts, besides the trigger and the run.

    Attributes:
        settled: The tasks that are settled by then.
        told: What the tasks whose bodies it is in tell it: (`item`, their name) and the like.
        cleans_up: It is in a body that is done however the run ends, and so cannot end it.
    """

    settled: frozenset[str] = frozenset()
    told: frozenset[tuple[str, str]] = frozenset()
    cleans_up: bool = False

    def within(self, task: Task, name: str) -> "_Sees":
        """Return the same with what a task tells its bodies and conditions."""
        return replace(self, told=self.told | {(variable, name) for variable in _TELLS.get(task.form, ())})

    def after(self, name: str) -> "_Sees":
        """Return the same once a task has succeeded."""
        return replace(self, settled=self.settled | {name})


#: The bodies of a task that are done once it has succeeded.
_AFTER = ("compensate", "teardown")
_TELLS = {"kind": ("error",), "foreach": ("item", "index"), "while": ("index", "last"), "try": ("error",)}


def problems_in(workflow: Workflow, most_tasks: int = MAX_TASKS) -> list[Problem]:
    """Return what is wrong with a well-formed workflow's graph, pointers and conditions."""
    if (count := _count(workflow.tasks)) > most_tasks:
        return [Problem("tasks", f"{count} tasks with those in bodies; at most {most_tasks} are allowed")]
    body = Body(tasks=workflow.tasks, output=workflow.output)
    return [*_bad_deadline("", "", workflow.deadline, _Sees()), *_bad_body("", body, _Sees(), frozenset())]


def _count(tasks: Mapping[str, Task]) -> int:
    return len(tasks) + sum(_count(body.tasks) for task in tasks.values() for _, _, body in task.bodies())


def _bad_body(at: str, body: Body, sees: _Sees, around: frozenset[str], depth: int = 1) -> Iterator[Problem]:
    if depth > MAX_DEPTH:
        yield Problem(at.rstrip("."), f"bodies lie in one another deeper than {MAX_DEPTH} levels")
        return
    if problems := [*_bad_names(at, body.tasks, around), *_bad_needs(at, body.tasks)] or _cycle(at, body.tasks):
        yield from problems
        return
    upstream = upstream_of(body.tasks)
    for name, task in body.tasks.items():
        here, known = f"{at}tasks.{name}", replace(sees, settled=sees.settled | upstream[name])
        yield from _bad_task(here, name, task, known)
        for _, field, inner in task.bodies():
            names = around | body.tasks.keys()
            told = known.after(name) if field in _AFTER else known.within(task, name)
            told = replace(told, cleans_up=told.cleans_up or field in {*_AFTER, "try.finally"})
            yield from _bad_body(f"{here}.{field}.", inner, told, names, depth + 1)
    every = replace(sees, settled=sees.settled | body.tasks.keys())
    yield from _bad_pointers(at.rstrip("."), "", [("output", body.output)], every)


def _bad_task(here: str, name: str, task: Task, sees: _Sees) -> Iterator[Problem]:
    if sees.cleans_up and (field := _ends_the_run(task)):
        told = "what is done however the run ends cannot end it: fail a task, or choose another way to go on"
        yield Problem(f"{here}.{field}", told)
    if task.when is not None:
        yield from _bad_condition(f"{here}.when", name, task.when, sees)
    for field, text in task.conditions():
        if text is not None:
            yield from _bad_condition(f"{here}.{field}", name, text, sees.within(task, name))
    yield from _bad_pointers(here, name, task.pointers(), sees)
    yield from _bad_deadline(f"{here}.", name, task.deadline, sees)
    if task.foreach is not None and task.foreach.key is not None:
        try:
            parse_pointer(task.foreach.key)
        except ValueError as error:
            yield Problem(f"{here}.foreach.key", str(error))
    if task.wait is not None and isinstance(task.wait.until, str):
        yield from _bad_time(f"{here}.wait.until", task.wait.until)


def _bad_deadline(at: str, name: str, deadline: Deadline | None, sees: _Sees) -> Iterator[Problem]:
    if deadline is None:
        return
    given = (("deadline.after_s", deadline.after_s), ("deadline.at", deadline.at))
    yield from _bad_pointers(at.rstrip("."), name, given, sees)
    if isinstance(deadline.at, str):
        yield from _bad_time(f"{at}deadline.at", deadline.at)


def _ends_the_run(task: Task) -> str:
    """Return the field by which a task may end its run; nothing where it cannot."""
    if task.end is not None or task.gate is not None:
        return task.form
    if task.approve is not None and "refused" in {task.approve.rejected, task.approve.expired}:
        return "approve.rejected" if task.approve.rejected == "refused" else "approve.expired"
    return ""


def upstream_of(tasks: Mapping[str, Task]) -> dict[str, frozenset[str]]:
    """Return, for each task of an acyclic body, all of its tasks that are settled before it starts."""
    upstream: dict[str, frozenset[str]] = {}
    for name in topological_order(tasks):
        needs = tasks[name].needs
        upstream[name] = frozenset(needs).union(*(upstream[need] for need in needs))
    return upstream


def topological_order(tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Return the names of a body's tasks so that each follows its needs; those in or behind a cycle are left out."""
    order: dict[str, None] = {}
    waiting = dict(tasks)
    while ready := [name for name, task in waiting.items() if all(need in order for need in task.needs)]:
        for name in ready:
            order[name] = None
            del waiting[name]
    return tuple(order)


def _bad_names(at: str, tasks: Mapping[str, Task], around: frozenset[str]) -> Iterator[Problem]:
    for name, task in tasks.items():
        if name in CEL_RESERVED:
            yield Problem(f"{at}tasks.{name}", f"{name!r} is a reserved word of CEL; choose another name")
        if name in around:
            yield Problem(f"{at}tasks.{name}", "a task around it has this name already; choose another")
        bodies = [suffix for suffix, _, _ in task.bodies()]
        if len(set(bodies)) < len(bodies):
            told = "two of its bodies have the same name: cases, branches, default, compensate, teardown"
            yield Problem(f"{at}tasks.{name}", told)


def _bad_needs(at: str, tasks: Mapping[str, Task]) -> Iterator[Problem]:
    for name, task in tasks.items():
        if len(set(task.needs)) < len(task.needs):
            yield Problem(f"{at}tasks.{name}.needs", "names a task twice; name each once")
        for need in task.needs:
            if need not in tasks:
                known = ", ".join(other for other in tasks if other != name)
                yield Problem(f"{at}tasks.{name}.needs", f"there is no task {need!r}; tasks are {known}")


def _cycle(at: str, tasks: Mapping[str, Task]) -> list[Problem]:
    stuck = set(tasks) - set(topological_order(tasks))
    if not stuck:
        return []
    path = [min(stuck)]
    while True:
        following = next(need for need in tasks[path[-1]].needs if need in stuck)
        if following in path:
            cycle = [*path[path.index(following) :], following]
            told = f"the tasks need each other in a circle: {' -> '.join(cycle)}"
            return [Problem(f"{at}tasks.{cycle[0]}.needs", told)]
        path.append(following)


def _bad_condition(field: str, name: str, text: str, sees: _Sees) -> Iterator[Problem]:
    try:
        condition = compile_condition(text, VARIABLES)
    except InvalidExpression as error:
        yield Problem(field, str(error))
        return
    for variable, other in sorted(condition.members):
        if variable in TOLD:
            if (variable, other) not in sees.told:
                yield Problem(field, f"{variable}.{other}: {_not_told(variable, other, sees)}")
        elif variable != "trigger" and other not in sees.settled:
            yield Problem(field, f"{variable}.{other}: {_not_upstream(name, other, sees)}")


def _bad_pointers(
    here: str, name: str, values: Iterable[tuple[str, JsonValue | Pointer]], sees: _Sees
) -> Iterator[Problem]:
    dot = "." if here else ""
    for field, value in values:
        try:
            found = [(field, value)] if isinstance(value, Pointer) else list(pointers_in(value, field))
        except InvalidDocument as error:
            yield from (Problem(f"{here}{dot}{problem.field}", problem.message) for problem in error.problems)
            continue
        for place, pointer in found:
            if complaint := _pointer_complaint(name, pointer.pointer, sees):
                yield Problem(f"{here}{dot}{place}.$from", complaint)


def no_trigger_field(name: str, known: Sequence[str] = TRIGGER_FIELDS) -> str:
    """Return in words that what starts a run has no such field, and what is meant; nothing where it has."""
    if name in known:
        return ""
    near = get_close_matches(name, known, n=1)
    meant = f": did you mean {near[0]!r}?" if near else ", what an event carries is in 'data'"
    return f"trigger has no {name!r}{meant}; it has {', '.join(known)}"


def _pointer_complaint(name: str, text: str, sees: _Sees) -> str | None:
    try:
        tokens = parse_pointer(text)
    except ValueError as error:
        return str(error)
    match tokens:
        case ("trigger", *rest):
            return no_trigger_field(rest[0]) if rest else None
        case ("run", field) if field in RUN_FIELDS:
            return None
        case ("tasks", other, "output", *_):
            return None if other in sees.settled else _not_upstream(name, other, sees)
        case (variable, other, *_) if variable in TOLD:
            return None if (variable, other) in sees.told else _not_told(variable, other, sees)
    return (
        f"{text!r} leads nowhere; it must start with /trigger/<{'|'.join(TRIGGER_FIELDS)}>, "
        f"/tasks/<task>/output or /<{'|'.join(TOLD)}>/<task>, or be /run/<{'|'.join(RUN_FIELDS)}>"
    )


def _bad_time(field: str, text: str) -> Iterator[Problem]:
    try:
        plain = datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        plain = True
    if plain:
        yield Problem(field, f"{text!r} is no time of RFC 3339 with its offset, such as 2026-03-29T01:00:00+01:00")


def _not_upstream(name: str, other: str, sees: _Sees) -> str:
    known = ", ".join(sorted(sees.settled)) or "none: it needs no task"
    if not name:
        return f"there is no task {other!r} here; tasks are {known}"
    return f"{other!r} is not settled before {name!r} starts; add it to `needs` (now settled before: {known})"


def _not_told(variable: str, other: str, sees: _Sees) -> str:
    known = ", ".join(sorted(f"{told}.{name}" for told, name in sees.told)) or "nothing of the kind"
    return f"{other!r} tells no {variable} here; known is {known}"
