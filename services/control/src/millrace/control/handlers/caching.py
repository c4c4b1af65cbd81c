"""Results that are taken again: what runs ask and tell of a key, decided under that key's lock."""

from collections.abc import Sequence

from millrace.control.store import Store, Turn
from millrace.core.results import ask, tell
from millrace.core.state import AskCache, TellCache


async def look_at_results(turns: Sequence[Turn], tx: Store) -> int:
    """Read what was asked and told of some keys, and tell the runs; return how much was read."""
    slots = await tx.hold_results((turn.namespace, turn.key) for turn in turns)
    mail = await tx.result_mail([*slots])
    kinds = {one.place: one.told.kind for one in mail}
    latest = await tx.latest_results((one.place[0], one.told.kind) for one in mail if isinstance(one.told, AskCache))
    waiting, wakes = [], []
    for one in mail:
        namespace, slot = one.place[0], slots[one.place]
        if isinstance(one.told, TellCache):
            slots[one.place], who = tell(slot, one.run_id, one.told, tx.now)
            wakes.append((one.place, who))
            continue
        near = latest.get((namespace, one.told.kind))
        slots[one.place], answer = ask(slot, one.run_id, one.told, tx.now, near)
        if answer is None:
            waiting.append(one)
        else:
            tx.add_mail(one.run_id, answer)
    kept = {one.mail_id for one in waiting}
    tx.read_result_mail([one for one in mail if one.mail_id not in kept], waiting)
    for place, who in wakes:
        if who != "nobody":
            tx.wake_results(place, all_of_them=who == "all")
    tx.save_results(slots, kinds)
    return len(mail)
