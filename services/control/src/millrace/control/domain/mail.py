"""What one run, or a pool, tells another run, and what it is told of results, as it is kept until it is read."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from millrace.core.state import (
    CANCEL_GRACE_S,
    Admitted,
    CacheAnswered,
    CancelRequested,
    ChildEnded,
    EventCame,
    Input,
    PauseRequested,
    ResumeRequested,
    RunState,
    Start,
)


def mail_of(told: Input) -> dict[str, Any]:  # noqa: PLR0911 - one for each kind
    """Return it as JSON.

    Raises:
        TypeError: It is nothing that one run tells another.
    """
    match told:
        case ChildEnded():
            about = {"name": told.name, "task_id": str(told.task_id), "state": told.state, "cause": told.cause}
            return {"child_ended": {**about, "output": told.output}}
        case CancelRequested(cause=cause, grace_s=grace_s, force=force):
            return {"cancel": cause, "grace_s": grace_s, "force": force}
        case PauseRequested(cause=cause):
            return {"pause": cause}
        case ResumeRequested(cause=cause):
            return {"resume": cause}
        case Admitted(name=name, ticket=ticket):
            return {"admitted": name, "ticket": str(ticket)}
        case EventCame(tasks=tasks, event=event):
            return {"event": dict(event), "tasks": [[name, str(task_id)] for name, task_id in tasks]}
        case CacheAnswered():
            return {"result": {**asdict(told), "task_id": str(told.task_id)}}
        case Start():
            return {"start": True}
    raise TypeError(f"no run tells another {type(told).__name__}")


def read_mail(told: dict[str, Any]) -> Input:  # noqa: PLR0911 - likewise
    """Return what `mail_of` kept."""
    if "cancel" in told:
        return CancelRequested(
            told["cancel"], grace_s=told.get("grace_s", CANCEL_GRACE_S), force=told.get("force", False)
        )
    if "pause" in told:
        return PauseRequested(told["pause"])
    if "resume" in told:
        return ResumeRequested(told["resume"])
    if "admitted" in told:
        return Admitted(told["admitted"], UUID(told["ticket"]))
    if "event" in told:
        return EventCame(tuple((name, UUID(task_id)) for name, task_id in told["tasks"]), told["event"])
    if "start" in told:
        return Start()
    if "result" in told:
        answer = told["result"]
        return CacheAnswered(**{**answer, "task_id": UUID(answer["task_id"])})
    about = told["child_ended"]
    state = RunState(about["state"])
    return ChildEnded(about["name"], UUID(about["task_id"]), state, about["cause"], about["output"])
