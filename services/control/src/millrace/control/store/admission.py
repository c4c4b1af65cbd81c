"""Slots of pools as they are taken, waited for and given back: rows under the lock of their namespace."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from millrace.control.domain.admission import Asked
from millrace.control.store.rows import columns
from millrace.control.store.signals import Signals
from millrace.core.admission import Admission, Flow, Line, Pool, Rate, Waiter
from millrace.runtime.transaction import Transaction

# Always after runs, and in the order of their names: who holds one waits for no run.
HOLD = "SELECT namespace, max_leases, due_at FROM admission WHERE namespace = ANY($1) ORDER BY namespace FOR UPDATE"
SAVE_DUE = "UPDATE admission SET due_at = $2 WHERE namespace = $1"
IN_FLOW = (
    "(w.namespace, w.pool, w.priority, w.fairness_key) = ({of}.namespace, {of}.pool, {of}.priority, {of}.fairness_key)"
)
# A flow that joins the line begins where those are that wait in it.
ASK = """
WITH asked AS (
    INSERT INTO waiter (ticket, namespace, pool, weight, priority, fairness_key, run_id, name, since)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING namespace, pool, priority, fairness_key, number
)
INSERT INTO flow AS f (namespace, pool, priority, fairness_key, passed, waits, since)
SELECT a.namespace, a.pool, a.priority, a.fairness_key, coalesce((SELECT min(o.passed) FROM flow o
    WHERE o.namespace = a.namespace AND o.pool = a.pool AND o.priority = a.priority AND o.waits), 0), true, a.number
FROM asked a
ON CONFLICT (namespace, pool, priority, fairness_key) DO UPDATE SET waits = true,
    passed = CASE WHEN f.waits THEN f.passed ELSE greatest(f.passed, excluded.passed) END,
    since = CASE WHEN f.waits THEN f.since ELSE excluded.since END
"""
# Those that go are still there for the rest of the statement.
NEXT = f"""
LEFT JOIN LATERAL (SELECT w.number FROM waiter w WHERE {IN_FLOW.format(of="n")} AND w.ticket <> ALL($1)
    ORDER BY w.number LIMIT 1) AS next ON true
"""
OF_FLOW = """
f.namespace = n.namespace AND f.pool = n.pool AND f.priority = n.priority AND f.fairness_key = n.fairness_key
"""
FREE = f"""
WITH held AS (DELETE FROM lease WHERE ticket = ANY($1)), gone AS (
    DELETE FROM waiter WHERE ticket = ANY($1) RETURNING namespace, pool, priority, fairness_key
)
UPDATE flow f SET waits = next.number IS NOT NULL, since = coalesce(next.number, f.since)
FROM (SELECT DISTINCT * FROM gone) AS n {NEXT} WHERE {OF_FLOW}
"""
LINES = f"""
SELECT p.name AS pool, p.slots, p.rate, p.shares, p.full_at, t.taken, f.priority, f.fairness_key, f.passed,
    w.ticket, w.weight, w.number, w.run_id, w.name,
    CASE WHEN $4 THEN (SELECT count(*) FROM lease WHERE namespace = $1) END AS leases
FROM pool p
CROSS JOIN LATERAL (SELECT coalesce(sum(weight), 0)::int AS taken FROM lease l
    WHERE l.namespace = p.namespace AND l.pool = p.name) AS t
CROSS JOIN LATERAL (SELECT least($3, greatest(p.slots - t.taken, 0)) AS most) AS free
CROSS JOIN LATERAL (SELECT * FROM flow f WHERE f.namespace = p.namespace AND f.pool = p.name AND f.waits
    ORDER BY f.priority DESC, f.passed, f.since LIMIT free.most) AS f
CROSS JOIN LATERAL (SELECT * FROM waiter w WHERE {IN_FLOW.format(of="f")} ORDER BY w.number LIMIT free.most) AS w
WHERE p.namespace = $1 AND ($2::text[] IS NULL OR p.name = ANY($2)) ORDER BY w.number
"""
GRANT = f"""
WITH granted AS (
    DELETE FROM waiter w USING unnest($1::uuid[], $2::int[]) AS n(ticket, weight) WHERE w.ticket = n.ticket
    RETURNING w.ticket, w.namespace, w.pool, n.weight, w.priority, w.fairness_key, w.run_id, w.name
), held AS (
    INSERT INTO lease (ticket, namespace, pool, weight, priority, fairness_key, run_id, name, since)
    SELECT *, $3::timestamptz FROM granted
)
UPDATE flow f SET passed = n.passed, waits = next.number IS NOT NULL, since = coalesce(next.number, f.since)
FROM (SELECT $4::text AS namespace, * FROM unnest($5::text[], $6::int[], $7::text[], $8::float[])
    AS n(pool, priority, fairness_key, passed)) AS n {NEXT} WHERE {OF_FLOW}
