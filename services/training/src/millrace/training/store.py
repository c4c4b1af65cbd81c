"""Store: all of training's SQL, on one transaction."""

from collections.abc import Sequence

from asyncpg import Record
from millrace.runtime.transaction import Transaction, one
from millrace.training.commands import SetAlias, Tune
from millrace.training.domain import Candidate, Evaluation, Judgement, Trial, Version

ADD_STUDY = """
INSERT INTO study (namespace, study_id, model, asked) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
ADD_TRIAL = """
INSERT INTO trial (namespace, study_id, number, params, state) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
ADD_METRIC = """
INSERT INTO metric (namespace, study_id, number, name, value) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
TRIALS = """
SELECT t.number, t.params, t.state, coalesce(jsonb_object_agg(m.name, m.value) FILTER (WHERE m.name IS NOT NULL), '{}')
    AS metrics
FROM trial t LEFT JOIN metric m USING (namespace, study_id, number)
WHERE t.namespace = $1 AND t.study_id = $2 AND t.number >= $3
GROUP BY t.number, t.params, t.state ORDER BY t.number LIMIT $4
"""
STUDY = "SELECT study_id FROM study WHERE namespace = $1 AND study_id = $2"
ADD_MODEL = "INSERT INTO model (namespace, model) VALUES ($1, $2) ON CONFLICT DO NOTHING"
HOLD_MODEL = "SELECT versions FROM model WHERE namespace = $1 AND model = $2 FOR UPDATE"
COUNT_VERSION = "UPDATE model SET versions = $3 WHERE namespace = $1 AND model = $2"
ADD_VERSION = """
INSERT INTO model_version (namespace, model, version, version_id, files, training_set_id, study_id, estimator, params,
    metrics, parity_max_abs, registered_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
VERSION = "SELECT * FROM model_version WHERE namespace = $1 AND model = $2 AND version = $3"
VERSION_BY_ID = "SELECT * FROM model_version WHERE namespace = $1 AND model = $2 AND version_id = $3"
VERSIONS = "SELECT * FROM model_version WHERE namespace = $1 AND model = $2 ORDER BY version DESC LIMIT $3"
REFERRED = """
SELECT DISTINCT file.value AS sha256 FROM model_version, jsonb_each_text(files) AS file
WHERE file.value = ANY($1::text[])
"""
ALIAS = "SELECT version FROM alias WHERE namespace = $1 AND model = $2 AND alias = $3"
ALIASES = "SELECT alias, version FROM alias WHERE namespace = $1 AND model = $2 ORDER BY alias"
SET_ALIAS = """
INSERT INTO alias (namespace, model, alias, version, moved_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (namespace, model, alias) DO UPDATE SET version = excluded.version, moved_at = excluded.moved_at
"""
ADD_ALIAS_MOVE = """
INSERT INTO alias_move (namespace, model, alias, move_id, previous_version, version, evaluation_id, principal, moved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
ALIAS_MOVES = """
SELECT previous_version, version FROM alias_move WHERE namespace = $1 AND model = $2 AND alias = $3 ORDER BY move_id
"""
SAVE_EVALUATION = """
INSERT INTO evaluation (namespace, evaluation_id, model, version, version_id, training_set_id, champion_version,
    champion_version_id, passed, measures, reasons, evaluated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (namespace, evaluation_id) DO UPDATE SET evaluated_at = excluded.evaluated_at
"""
EVALUATION = "SELECT * FROM evaluation WHERE namespace = $1 AND evaluation_id = $2"
EVALUATIONS = """
SELECT * FROM evaluation WHERE namespace = $1 AND model = $2 AND version = ANY($3::int[])
ORDER BY evaluated_at DESC, passed
"""


class Store(Transaction):
    """Studies, versions, evaluations and aliases."""

    def add_study(self, namespace: str, study_id: str, asked: Tune) -> None:
        """Keep what was asked; a study that is known stays as it is."""
        self.write(ADD_STUDY, namespace, study_id, asked.model, asked.model_dump(mode="json", by_alias=True))

    def add_trial(self, namespace: str, study_id: str, trial: Trial) -> None:
        """Keep a trial; one that is known stays as it is."""
        self.write(ADD_TRIAL, namespace, study_id, trial.number, trial.params, trial.state)
        for name, value in trial.metrics.items():
            self.write(ADD_METRIC, namespace, study_id, trial.number, name, value)

    async def trials(
        self, namespace: str, study_id: str, from_number: int = 0, limit: int | None = None
    ) -> list[Trial]:
        """Return up to `limit` of a study's trials, in order, from a number on; all where that is not given."""
        rows = await self.fetch(TRIALS, namespace, study_id, from_number, limit)
        return [Trial(row["number"], row["params"], row["metrics"], row["state"]) for row in rows]

    async def check_study(self, namespace: str, study_id: str) -> None:
        """Raise NotFound when there is no such study."""
        one(await self.fetch(STUDY, namespace, study_id), f"study {study_id}")

    async def hold_model(self, namespace: str, model: str) -> int:
        """Return how many versions a model has, and keep it from others until the end; it need not exist yet."""
        self.write(ADD_MODEL, namespace, model)
        versions: int = one(await self.fetch(HOLD_MODEL, namespace, model), f"model {model}")["versions"]
        return versions

    def add_version(self, namespace: str, version: Version) -> None:
        """Keep a version; its model must be held."""
        self.write(COUNT_VERSION, namespace, version.model, version.version)
        self.write(
            ADD_VERSION,
            namespace,
            version.model,
            version.version,
            version.version_id,
            version.files,
            version.training_set_id,
            version.study_id,
            version.estimator,
            version.params,
            version.metrics,
            version.parity_max_abs,
            version.registered_at,
        )

    async def version(self, namespace: str, model: str, version: int) -> Version:
        """Return a version by its number."""
        return _version(
            one(await self.fetch(VERSION, namespace, model, version), f"version {version} of model {model}")
        )

    async def versions_with_id(self, namespace: str, model: str, version_id: str) -> list[Version]:
        """Return the version with these contents, if it is registered."""
        return [_version(row) for row in await self.fetch(VERSION_BY_ID, namespace, model, version_id)]

    async def versions(self, namespace: str, model: str, limit: int) -> list[Version]:
        """Return a model's newest versions, newest first."""
        return [_version(row) for row in await self.fetch(VERSIONS, namespace, model, limit)]

    async def referred(self, digests: Sequence[str]) -> set[str]:
        """Return those of some artifacts that versions are made of."""
        return {row["sha256"] for row in await self.fetch(REFERRED, list(digests))}

    async def aliased(self, namespace: str, model: str, alias: str) -> int:
        """Return the number of the version that an alias points at, 0 for none."""
        rows = await self.fetch(ALIAS, namespace, model, alias)
        return rows[0]["version"] if rows else 0

    async def aliases(self, namespace: str, model: str) -> dict[str, int]:
        """Return where a model's aliases point."""
        return {row["alias"]: row["version"] for row in await self.fetch(ALIASES, namespace, model)}

    def move_alias(self, command: SetAlias, previous: int, evaluation_id: str, principal: str) -> None:
        """Point an alias at a version, and keep the move with who made it and the evaluation that allowed it."""
        key = (command.namespace, command.model, command.alias)
        self.write(SET_ALIAS, *key, command.version, self.now)
        self.write(ADD_ALIAS_MOVE, *key, self.new_id(), previous, command.version, evaluation_id, principal, self.now)

    async def alias_moves(self, namespace: str, model: str, alias: str) -> list[tuple[int, int]]:
        """Return every move of an alias, oldest first, as (from, to)."""
        rows = await self.fetch(ALIAS_MOVES, namespace, model, alias)
        return [(row["previous_version"], row["version"]) for row in rows]

    def save_evaluation(self, namespace: str, evaluation: Evaluation) -> None:
        """Keep an evaluation; one that is known becomes the newest of its version again."""
        self.write(
            SAVE_EVALUATION,
            namespace,
            evaluation.evaluation_id,
            evaluation.model,
            evaluation.version,
            evaluation.version_id,
            evaluation.training_set_id,
            evaluation.champion_version,
            evaluation.champion_version_id,
            evaluation.passed,
            evaluation.measures,
            list(evaluation.reasons),
            evaluation.evaluated_at,
        )

    async def has_evaluation(self, namespace: str, evaluation_id: str) -> bool:
        """Return whether an evaluation is known."""
        return bool(await self.fetch(EVALUATION, namespace, evaluation_id))

    async def evaluations(self, namespace: str, model: str, versions: Sequence[int]) -> list[Evaluation]:
        """Return the evaluations of some versions, newest first."""
        return [_evaluation(row) for row in await self.fetch(EVALUATIONS, namespace, model, versions)]


CANDIDATE = tuple(Candidate.__dataclass_fields__)
JUDGEMENT = tuple(name for name in Judgement.__dataclass_fields__ if name != "reasons")


def _version(row: Record) -> Version:
    return Version(
        **{name: row[name] for name in CANDIDATE}, version=row["version"], registered_at=row["registered_at"]
    )


def _evaluation(row: Record) -> Evaluation:
    return Evaluation(
        **{name: row[name] for name in JUDGEMENT},
        reasons=tuple(row["reasons"]),
        evaluated_at=row["evaluated_at"],
    )
