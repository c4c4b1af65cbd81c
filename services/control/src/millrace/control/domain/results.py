"""What runs ask and tell of results, as it is kept until it is read."""

from typing import Any
from uuid import UUID

from millrace.core.results import Computing, Result, Slot
from millrace.core.state import AskCache, TellCache

PREFIX = "result/"
"""What the keys of results begin with among what is due."""


def mail_of(told: AskCache | TellCache) -> dict[str, Any]:
    """Return it as JSON."""
    about: dict[str, Any] = {"name": told.name, "kind": told.kind, "parts": dict(told.parts)}
    if isinstance(told, AskCache):
        return {"ask": {**about, "expires_s": told.expires_s, "refresh": told.refresh}}
    return {"tell": {**about, "output": told.output, "kept_s": told.kept_s}}


def read_mail(told: dict[str, Any], key: str, task_id: UUID) -> AskCache | TellCache:
    """Return what `mail_of` kept."""
    if "ask" in told:
        return AskCache(**told["ask"], task_id=task_id, key=key)
    return TellCache(**told["tell"], task_id=task_id, key=key)


def computing_json(computing: Computing) -> dict[str, str]:
    """Return who computes as JSON."""
    return {"run_id": str(computing.run_id), "task": computing.task, "task_id": str(computing.task_id)}


def slot_of(row: Any) -> Slot:  # noqa: ANN401 - a row, by the names of its columns
    """Return what there is under a key."""
    by = row["computing"]
    computing = Computing(UUID(by["run_id"]), by["task"], UUID(by["task_id"])) if by is not None else None
    return Slot(result_of(row) if row["at"] is not None else None, computing)


def result_of(row: Any) -> Result:  # noqa: ANN401 - likewise
    """Return a result that is kept."""
    return Result(row["output"], row["run_id"], row["task"], row["at"], row["expires_at"], row["parts"])
