"""Where a model's traffic goes: deployments, their shares, and who answers a key."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from millrace.runtime.errors import Conflict

ALL = 100
"""All of a model's traffic, percent."""


class State(StrEnum):
    """Where a deployment is in its life."""

    #: Its files are being verified.
    LOADING = "loading"
    #: It answers its golden rows as training did.
    READY = "ready"
    #: It cannot serve.
    FAILED = "failed"
    #: It had traffic, and has none now.
    RETIRED = "retired"


@dataclass(frozen=True)
class Deployment:
    """A model version that was made ready to serve here.

    Attributes:
        files: path -> SHA-256 of its artifact.
        traceparent: W3C trace context of the task that made it ready.
    """

    namespace: str
    deployment_id: UUID
    model: str
    version: int
    version_id: str
    files: dict[str, str]
    state: State
    traceparent: str
    created_at: datetime


@dataclass(frozen=True)
class Arm:
    """A deployment's share of a model's traffic, percent."""

    deployment_id: UUID
    weight: int


@dataclass(frozen=True)
class Route:
    """Where a model's traffic goes: to the deployment in use, and some of it to a canary.

    Attributes:
        canary: A deployment on trial; while there is one, requests are scored on both.
        weight: The canary's share, percent.
        tripped: Why the canary was taken out of traffic by the process that serves it; empty when it was not.
        generation: Counts the changes.
    """

    in_use: UUID | None = None
    canary: UUID | None = None
    weight: int = 0
    tripped: str = ""
    generation: int = 0

    def arms(self) -> tuple[Arm, ...]:
        """Return who takes part, the deployment in use first; weights add up to 100."""
        if self.in_use is None:
            return ()
        if self.canary is None:
            return (Arm(self.in_use, ALL),)
        return (Arm(self.in_use, ALL - self.weight), Arm(self.canary, self.weight))

    def changed(self, **fields: Any) -> "Route":  # noqa: ANN401 - this class's own fields
        """Return the next generation with some fields set; the same one when they are already so."""
        after = replace(self, **fields)
        return self if after == self else replace(after, generation=self.generation + 1)

    def weight_of(self, deployment_id: UUID) -> int:
        """Return a deployment's share, percent."""
        return next((arm.weight for arm in self.arms() if arm.deployment_id == deployment_id), 0)

    def shifted(self, deployment_id: UUID, weight: int) -> "Route":
        """Return the route with a deployment's share set; what it gives up or takes is that of the one in use.

        Raises:
            Conflict: Nothing else is there to take the rest, or the deployment was tripped.
        """
        if self.in_use is None:
            return self._first(deployment_id, weight)
        if deployment_id == self.in_use:
            return self._in_use_shifted(weight)
        if deployment_id != self.canary:
            in_use = self._promoted().in_use
            fresh = self.changed(in_use=in_use, canary=deployment_id, weight=weight, tripped="")
            return fresh if weight > 0 else self
        if weight == 0:
            return self.changed(canary=None, weight=0, tripped="")
        if self.tripped:
            raise Conflict(f"deployment {deployment_id} is tripped: {self.tripped}; shift it to 0 and deploy again")
        return self.changed(weight=weight)

    def settled(self) -> "Route":
        """Return the route once its canary has passed: with all of the traffic it is now the one in use."""
        promoted = self._promoted()
        return self.changed(in_use=promoted.in_use, canary=promoted.canary, weight=promoted.weight)

    def with_trip(self, deployment_id: UUID, reason: str) -> "Route":
        """Return the route with a canary taken out of traffic at once; the one in use is never taken out."""
        if deployment_id != self.canary or self.tripped:
            return self
        return self.changed(weight=0, tripped=reason)

    def _first(self, deployment_id: UUID, weight: int) -> "Route":
        if weight == 0:
            return self
        if weight != ALL:
            raise Conflict(
                f"deployment {deployment_id} cannot take {weight}%: no other has traffic, so that it takes all 100"
            )
        return self.changed(in_use=deployment_id)

    def _in_use_shifted(self, weight: int) -> "Route":
        if weight == ALL:
            return self if self.canary is None else self.changed(canary=None, weight=0, tripped="")
        if self.canary is None or self.tripped:
            raise Conflict(f"deployment {self.in_use} cannot go to {weight}%: no other can take the rest")
        return self.changed(weight=ALL - weight)

    def _promoted(self) -> "Route":
        if self.canary is None or self.weight != ALL:
            return self
        return replace(self, in_use=self.canary, canary=None, weight=0)


def moves(before: Route, after: Route) -> tuple[Arm, ...]:
    """Return the shares that a change of route gives or takes: each deployment whose share is another, with it."""
    known = dict.fromkeys(arm.deployment_id for arm in (*after.arms(), *before.arms()))
    return tuple(Arm(who, after.weight_of(who)) for who in known if after.weight_of(who) != before.weight_of(who))


def left(before: Route, after: Route) -> tuple[UUID, ...]:
    """Return the deployments that take part no more."""
    staying = {arm.deployment_id for arm in after.arms()}
    return tuple(arm.deployment_id for arm in before.arms() if arm.deployment_id not in staying)


def choose(arms: Sequence[Arm], namespace: str, model: str, routing_key: str) -> UUID:
    """Return the deployment that answers a routing key: always the same while the weights are.

    Each arm draws a number from the key, and the smallest in proportion to its weight wins: a share that grows takes
    keys from the others and gives none away, and a key's fate with one arm says nothing of it with another.

    Args:
        arms: At least one with a weight.
        namespace: The tenant.
        model: Whose traffic it is.
        routing_key: Whom or what the request is about.

    Source: weighted rendezvous hashing, Schindelhauer & Schomaker (2005), "Weighted Distributed Hash Tables".
    """
    taking = [arm for arm in arms if arm.weight > 0]
    if len(taking) == 1:
        return taking[0].deployment_id
    salt = b"\0".join(part.encode() for part in (namespace, model, routing_key))

    def distance(arm: Arm) -> float:
        digest = hashlib.blake2b(salt, digest_size=8, key=arm.deployment_id.bytes).digest()
        draw = (int.from_bytes(digest) + 0.5) / 2**64
        return -math.log(draw) / arm.weight

    return min(taking, key=distance).deployment_id
