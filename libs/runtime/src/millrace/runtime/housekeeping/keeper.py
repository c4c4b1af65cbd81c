"""The loop that keeps house."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import structlog
from millrace.runtime.connection import LOST
from millrace.runtime.database import Database
from millrace.runtime.errors import Unavailable
from millrace.runtime.housekeeping.rules import Rule
from millrace.runtime.telemetry import HOUSEKEEPING_DURATION, HOUSEKEEPING_FAILED, HOUSEKEEPING_REMOVED

PAUSE_S = 0.05
REST = 4.0
"""At least so many times as long as a batch took, nothing is done."""
AGAIN_S = 1.0
PUT_OFF = 3
"""A rule that so many rounds in a row could not apply, though the database answers, has failed."""
LOCK = 7_316_241_152  # any number, the same for every replica

log = structlog.get_logger()


class Keeper:
    """Applies rules round by round: a small batch, a pause, the next; of several replicas one at a time does.

    Args:
        service: Whose rows.
        database: Where they are.
        every_s: Seconds between two rounds.
        most_batches: Of one rule, in one round; where more is left, the next round begins at once.
    """

    def __init__(self, service: str, database: Database, every_s: float, most_batches: int = 1000) -> None:
        self._service = service
        self._database = database
        self._every_s = every_s
        self._most_batches = most_batches
        self._rules: list[Rule] = []
        self._put_off: Counter[str] = Counter()

    def add(self, *rules: Rule) -> None:
        """Add rules; before `run`."""
        self._rules += rules

    async def run(self) -> None:
        """Keep house until cancelled; a database that does not answer is left alone until the next round."""
        done = True
        while True:
            wait_s = self._every_s * random.uniform(0.5, 1) if done else AGAIN_S  # noqa: S311 - replicas take turns
            await asyncio.sleep(wait_s)
            done = True
            with suppress(Unavailable, TimeoutError, asyncpg.PostgresError, *LOST):
                done = await self.round()

    async def round(self) -> bool:
        """Apply each rule for a bounded number of batches; return whether nothing is left to remove."""
        async with self._alone() as alone:
            return all([await self._apply(rule) for rule in self._rules]) if alone else True

    async def _apply(self, rule: Rule) -> bool:
        batches = rule.batches()
        try:
            for _ in range(self._most_batches):
                began = time.monotonic()
                removed = await anext(batches, None)
                if removed is None:
                    self._put_off.pop(rule.what, None)
                    return True
                took = time.monotonic() - began
                HOUSEKEEPING_REMOVED.labels(self._service, rule.what).inc(removed)
                HOUSEKEEPING_DURATION.labels(self._service, rule.what).observe(took)
                await asyncio.sleep(max(PAUSE_S, took * REST))
        except (Unavailable, TimeoutError, *LOST) as error:
            # Something is locked, or takes longer than a statement may: the others are not to wait for that.
            if not await self._database.healthy():
                raise
            self._put_off[rule.what] += 1
            log.warning("housekeeping_put_off", what=rule.what, times=self._put_off[rule.what], reason=str(error))
            if self._put_off[rule.what] >= PUT_OFF:
                HOUSEKEEPING_FAILED.labels(self._service, rule.what).inc()
            return True
        except Exception as error:
            # One rule's fault keeps neither the others nor the service from what they do.
            HOUSEKEEPING_FAILED.labels(self._service, rule.what).inc()
            log.exception("housekeeping_failed", what=rule.what, exc_info=error)
            return True
        self._put_off.pop(rule.what, None)
        return False

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        """Yield whether this replica is the one that keeps house now."""
        connection = await self._database.connect(idle_session_timeout="10min")
        try:
            yield await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK)
        finally:
            with suppress(TimeoutError, asyncpg.PostgresError, *LOST):
                await asyncio.wait_for(connection.close(), 2)
            connection.terminate()
