"""Where traffic goes, as this process sees it: routes read from the database, and their models loaded."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog
from millrace.inference.domain.canary import Health
from millrace.inference.domain.routing import Deployment, Route
from millrace.inference.engine.golden import check_golden
from millrace.inference.engine.model import Model, load
from millrace.inference.store import Store
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Conflict, MillraceError, NotFound, Unavailable

POLL_S = 0.5
LOAD_AGAIN_S = 5.0
"""How long after a model could not be loaded it is tried again."""

Name = tuple[str, str]
"""A namespace and a model in it."""

log = structlog.get_logger()


@dataclass(eq=False)
class LoadedArm:
    """A deployment whose model is in this process.

    Attributes:
        outcomes: Good (True) and bad answers not yet told.
    """

    deployment: Deployment
    model: Model
    health: Health = field(default_factory=Health)
    outcomes: Counter[bool] = field(default_factory=Counter)

    def note(self, good: int, bad: int) -> None:
        """Take answers into account; bad is one that failed or is no finite number."""
        self.outcomes[True] += good
        self.outcomes[False] += bad
        for kind, count in ((True, good), (False, bad)):
            for _ in range(count):
                self.health.note(good=kind)


@dataclass(frozen=True)
class Served:
    """A model's route with the arms of it that are loaded."""

    route: Route
    arms: dict[UUID, LoadedArm]

    @property
    def in_use(self) -> LoadedArm:
        """Return the arm in use; a model without it is not served."""
        return self.arms[self.route.in_use]  # type: ignore[index] # a served route has one in use

    @property
    def canary(self) -> LoadedArm | None:
        """Return the arm on trial, unless it was taken out of traffic."""
        return self.arms.get(self.route.canary) if self.route.canary and not self.route.tripped else None

    def arm_of(self, version: int) -> LoadedArm:
        """Return the arm of a version that a caller insists on.

        Raises:
            Conflict: No arm has it.
        """
        for arm in self.arms.values():
            if arm.deployment.version == version:
                return arm
        served = sorted(arm.deployment.version for arm in self.arms.values())
        raise Conflict(f"version {version} of model {self.in_use.deployment.model} is not served: {served} are")


class Routes:
    """The routes of all models and their loaded arms; what is known stays when the database is away.

    Args:
        begin: Opens transactions.
        artifacts: Where models are.
    """

    def __init__(self, begin: Transactions[Store], artifacts: Artifacts) -> None:
        self._begin = begin
        self._artifacts = artifacts
        self._served: dict[Name, Served] = {}
        self._arms: dict[UUID, LoadedArm] = {}
        self._failed: dict[UUID, tuple[float, str]] = {}
        self._broken: dict[Name, str] = {}
        self._trips: dict[UUID, str] = {}
        self._untold: dict[UUID, tuple[Deployment, str]] = {}
        self._looking = asyncio.Lock()
        self._looked = 0.0

    async def follow(self) -> None:
        """Look for changes, now and then, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.look()
            except (Unavailable, TimeoutError) as error:
                log.warning("routes_kept", reason=str(error))

    async def look(self) -> None:
        """Take over what the database says, once the models for it are loaded.

        Raises:
            Unavailable: The database does not answer; what was known stays.
        """
        wanted = time.monotonic()
        async with self._looking:
            if self._looked > wanted:
                return  # somebody else looked meanwhile
            looked = time.monotonic()
            async with self._begin() as tx:
                routes, deployments = await tx.routes(), await tx.routed()
            for deployment in deployments.values():
                await self._load(deployment)
            self._take_over(routes, deployments)
            self._looked = looked

    async def served(self, namespace: str, model: str) -> Served:
        """Return a model's route; one not known yet is looked for.

        Raises:
            NotFound: The model has no deployment with traffic.
            Unavailable: Its deployment in use cannot be loaded here.
        """
        name = (namespace, model)
        if name not in self._served:
            await self.look()
        if name in self._served:
            return self._served[name]
        if name in self._broken:
            raise Unavailable(f"model {model} cannot be served here: {self._broken[name]}")
        raise NotFound(f"model {model} has no deployment with traffic in namespace {namespace}: it does not exist here")

    def all_loaded(self) -> bool:
        """Return whether all that has traffic can be served."""
        return not self._broken

    def arms(self) -> Iterator[LoadedArm]:
        """Return every loaded arm."""
        yield from self._arms.values()

    def trip_if_broken(self, namespace: str, model: str, arm: LoadedArm) -> None:
        """Take a canary out of this process's traffic at once when too many of its newest answers were bad."""
        reason, who = arm.health.trip_reason(), arm.deployment.deployment_id
        name = (namespace, model)
        served = self._served.get(name)
        if not reason or who in self._trips or not served or served.route.canary != who:
            return
        self._trips[who] = reason
        self._untold[who] = (arm.deployment, reason)
        self._served[name] = replace(served, route=served.route.with_trip(who, reason))
        log.error("canary_tripped", deployment_id=str(who), model=model, reason=reason)

    def untold_trips(self) -> list[tuple[Deployment, str]]:
        """Return the trips that the database may not know yet."""
        return list(self._untold.values())

    def trip_told(self, deployment_id: UUID) -> None:
        """Note that the database knows of a trip."""
        self._untold.pop(deployment_id, None)

    async def _load(self, deployment: Deployment) -> None:
        who, now = deployment.deployment_id, time.monotonic()
        if who in self._arms or (who in self._failed and self._failed[who][0] > now):
            return
        try:
            model = await asyncio.to_thread(self._loaded, deployment)
        except MillraceError as error:
            self._failed[who] = (now + LOAD_AGAIN_S, f"deployment {who}: {error}")
            log.error("deployment_not_loaded", deployment_id=str(who), reason=str(error))  # noqa: TRY400 - said in full
            return
        self._failed.pop(who, None)
        self._arms[who] = LoadedArm(deployment, model)
        log.info("deployment_loaded", deployment_id=str(who), model=deployment.model, version=deployment.version)

    def _loaded(self, deployment: Deployment) -> Model:
        model = load(self._artifacts, deployment.version_id, deployment.files)
        check_golden(model)
        return model

    def _take_over(self, routes: dict[Name, Route], deployments: dict[UUID, Deployment]) -> None:
        served, broken = {}, {}
        for name, known in routes.items():
            route = known
            if known.canary and known.canary in self._trips:
                route = known.with_trip(known.canary, self._trips[known.canary])
            if known.canary and known.canary not in self._arms:
                route = known.with_trip(known.canary, "it cannot be loaded here")
            if known.in_use in self._arms:
                arms = {
                    arm.deployment_id: self._arms[arm.deployment_id]
                    for arm in route.arms()
                    if arm.deployment_id in self._arms
                }
                served[name] = Served(route, arms)
            elif known.in_use:
                broken[name] = self._failed.get(known.in_use, (0.0, "it is not loaded"))[1]
        self._served, self._broken = served, broken
        self._arms = {who: arm for who, arm in self._arms.items() if who in deployments or arm.outcomes}
        self._trips = {who: reason for who, reason in self._trips.items() if who in deployments}
