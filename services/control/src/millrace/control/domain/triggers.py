"""What a run gets of the events that started it, and what is said of events that did not start one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from millrace.core.triggers import Event, Firing, Member, Trigger
from millrace.core.triggers.gathering import MAX_BYTES

Known = Mapping[tuple[str, str], Event]


def gathered_document(trigger: Trigger, key: str, firing: Firing, events: Known, run_id: object) -> dict[str, Any]:
    """Return the trigger document of a run that several events start together.

    With mode latest it is that of the newest event. Else its `data` has the `key` and the whole events: of a join with
    members under their names in `members`, with partitions a list each in the order of those; else as `events`.
    """
    if trigger.mode == "latest":
        return _event(firing.members[-1], events).document()
    newest = max(firing.members)
    return {
        "id": str(run_id),
        "source": f"/millrace/control/triggers/{trigger.name}",
        "type": "millrace.join" if trigger.join else "millrace.batch",
        "subject": key,
        "time": newest.time.isoformat(),
        "data": {"key": key, **_parts(trigger, firing, events)},
    }


def _parts(trigger: Trigger, firing: Firing, events: Known) -> dict[str, Any]:
    shown = dict(zip(firing.members, _shown(firing.members, events), strict=True))
    if trigger.join is None:
        return {"events": list(shown.values())}
    about = {"complete": not firing.missing, "missing": list(firing.missing)}
    names = [member.name for member in trigger.join.members]
    if not names:
        return {**about, "events": list(shown.values())}
    if trigger.join.partitions is None:
        return {**about, "members": {member.slot: told for member, told in shown.items()}}
    by_name: dict[str, list[Any]] = {name: [] for name in names}
    for member, told in shown.items():
        by_name[member.slot.partition("/")[0]].append(told)
    return {**about, "members": by_name}


def _shown(members: Sequence[Member], events: Known) -> Iterator[dict[str, Any]]:
    """Yield events as documents: as much data as one run may hold, of the first; the others say that it is left out."""
    left = MAX_BYTES
    for member in members:
        document = _event(member, events).document()
        left -= len(json.dumps(document["data"]))
        yield document if left >= 0 else {**document, "data": None, "data_left_out": True}


def _event(member: Member, events: Known) -> Event:
    return events[member.source, member.id]


def expired_reason(window_s: float, missing: Sequence[str]) -> str:
    """Return why events that waited for others start nothing."""
    shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")  # noqa: PLR2004
    wanted = f"it did not come: {shown}" if missing else "all came, but in another order"
    return f"it waited {window_s:g} s for what belongs to it; {wanted}"


def delivered_reason(tasks: Sequence[tuple[UUID, str]]) -> str:
    """Return which tasks of which runs got an event."""
    shown = ", ".join(f"task {name} of run {run_id}" for run_id, name in tasks[:10])
    more = f" and {len(tasks) - 10} more" if len(tasks) > 10 else ""  # noqa: PLR2004
    return f"{shown}{more} waited for it"


def unclaimed_reason(key: str, keep_s: float) -> str:
    """Return why an event was given to no task."""
    return f"no task waited for it under key {key!r} within {keep_s:g} s"


def waiting_reason(trigger: Trigger, key: str, until: datetime | None) -> str:
    """Return what an event waits for."""
    if trigger.workflow is None:
        return f"no task waits for it under key {key!r} yet" + _until(until)
    what = f"the others of its join under key {key!r}" if trigger.join else f"more events under key {key!r}"
    return f"it waits for {what}{_until(until)}"


def _until(moment: datetime | None) -> str:
    return f", until {moment:%Y-%m-%d %H:%M:%S} UTC at most" if moment else ""
