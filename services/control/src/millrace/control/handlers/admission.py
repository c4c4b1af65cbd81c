"""Slots of pools are asked for, given back, and had by whoever's turn it is."""

from collections.abc import Collection, Iterable
from uuid import UUID

from millrace.control.domain.admission import Claims
from millrace.control.store import HeldAdmission, Store
from millrace.core.admission import admit
from millrace.core.state import Admitted

AT_ONCE = 32
"""How many are let in at once in a namespace: of more, the others are by the clock, which looks again at once."""

Granted = dict[UUID, list[Admitted]]


async def settle_claims(claims: Claims, here: Collection[UUID], tx: Store) -> Granted:
    """Keep what decisions ask of pools and let in whose turn it then is.

    Args:
        claims: What is asked.
        here: The runs that are held in this transaction.
        tx: The same.

    Returns:
        What is to be told the runs that are held; all others have it as mail.
    """
    held = await tx.hold_admissions(claims.touched)
    tx.add_waiters(claims.asked.values())
    tx.free_slots(claims.freed)
    granted: Granted = {}
    for one in held:
        # A quota is of all pools: what one gives back may be what somebody in another waits for.
        pools = claims.touched[one.namespace] if one.max_leases is None else None
        granted |= await _let_in(one, pools, tx)
    _post({run_id: told for run_id, told in granted.items() if run_id not in here}, tx)
    return {run_id: told for run_id, told in granted.items() if run_id in here}


async def look_at_pools(namespaces: Iterable[str], tx: Store) -> int:
    """Let in whose turn it is in some namespaces, because time has passed or a pool or a quota is another.

    Returns:
        How many have been let in.
    """
    granted: Granted = {}
    for one in await tx.hold_admissions(namespaces):
        granted |= await _let_in(one, None, tx)
    _post(granted, tx)
    return sum(map(len, granted.values()))


async def _let_in(held: HeldAdmission, pools: Collection[str] | None, tx: Store) -> Granted:
    found = await tx.lines(held, pools, AT_ONCE + 1)
    room = None if held.max_leases is None else max(0, held.max_leases - found.leases)
    decided = admit(found.lines, room, tx.now, AT_ONCE)
    tx.save_admission(held, decided)
    # Of pools that were not looked at, what is due stays so.
    others = [] if pools is None or held.due_at is None else [held.due_at]
    tx.save_due(held, min([*others, *([decided.due_at] if decided.due_at else [])], default=None))
    granted: Granted = {}
    for grant in decided.grants:
        run_id, name = found.places[grant.ticket]
        granted.setdefault(run_id, []).append(Admitted(name, grant.ticket))
    return granted


def _post(granted: Granted, tx: Store) -> None:
    """Have runs be told of their slots under their own locks, at once."""
    for run_id, told in granted.items():
        for one in told:
            tx.add_mail(run_id, one)
