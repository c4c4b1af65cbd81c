"""What was answered and what was tripped, told once a second in one transaction."""

import asyncio
from collections import Counter
from uuid import UUID

import structlog
from millrace.inference.engine.log import Answer, Buffer
from millrace.inference.engine.routes import LoadedArm, Routes
from millrace.inference.handlers import Answers, Observation, keep_answers, trip_canary
from millrace.inference.store import Store
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Unavailable
from millrace.runtime.telemetry import PREDICTIONS_DROPPED

TELL_S = 1.0
MOST_AT_ONCE = 2000

log = structlog.get_logger()


class Teller:
    """Keeps what was answered until it is told.

    Args:
        begin: Opens transactions.
        routes: Where counts and trips are.
        most: Most answers, and most observations, that wait.
    """

    def __init__(self, begin: Transactions[Store], routes: Routes, most: int) -> None:
        self.answers: Buffer[Answer] = Buffer(most)
        self.observations: Buffer[Observation] = Buffer(most)
        self._begin = begin
        self._routes = routes

    async def run(self) -> None:
        """Tell now and then, until cancelled."""
        while True:
            await asyncio.sleep(TELL_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell all that waits; what the database does not take now is told later, as far as there is room."""
        try:
            await self._tell_trips()
            while await self._tell_some():
                pass
        except (Unavailable, TimeoutError) as error:
            log.warning("answers_kept_back", answers=len(self.answers), reason=str(error))
        dropped = self.answers.dropped + self.observations.dropped
        if dropped:
            self.answers.dropped = self.observations.dropped = 0
            PREDICTIONS_DROPPED.inc(dropped)
            log.error("answers_dropped", rows=dropped)

    async def _tell_some(self) -> bool:
        answers, observations = self.answers.take(MOST_AT_ONCE), self.observations.take(MOST_AT_ONCE)
        told = {arm: arm.outcomes for arm in self._routes.arms() if arm.outcomes}
        for arm in told:
            arm.outcomes = Counter()
        if not (answers or observations or told):
            return False
        kept = Answers(
            [(one.deployment, one.prediction()) for one in answers],
            observations,
            [(_place(arm), outcomes) for arm, outcomes in told.items()],
        )
        try:
            async with self._begin() as tx:
                await keep_answers(kept, tx)
        except BaseException:
            self.answers.give_back(answers)
            self.observations.give_back(observations)
            for arm, outcomes in told.items():
                arm.outcomes += outcomes
            raise
        return True

    async def _tell_trips(self) -> None:
        for deployment, reason in self._routes.untold_trips():
            async with self._begin() as tx:
                await trip_canary(deployment, reason, tx)
            self._routes.trip_told(deployment.deployment_id)


def _place(arm: LoadedArm) -> tuple[str, UUID]:
    return arm.deployment.namespace, arm.deployment.deployment_id
