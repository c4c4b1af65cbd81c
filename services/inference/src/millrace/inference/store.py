"""Store: all of inference's SQL, on one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record
from millrace.inference.commands import Label
from millrace.inference.domain.canary import Evidence, Verdict
from millrace.inference.domain.routing import Arm, Deployment, Route, State
from millrace.runtime.transaction import Transaction, one

START_DEPLOYMENT = """
INSERT INTO deployment (namespace, deployment_id, task_id, model, version, version_id, files, state, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'loading', $8)
ON CONFLICT (namespace, task_id) DO UPDATE SET state = 'loading', traceparent = excluded.traceparent
RETURNING deployment_id
"""
SET_STATE = "UPDATE deployment SET state = $3 WHERE namespace = $1 AND deployment_id = $2"
DEPLOYMENT = "SELECT * FROM deployment WHERE namespace = $1 AND deployment_id = $2"
DEPLOYMENTS = """
SELECT * FROM deployment WHERE namespace = $1 AND ($2::text IS NULL OR model = $2) AND ($4::uuid IS NULL
    OR (created_at, deployment_id) < (SELECT created_at, deployment_id FROM deployment
        WHERE namespace = $1 AND deployment_id = $4))
ORDER BY created_at DESC, deployment_id DESC LIMIT $3
"""
ADD_ROUTE = "INSERT INTO route (namespace, model) VALUES ($1, $2) ON CONFLICT DO NOTHING"
ROUTE = "SELECT * FROM route WHERE namespace = $1 AND model = $2"
HOLD_ROUTE = f"{ROUTE} FOR UPDATE"
ROUTES = "SELECT * FROM route WHERE in_use IS NOT NULL"
ROUTED = """
SELECT d.* FROM deployment d JOIN route r ON r.namespace = d.namespace AND d.deployment_id IN (r.in_use, r.canary)
"""
SAVE_ROUTE = """
UPDATE route SET generation = $3, in_use = $4, canary = $5, weight = $6, tripped = $7, changed_at = now()
WHERE namespace = $1 AND model = $2
"""
ADD_SHIFT = """
INSERT INTO shift (namespace, model, generation, deployment_id, weight, reason) VALUES ($1, $2, $3, $4, $5, $6)
"""
SHIFTS = """
SELECT s.deployment_id, d.version, s.weight, s.generation, s.reason, s.shifted_at
FROM shift s JOIN deployment d USING (namespace, deployment_id)
WHERE s.namespace = $1 AND s.model = $2 ORDER BY s.generation DESC, s.weight DESC LIMIT $3
"""
WANT = """
INSERT INTO canary (namespace, deployment_id, wanted) VALUES ($1, $2, $3)
ON CONFLICT (namespace, deployment_id) DO UPDATE SET wanted = excluded.wanted
"""
WANTED = "SELECT wanted FROM canary WHERE namespace = $1 AND deployment_id = $2"
# A canary that gave no score was as wrong as can be.
EVIDENCE = """
SELECT count(*) AS answers, coalesce(sum(d), 0) AS total, coalesce(sum(d * d), 0) AS squares FROM (
    SELECT coalesce((o.canary_score - l.label) ^ 2, 1) - (o.in_use_score - l.label) ^ 2 AS d
    FROM canary_observation o JOIN label l USING (namespace, request_key)
    WHERE o.namespace = $1 AND o.deployment_id = $2 AND l.model = $3
) differences
"""
OBSERVED = "SELECT count(*) AS observed FROM canary_observation WHERE namespace = $1 AND deployment_id = $2"
ADD_OBSERVATION = """
INSERT INTO canary_observation (namespace, deployment_id, request_key, in_use_score, canary_score)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
ADD_LABEL = "INSERT INTO label (namespace, model, request_key, label) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
ADD_VERDICT = """
INSERT INTO verdict (namespace, deployment_id, verdict_id, weight, verdict, answers, mean_difference, standard_error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
VERDICTS = "SELECT * FROM verdict WHERE namespace = $1 AND deployment_id = $2 ORDER BY verdict_id"
ADD_STATS = """
INSERT INTO arm_stats AS s (namespace, deployment_id, answers, bad) VALUES ($1, $2, $3, $4)
ON CONFLICT (namespace, deployment_id) DO UPDATE SET answers = s.answers + excluded.answers, bad = s.bad + excluded.bad
"""
STATS = "SELECT answers, bad FROM arm_stats WHERE namespace = $1 AND deployment_id = $2"
FORGET_OBSERVATIONS = """
DELETE FROM canary_observation WHERE (namespace, deployment_id, request_key) IN (
    SELECT namespace, deployment_id, request_key FROM canary_observation
    WHERE observed_at < $1 ORDER BY observed_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""
FORGET_LABELS = """
DELETE FROM label WHERE (namespace, model, request_key) IN (
    SELECT namespace, model, request_key FROM label
    WHERE labelled_at < $1 ORDER BY labelled_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""


@dataclass(frozen=True)
class PastShift:
    """A share that a deployment was given, as kept."""

    deployment_id: UUID
    version: int
    weight: int
    generation: int
    reason: str
    shifted_at: datetime


@dataclass(frozen=True)
class PastVerdict:
    """What a judge said of a canary stage, and at which share of traffic."""

    weight: int
    verdict: Verdict
    evidence: Evidence


class Store(Transaction):
    """Inference's tables."""

    async def start_deployment(self, namespace: str, task_id: UUID, deployment: Deployment) -> UUID:
        """Add a deployment that is being verified; a task that is tried again goes on with the one it has."""
        rows = await self.fetch(
            START_DEPLOYMENT,
            namespace,
            deployment.deployment_id,
            task_id,
            deployment.model,
            deployment.version,
            deployment.version_id,
            deployment.files,
            deployment.traceparent,
        )
        found: UUID = rows[0]["deployment_id"]
        return found

    def set_state(self, namespace: str, deployment_id: UUID, state: State) -> None:
        """Move a deployment on in its life."""
        self.write(SET_STATE, namespace, deployment_id, state)

    async def deployment(self, namespace: str, deployment_id: UUID) -> Deployment:
        """Return a deployment.

        Raises:
            NotFound: There is none of that id.
        """
        rows = await self.fetch(DEPLOYMENT, namespace, deployment_id)
        return _deployment(one(rows, f"deployment {deployment_id}"))

    async def deployments(
        self, namespace: str, model: str | None, limit: int, before: UUID | None = None
    ) -> list[Deployment]:
        """Return up to `limit` deployments, of one model or of all, newest first; with `before`, those older."""
        return [_deployment(row) for row in await self.fetch(DEPLOYMENTS, namespace, model, limit, before)]

    async def route(self, namespace: str, model: str) -> Route:
        """Return where a model's traffic goes: to nobody before the first shift."""
        rows = await self.fetch(ROUTE, namespace, model)
        return _route(rows[0]) if rows else Route()

    async def hold_route(self, namespace: str, model: str) -> Route:
        """Return where a model's traffic goes, to change it."""
        self.write(ADD_ROUTE, namespace, model)
        return _route((await self.fetch(HOLD_ROUTE, namespace, model))[0])

    async def routes(self) -> dict[tuple[str, str], Route]:
        """Return every route that has traffic, by namespace and model."""
        return {(row["namespace"], row["model"]): _route(row) for row in await self.fetch(ROUTES)}

    async def routed(self) -> dict[UUID, Deployment]:
        """Return every deployment that takes part in a route."""
        return {row["deployment_id"]: _deployment(row) for row in await self.fetch(ROUTED)}

    def save_route(self, namespace: str, model: str, route: Route, moved: Sequence[Arm], reason: str) -> None:
        """Set where a model's traffic goes, and note which shares changed and why."""
        self.write(
            SAVE_ROUTE, namespace, model, route.generation, route.in_use, route.canary, route.weight, route.tripped
        )
        for arm in moved:
            self.write(ADD_SHIFT, namespace, model, route.generation, arm.deployment_id, arm.weight, reason)

    async def shifts(self, namespace: str, model: str, limit: int) -> list[PastShift]:
        """Return the newest changes of a model's shares, newest first."""
        return [PastShift(**row) for row in await self.fetch(SHIFTS, namespace, model, limit)]

    def want_answers(self, namespace: str, deployment_id: UUID, wanted: int) -> None:
        """Note how many labelled answers the running judge waits for; 0 when it no longer runs."""
        self.write(WANT, namespace, deployment_id, wanted)

    async def wanted_answers(self, namespace: str, deployment_id: UUID) -> int:
        """Return how many labelled answers the running judge waits for."""
        rows = await self.fetch(WANTED, namespace, deployment_id)
        return int(rows[0]["wanted"]) if rows else 0

    async def evidence(self, deployment: Deployment) -> Evidence:
        """Return what the labelled answers of a canary say, those labelled before they were answered included."""
        rows = await self.fetch(EVIDENCE, deployment.namespace, deployment.deployment_id, deployment.model)
        return Evidence.of(rows[0]["answers"], rows[0]["total"], rows[0]["squares"])

    async def observed(self, namespace: str, deployment_id: UUID) -> int:
        """Return how many requests were scored by a canary and by what is in use."""
        return int((await self.fetch(OBSERVED, namespace, deployment_id))[0]["observed"])

    def add_observation(
        self, namespace: str, deployment_id: UUID, request_key: str, in_use_score: float, canary_score: float | None
    ) -> None:
        """Keep what both arms said of a request; the first time counts."""
        self.write(ADD_OBSERVATION, namespace, deployment_id, request_key, in_use_score, canary_score)

    def add_label(self, label: Label) -> None:
        """Keep the truth about a request; the first one counts."""
        self.write(ADD_LABEL, label.namespace, label.model, label.request_key, label.label)

    def add_verdict(self, namespace: str, deployment_id: UUID, past: PastVerdict) -> None:
        """Keep what a judge said."""
        self.write(
            ADD_VERDICT,
            namespace,
            deployment_id,
            self.new_id(),
            past.weight,
            past.verdict,
            past.evidence.answers,
            past.evidence.mean_difference,
            past.evidence.standard_error,
        )

    async def verdicts(self, namespace: str, deployment_id: UUID) -> list[PastVerdict]:
        """Return what judges said of a canary, in order."""
        return [
            PastVerdict(
                row["weight"],
                Verdict(row["verdict"]),
                Evidence(row["answers"], row["mean_difference"], row["standard_error"]),
            )
            for row in await self.fetch(VERDICTS, namespace, deployment_id)
        ]

    def add_stats(self, namespace: str, deployment_id: UUID, answers: int, bad: int) -> None:
        """Count answers of a deployment, and those that failed or were no finite number."""
        self.write(ADD_STATS, namespace, deployment_id, answers, bad)

    async def stats(self, namespace: str, deployment_id: UUID) -> tuple[int, int]:
        """Return how many answers a deployment gave, and how many of them were bad."""
        rows = await self.fetch(STATS, namespace, deployment_id)
        return (rows[0]["answers"], rows[0]["bad"]) if rows else (0, 0)

    async def forget_observations(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` observations that no judge waits for any more; return how many."""
        return len(await self.fetch(FORGET_OBSERVATIONS, before, limit))

    async def forget_labels(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` labels that no judge waits for any more; return how many."""
        return len(await self.fetch(FORGET_LABELS, before, limit))


def _deployment(row: Record) -> Deployment:
    return Deployment(
        namespace=row["namespace"],
        deployment_id=row["deployment_id"],
        model=row["model"],
        version=row["version"],
        version_id=row["version_id"],
        files=row["files"],
        state=State(row["state"]),
        traceparent=row["traceparent"],
        created_at=row["created_at"],
    )


def _route(row: Record) -> Route:
    return Route(row["in_use"], row["canary"], row["weight"], row["tripped"], row["generation"])
