"""How triggers fare: when each last took an event, and what last went wrong with it."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import ClassVar, NamedTuple

import asyncpg
from millrace.control.store.rows import columns
from millrace.runtime.transaction import Transaction

# In the order of their names.
SAVE = """
INSERT INTO trigger_health AS h (namespace, name, matched_at, failed_at, failure)
SELECT namespace, name, n.matched_at, n.failed_at, n.failure
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[])
    AS n(namespace, name, matched_at, failed_at, failure)
JOIN trigger USING (namespace, name) ORDER BY namespace, name
ON CONFLICT (namespace, name) DO UPDATE SET matched_at = greatest(h.matched_at, excluded.matched_at),
    failed_at = greatest(h.failed_at, excluded.failed_at),
    failure = CASE WHEN excluded.failed_at >= h.failed_at OR h.failed_at IS NULL THEN excluded.failure
        ELSE h.failure END
"""
# What went wrong before a trigger was put in force as it is now says nothing of it, whoever keeps it, and when.
FARED = """
h.matched_at, CASE WHEN h.failed_at >= t.applied_at THEN h.failed_at END AS failed_at,
    CASE WHEN h.failed_at >= t.applied_at THEN h.failure ELSE '' END AS failure
"""
FARES = f"""
SELECT t.namespace, t.name, {FARED} FROM trigger t LEFT JOIN trigger_health h USING (namespace, name)
ORDER BY t.namespace, t.name LIMIT $1
"""
MAX_FAILURE_CHARS = 500

Key = tuple[str, str]
"""A trigger's namespace and name."""


class Fared(NamedTuple):
    """What was seen of a trigger."""

    namespace: str
    name: str
    matched_at: datetime | None = None
    failed_at: datetime | None = None
    failure: str = ""


class Seen:
    """What this process has seen of triggers and nobody has kept yet: of each the latest."""

    def __init__(self) -> None:
        self._seen: dict[Key, Fared] = {}
        self._news = asyncio.Event()

    def matched(self, keys: Iterable[Key], at: datetime) -> None:
        """Say that triggers have taken events."""
        for key in keys:
            self._seen[key] = self._of(key)._replace(matched_at=at)
            self._news.set()

    def failed(self, key: Key, at: datetime, failure: str) -> None:
        """Say that something went wrong with a trigger."""
        self._seen[key] = self._of(key)._replace(failed_at=at, failure=failure[:MAX_FAILURE_CHARS])
        self._news.set()

    def news(self) -> list[Fared]:
        """Return what is to be kept."""
        return list(self._seen.values())

    def kept(self, news: Iterable[Fared]) -> None:
        """Say that this is kept; what was seen since is not."""
        for one in news:
            if self._seen.get((one.namespace, one.name)) == one:
                del self._seen[one.namespace, one.name]

    async def wait(self, at_most_s: float) -> None:
        """Return when something was seen since the last wait, or after `at_most_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), at_most_s)
        self._news.clear()

    def _of(self, key: Key) -> Fared:
        return self._seen.get(key) or Fared(*key)


class Health(Transaction):
    """How triggers fare, as it is kept: at most a few seconds after it was so.

    Attributes:
        seen: What is not kept yet.
    """

    seen: ClassVar[Seen] = Seen()

    def note_matched(self, keys: Iterable[Key]) -> None:
        """Note that triggers have taken events, once that is committed."""
        there = frozenset(keys)
        self.on_commit(lambda: self.seen.matched(there, self.now))

    def note_failed(self, key: Key, failure: str) -> None:
        """Note that something went wrong with a trigger, once what was done instead is committed."""
        self.on_commit(lambda: self.seen.failed(key, self.now, failure))

    def save_seen(self) -> None:
        """Keep what was seen."""
        if news := self.seen.news():
            self.write(SAVE, *columns(news))
            self.on_commit(lambda: self.seen.kept(news))

    async def fares(self, limit: int) -> list[asyncpg.Record]:
        """Return how up to `limit` triggers fare, by namespace and name."""
        return await self.fetch(FARES, limit)