"""
# What a flow has had that nobody waits in counts only for as long as it is more than those have had that wait.
FORGET = """
DELETE FROM flow f USING (SELECT coalesce(min(passed), 'infinity') AS least FROM flow
    WHERE namespace = $1 AND pool = $2 AND priority = $3 AND waits) AS of
WHERE f.namespace = $1 AND f.pool = $2 AND f.priority = $3 AND NOT f.waits AND f.passed <= of.least
"""
SAVE_FULL = "UPDATE pool SET full_at = $3 WHERE namespace = $1 AND name = $2"


@dataclass(frozen=True, slots=True)
class HeldAdmission:
    """A namespace's row of admission that is held.

    Attributes:
        max_leases: Its quota; None for none.
        due_at: When it is to be looked at again.
    """

    namespace: str
    max_leases: int | None
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lines:
    """Who is first in the lines of some pools.

    Attributes:
        leases: How many tasks hold slots in the namespace; counted only where it has a quota.
        places: Of each ticket in them, the run and the task that it is of.
    """

    lines: Sequence[Line]
    leases: int
    places: Mapping[UUID, tuple[UUID, str]]


class Admissions(Transaction):
    """Who holds slots, and who waits for them."""

    signals: ClassVar[Signals]

    async def hold_admissions(self, namespaces: Iterable[str]) -> list[HeldAdmission]:
        """Hold the admission of namespaces; one that never had a pool or a quota is left out."""
        return [HeldAdmission(*row) for row in await self.fetch(HOLD, sorted(set(namespaces)))]

    def add_waiters(self, asked: Iterable[Asked]) -> None:
        """Put tasks into the lines of their pools, behind those that are there."""
        for one in asked:
            what = one.asked
            turn = (what.weight, what.priority, what.fairness_key)
            self.write(ASK, what.ticket, one.namespace, what.pool, *turn, one.run_id, what.name, self.now)

    def free_slots(self, tickets: Collection[UUID]) -> None:
        """Give back what some tickets hold: slots, or places in lines."""
        if tickets:
            self.write(FREE, list(tickets))

    async def lines(self, held: HeldAdmission, pools: Collection[str] | None, most: int) -> Lines:
        """Return who is first in the lines of pools, as many as could be let in, but at most `most` of each.

        Args:
            held: Whose.
            pools: Which of them; None for all.
            most: Of each pool.
        """
        which = sorted(pools) if pools is not None else None
        rows = await self.fetch(LINES, held.namespace, which, most, held.max_leases is not None)
        leases = (rows[0]["leases"] or 0) if rows else 0
        first = {row["pool"]: pool_of(row) for row in rows}
        return Lines(lines_of(first, rows), leases, {row["ticket"]: (row["run_id"], row["name"]) for row in rows})

    def save_admission(self, held: HeldAdmission, decided: Admission) -> None:
        """Keep who was let in."""
        namespace = held.namespace
        if decided.grants:
            tickets, weights = columns([(grant.ticket, grant.weight) for grant in decided.grants])
            flows = columns([(*flow, passed) for flow, passed in decided.passed.items()])
            self.write(GRANT, tickets, weights, self.now, namespace, *flows)
            for pool, priority in sorted({(pool, priority) for pool, priority, _ in decided.passed}):
                self.write(FORGET, namespace, pool, priority)
        for pool, full_at in decided.full_at.items():
            self.write(SAVE_FULL, namespace, pool, full_at)

    def save_due(self, held: HeldAdmission, due_at: datetime | None) -> None:
        """Keep when a namespace is to be looked at again."""
        if due_at != held.due_at:
            self.write(SAVE_DUE, held.namespace, due_at)
        if due_at is not None:
            seconds = (due_at - self.now).total_seconds()
            self.on_commit(lambda: self.signals.due_in(seconds))


def pool_of(row: Mapping[str, Any]) -> Pool:
    """Return a pool as it is kept."""
    rate = Rate.model_validate(row["rate"]) if row["rate"] is not None else None
    return Pool(row["pool"], row["slots"], row["taken"], rate, row["shares"], row["full_at"])


def lines_of(pools: Mapping[str, Pool], rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return the lines of pools, of rows of those that wait in them, who came first before who came later."""
    flows: dict[tuple[str, int, str], tuple[float, list[Waiter]]] = {}
    for row in rows:
        _, waiters = flows.setdefault((row["pool"], row["priority"], row["fairness_key"]), (row["passed"], []))
        waiters.append(Waiter(row["ticket"], row["weight"], row["number"]))
    return [
        Line(pool, [Flow(priority, key, *flow) for (of, priority, key), flow in flows.items() if of == name])
        for name, pool in pools.items()
    ]
