"""Why an event did or did not start a run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from millrace.core.triggers import Event, Trigger, match


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one trigger made of an event.

    Attributes:
        disposition: `started`, `duplicate`, `filtered`, `paused` or `unseen`.
    """

    trigger: str
    disposition: str
    reason: str = ""
    run_id: UUID | None = None


def explain(
    event: Event, triggers: Iterable[Trigger], recorded: Mapping[str, tuple[str, str, UUID]]
) -> list[Explanation]:
    """Return what each trigger of the event's topic made of it.

    Args:
        event: What came.
        triggers: Those in force now.
        recorded: By trigger: what was decided when the event came, the dedupe key, and the run.
    """
    found = []
    for name, (disposition, key, run_id) in sorted(recorded.items()):
        reason = f"an event with the same key {key!r} came before" if disposition == "duplicate" else ""
        found.append(Explanation(name, disposition, reason, run_id))
    for trigger in triggers:
        if trigger.name not in recorded:
            now = match(trigger, event)
            unseen = "it would take the event now; it was not in force, paused or different when the event came"
            disposition = "unseen" if now.taken else "paused" if trigger.paused else "filtered"
            found.append(Explanation(trigger.name, disposition, unseen if now.taken else now.reason))
    return found
