"""Statements of every service, and several of them as one."""

import re
from functools import lru_cache, partial

EMIT = """
WITH event AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bool[])
        WITH ORDINALITY AS e(topic, key, partition_key, headers, value, numbered, place)
), counted AS (
    INSERT INTO stream AS s (topic, key, events)
    SELECT topic, key, count(*) FROM event WHERE numbered GROUP BY topic, key ORDER BY topic, key
    ON CONFLICT (topic, key) DO UPDATE SET events = s.events + excluded.events, told_on = excluded.told_on
    RETURNING topic, key, events
)
INSERT INTO outbox (topic, key, partition_key, headers, value)
SELECT e.topic, e.key, e.partition_key,
    CASE WHEN c.events IS NULL THEN e.headers::jsonb ELSE e.headers::jsonb || jsonb_build_object(
        'ce_sequence', (c.events - count(*) OVER same + row_number() OVER in_order)::text) END,
    e.value
FROM event e LEFT JOIN counted c ON c.topic = e.topic AND c.key = e.key
WINDOW same AS (PARTITION BY e.topic, e.key), in_order AS (PARTITION BY e.topic, e.key ORDER BY e.place)
ORDER BY e.place
RETURNING id, headers->>'ce_sequence' AS sequence
"""

EMIT_UNNUMBERED = """
INSERT INTO outbox (topic, key, partition_key, headers, value)
SELECT e.topic, e.key, e.partition_key, e.headers::jsonb, e.value
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
    WITH ORDINALITY AS e(topic, key, partition_key, headers, value, place)
ORDER BY e.place
RETURNING id, NULL AS sequence
"""

PARAMETER = re.compile(r"\$(\d+)")

UNEXPECTED = "INSERT INTO unexpected (what) SELECT '{what}' WHERE {where}"
"""A part of a statement that writes nothing, and fails the whole of it where something is not as was expected."""
AS_MANY = "INSERT INTO unexpected (what) SELECT $1 WHERE (SELECT count(*) FROM {previous}) <> $2"
"""The same of the part before it, which returns a row for each that it has changed."""


def _moved(parameter: re.Match[str], by: int) -> str:
    return f"${int(parameter[1]) + by}"


@lru_cache(maxsize=256)
def together(*statements: str) -> str:
    """Return statements as one, which takes the parameters of each in turn; only the last may have its own WITH."""
    parts: list[str] = []
    count = 0
    for sql in statements:
        moved = PARAMETER.sub(partial(_moved, by=count), sql)
        parts.append(moved.replace("{previous}", f"part{len(parts) - 1}"))
        count += len(set(PARAMETER.findall(sql)))
    *first, last = parts
    if not first:
        return last
    named = ", ".join(f"part{n} AS ({sql})" for n, sql in enumerate(first))
    own = last.strip().removeprefix("WITH ")
    return f"WITH {named}, {own}" if own != last.strip() else f"WITH {named} {last}"
