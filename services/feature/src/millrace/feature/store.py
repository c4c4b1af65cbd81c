"""Store: all of feature's SQL, on one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record
from millrace.feature.commands import View
from millrace.feature.domain import AppliedView, Found, Generation, OnlineRow, TrainingSet
from millrace.runtime.errors import NotFound
from millrace.runtime.transaction import Transaction, one

ADD_DECLARATION = """
INSERT INTO declaration (namespace, view_hash, view, declared) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
SAVE_VIEW = """
INSERT INTO view (namespace, view, view_hash) VALUES ($1, $2, $3)
ON CONFLICT (namespace, view) DO UPDATE SET view_hash = excluded.view_hash
"""
VIEWS = """
SELECT v.view, v.view_hash, d.declared, p.generation
FROM view v JOIN declaration d ON d.namespace = v.namespace AND d.view_hash = v.view_hash
    LEFT JOIN online_pointer p ON p.namespace = v.namespace AND p.view = v.view
WHERE v.namespace = $1
"""
NAMED_VIEWS = f"{VIEWS} AND v.view = ANY($2)"
LIST_VIEWS = f"{VIEWS} AND v.view > $2 ORDER BY v.view LIMIT $3"
HOLD_VIEWS = """
SELECT view, view_hash FROM view WHERE namespace = $1 AND view = ANY($2::text[]) ORDER BY view FOR UPDATE
"""
DECLARATIONS = """
SELECT view_hash, declared FROM declaration WHERE namespace = $1 AND view_hash = ANY($2::text[])
"""
BEGIN_GENERATION = """
INSERT INTO generation AS g (namespace, view, generation, view_hash, version_ids, entity, features)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (namespace, view, generation) DO UPDATE SET started_at = now()
RETURNING *
"""
ADD_ONLINE_ROWS = """
INSERT INTO online_row (namespace, view, generation, key, features)
SELECT $1, $2, $3, ($6::text[])[n * $4 + 1 : (n + 1) * $4], ($7::float8[])[n * $5 + 1 : (n + 1) * $5]
FROM generate_series(0, cardinality($6::text[]) / $4 - 1) n
ON CONFLICT DO NOTHING
"""
COMPLETE_GENERATION = """
UPDATE generation SET entities = $4 WHERE namespace = $1 AND view = $2 AND generation = $3
"""
COUNT_ONLINE = "SELECT count(*) AS rows FROM online_row WHERE namespace = $1 AND view = $2 AND generation = $3"
POINTER = """
SELECT g.* FROM online_pointer p JOIN generation g USING (namespace, view, generation)
WHERE p.namespace = $1 AND p.view = $2 FOR UPDATE OF p
"""
POINT = """
INSERT INTO online_pointer (namespace, view, generation) VALUES ($1, $2, $3)
ON CONFLICT (namespace, view) DO UPDATE SET generation = excluded.generation
"""
_NOT_ONLINE = """
NOT EXISTS (SELECT FROM online_pointer p
    WHERE p.namespace = g.namespace AND p.view = g.view AND p.generation = g.generation)
"""
# Whoever puts a generation online holds its row, so that none is taken apart on its way there.
HOLD_GENERATION = """
SELECT entities FROM generation WHERE namespace = $1 AND view = $2 AND generation = $3 FOR KEY SHARE
"""
HOLD_OLD_GENERATION = f"""
SELECT namespace, view, generation FROM generation g WHERE started_at < $1 AND {_NOT_ONLINE}
ORDER BY started_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""
# In statements of their own: only they see what was put online before its row was held.
FORGET_ROWS = f"""
DELETE FROM online_row WHERE (namespace, view, generation, key) IN (
    SELECT o.namespace, o.view, o.generation, o.key
    FROM online_row o JOIN generation g USING (namespace, view, generation)
    WHERE g.namespace = $1 AND g.view = $2 AND g.generation = $3 AND {_NOT_ONLINE} LIMIT $4)
RETURNING 1
"""
LEAVE_INCOMPLETE = f"""
UPDATE generation g SET entities = NULL WHERE namespace = $1 AND view = $2 AND generation = $3 AND {_NOT_ONLINE}
"""
FORGET_GENERATION = f"DELETE FROM generation g WHERE namespace = $1 AND view = $2 AND generation = $3 AND {_NOT_ONLINE}"
# One row per view and entity asked: the whole look-up is one statement.
ONLINE = """
SELECT v.view, g.generation, g.entity, g.features AS names, o.features
FROM unnest($2::text[]) WITH ORDINALITY AS v(view, place)
JOIN online_pointer p ON p.namespace = $1 AND p.view = v.view
JOIN generation g ON g.namespace = $1 AND g.view = p.view AND g.generation = p.generation
LEFT JOIN unnest($3::jsonb[]) WITH ORDINALITY AS asked(entity, row) ON true
LEFT JOIN online_row o ON o.namespace = $1 AND o.view = g.view AND o.generation = g.generation
    AND o.key = ARRAY(SELECT asked.entity ->> c FROM unnest(g.entity) WITH ORDINALITY AS e(c, i) ORDER BY i)
ORDER BY v.place, asked.row
"""
ADD_PART = """
INSERT INTO part (namespace, part_id, sha256) VALUES ($1, $2, $3)
ON CONFLICT (namespace, part_id) DO UPDATE SET sha256 = excluded.sha256
"""
PARTS = "SELECT part_id, sha256 FROM part WHERE namespace = $1 AND part_id = ANY($2::text[])"
REFERRED = """
SELECT sha256 FROM part WHERE sha256 = ANY($1::text[])
UNION SELECT sha256 FROM training_set WHERE sha256 = ANY($1::text[])
"""
ADD_TRAINING_SET = """
INSERT INTO training_set (namespace, training_set_id, name, sha256, spine_rows, view_hashes, version_ids)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING training_set_id
"""
TRAINING_SET = "SELECT * FROM training_set WHERE namespace = $1 AND training_set_id = $2"


class Store(Transaction):
    """What feature reads and writes."""

    def save_view(self, namespace: str, applied: AppliedView) -> None:
        """Put a declaration in force."""
        name, declared = applied.view.name, applied.view.model_dump(mode="json")
        self.write(ADD_DECLARATION, namespace, applied.view_hash, name, declared)
        self.write(SAVE_VIEW, namespace, name, applied.view_hash)

    async def hold_views(self, namespace: str, names: Sequence[str]) -> dict[str, str]:
        """Return the hashes of the views in force, by name, and lock them."""
        rows = await self.fetch(HOLD_VIEWS, namespace, list(names))
        return {row["view"]: row["view_hash"] for row in rows}

    async def views(self, namespace: str, names: Sequence[str]) -> list[AppliedView]:
        """Return the views of these names, in their order.

        Raises:
            NotFound: One was never applied.
        """
        rows = {row["view"]: row for row in await self.fetch(NAMED_VIEWS, namespace, list(names))}
        if missing := [name for name in names if name not in rows]:
            raise NotFound(f"view {missing[0]} in {namespace} does not exist")
        return [_applied(rows[name]) for name in names]

    async def list_views(self, namespace: str, after: str, limit: int) -> list[AppliedView]:
        """Return up to `limit` views in force, by name, after one."""
        return [_applied(row) for row in await self.fetch(LIST_VIEWS, namespace, after, limit)]

    async def begin_generation(self, namespace: str, generation: Generation) -> Generation:
        """Note that a generation is being computed, and return what is known of it: it may be complete already."""
        row = one(
            await self.fetch(
                BEGIN_GENERATION,
                namespace,
                generation.view,
                generation.generation,
                generation.view_hash,
                list(generation.version_ids),
                list(generation.entity),
                list(generation.features),
            ),
            f"generation {generation.generation} of view {generation.view}",
        )
        return _generation(row)

    def add_online_rows(self, namespace: str, generation: Generation, rows: Sequence[OnlineRow]) -> None:
        """Add rows to a generation that is not complete; those that are there stay."""
        self.write(
            ADD_ONLINE_ROWS,
            namespace,
            generation.view,
            generation.generation,
            len(generation.entity),
            len(generation.features),
            [text for row in rows for text in row.key],
            [value for row in rows for value in row.values],
        )

    def complete_generation(self, namespace: str, generation: Generation, entities: int) -> None:
        """Note that all rows of a generation are there."""
        self.write(COMPLETE_GENERATION, namespace, generation.view, generation.generation, entities)

    async def online_entities(self, namespace: str, generation: Generation) -> int:
        """Return how many rows a generation has, and keep it as it is until the end."""
        await self.fetch(HOLD_GENERATION, namespace, generation.view, generation.generation)
        rows = await self.fetch(COUNT_ONLINE, namespace, generation.view, generation.generation)
        return int(rows[0]["rows"])

    async def hold_pointer(self, namespace: str, view: str) -> Generation | None:
        """Return the generation that is online, if any is, and lock the pointer to it."""
        rows = await self.fetch(POINTER, namespace, view)
        return _generation(rows[0]) if rows else None

    def point(self, namespace: str, generation: Generation) -> None:
        """Put a generation online."""
        self.write(POINT, namespace, generation.view, generation.generation)

    async def forget_generations(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` rows of one generation that is not online and was begun before a moment, or itself.

        What has lost rows is no longer complete, so that it is computed anew before it is put online again.

        Returns:
            How much was looked at: 0 when there is no such generation.
        """
        rows = await self.fetch(HOLD_OLD_GENERATION, before)
        if not rows:
            return 0
        gone = len(await self.fetch(FORGET_ROWS, *rows[0], limit))
        self.write(LEAVE_INCOMPLETE if gone == limit else FORGET_GENERATION, *rows[0])
        return gone + 1

    async def online(self, namespace: str, views: Sequence[str], entities: Sequence[Mapping[str, Any]]) -> list[Found]:
        """Return what is known, per view and entity in order; nothing of a view that is not online.

        When it is asked of nobody, each view that is online is there once.
        """
        rows = await self.fetch(ONLINE, namespace, list(views), [dict(entity) for entity in entities])
        return [
            Found(
                row["view"],
                row["generation"],
                tuple(row["entity"]),
                tuple(row["names"]),
                tuple(row["features"]) if row["features"] is not None else None,
            )
            for row in rows
        ]

    def add_part(self, namespace: str, part_id: str, sha256: str) -> None:
        """Remember a part of a training set."""
        self.write(ADD_PART, namespace, part_id, sha256)

    async def parts(self, namespace: str, part_ids: Sequence[str]) -> dict[str, str]:
        """Return the artifacts of those parts that are known, by their ids."""
        rows = await self.fetch(PARTS, namespace, list(part_ids))
        return {row["part_id"]: row["sha256"] for row in rows}

    async def add_training_set(self, namespace: str, made: TrainingSet) -> bool:
        """Store a training set and return whether it is new."""
        return bool(
            await self.fetch(
                ADD_TRAINING_SET,
                namespace,
                made.training_set_id,
                made.name,
                made.sha256,
                made.spine_rows,
                [applied.view_hash for applied in made.views],
                list(made.version_ids),
            )
        )

    async def referred(self, digests: Sequence[str]) -> set[str]:
        """Return those of some artifacts that parts and training sets are."""
        return {row["sha256"] for row in await self.fetch(REFERRED, list(digests))}

    async def training_set(self, namespace: str, training_set_id: str) -> TrainingSet:
        """Return a training set.

        Raises:
            NotFound: There is none of that id.
        """
        row = one(await self.fetch(TRAINING_SET, namespace, training_set_id), f"training set {training_set_id}")
        found = await self.fetch(DECLARATIONS, namespace, row["view_hashes"])
        declared = {each["view_hash"]: View.model_validate(each["declared"]) for each in found}
        return TrainingSet(
            training_set_id,
            row["name"],
            row["sha256"],
            row["spine_rows"],
            tuple(AppliedView(declared[known], known) for known in row["view_hashes"]),
            tuple(row["version_ids"]),
            row["built_at"],
        )


def _applied(row: Record) -> AppliedView:
    return AppliedView(View.model_validate(row["declared"]), row["view_hash"], row["generation"] or "")


def _generation(row: Record) -> Generation:
    return Generation(
        row["view"],
        row["generation"],
        row["view_hash"],
        tuple(row["version_ids"]),
        tuple(row["entity"]),
        tuple(row["features"]),
        row["started_at"],
        row["entities"],
    )
