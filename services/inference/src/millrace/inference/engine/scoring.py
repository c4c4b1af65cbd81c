"""Who answers each row of a request, what both arms say of it while a canary is on trial, and the log of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
from millrace.inference.domain.routing import choose
from millrace.inference.engine.model import Floats
from millrace.inference.engine.request import Asked
from millrace.inference.engine.routes import LoadedArm, Served
from millrace.runtime.errors import InvalidInput, Unavailable

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """Which arm scores which rows.

    Attributes:
        answering: The arm that answers, per row.
        mirrored: Rows that both arms score, as their keys can be labelled.
        arms: All arms that may be needed, the one to fall back on first.
    """

    answering: tuple[LoadedArm, ...]
    mirrored: Rows
    arms: tuple[LoadedArm, ...]
    canary: LoadedArm | None

    def without_canary(self) -> "Plan":
        """Return the plan in which the arm in use answers all."""
        rows = len(self.answering)
        return Plan(self.arms[:1] * rows, np.zeros(rows, bool), self.arms[:1], None)

    def views(self) -> tuple[str, ...]:
        """Return the online views that the arms read, each once."""
        return tuple(dict.fromkeys(view for arm in self.arms for view in arm.model.views))

    def entity(self) -> tuple[str, ...]:
        """Return the columns that say for whom they are read."""
        return tuple(dict.fromkeys(column for arm in self.arms for column in arm.model.entity))

    def looked_up(self) -> tuple[str, ...]:
        """Return the online features that the arms need, each once."""
        return tuple(dict.fromkeys(name for arm in self.arms for name in arm.model.looked_up))


@dataclass(frozen=True)
class Scored:
    """What came of a request, row by row.

    Attributes:
        arms: Who gave each answer.
        scores: The answers, all finite, shape (rows,).
        by_arm: What each arm said, NaN where it was not asked or had no finite answer.
    """

    arms: tuple[LoadedArm, ...]
    scores: Floats
    by_arm: Mapping[UUID, Floats]


def plan(asked: Asked, served: Served, namespace: str, unkeyed: Sequence[str]) -> Plan:
    """Return who answers each row.

    A version that the caller names answers alone. Otherwise the route chooses by the routing key; a row without one
    goes by a random key, so that shares hold for such rows too. What a canary cannot read, the one in use answers.

    Args:
        asked: The request.
        served: The model's route.
        namespace: The tenant.
        unkeyed: A key for each row that has none.

    Raises:
        InvalidInput: The request lacks an input.
        Conflict: The version that it names is not served.
    """
    in_use, canary = served.in_use, served.canary
    if asked.version:
        in_use, canary = served.arm_of(asked.version), None
    lacks = asked.lacks(in_use.model)
    if lacks:
        raise InvalidInput(f"model {asked.model}: {lacks}")
    if canary and asked.lacks(canary.model):
        canary.note(0, asked.rows)
        canary = None
    if canary is None:
        return Plan((in_use,) * asked.rows, np.zeros(asked.rows, bool), (in_use,), None)
    arms, shares = (
        {in_use.deployment.deployment_id: in_use, canary.deployment.deployment_id: canary},
        served.route.arms(),
    )
    keys = [key or spare for key, spare in zip(asked.routing_keys, unkeyed, strict=True)]
    answering = tuple(arms[choose(shares, namespace, asked.model, key)] for key in keys)
    return Plan(answering, np.array([bool(key) for key in asked.routing_keys]), (in_use, canary), canary)


def score(model: str, planned: Plan, columns: Mapping[str, Floats]) -> Scored:
    """Return the answers; where an arm has no finite one, that of the arm in use stands in.

    Args:
        model: Whose name an error says.
        planned: Who answers.
        columns: All features that the arms take, each of shape (rows,).

    Raises:
        Unavailable: A row has no finite score on any arm.
    """
    by_arm: dict[UUID, Floats] = {}
    answering = np.array([planned.arms.index(arm) for arm in planned.answering])
    asked = [planned.mirrored | (answering == place) for place in range(len(planned.arms))]
    for arm, rows in zip(planned.arms, asked, strict=True):
        _score_rows(arm, columns, rows, by_arm)
    scores = np.choose(answering, [by_arm[arm.deployment.deployment_id] for arm in planned.arms])
    if planned.canary:
        lost = ~np.isfinite(scores) & (answering == 1)
        answering = np.where(lost, 0, answering)
        fallback = planned.arms[0]
        _score_rows(fallback, columns, lost & ~planned.mirrored, by_arm)
        asked[0] |= lost
        scores = np.where(lost, by_arm[fallback.deployment.deployment_id], scores)
    _note(planned.arms, asked, by_arm)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise Unavailable(f"model {model} gives no finite score for row {row}")
    return Scored(tuple(planned.arms[place] for place in answering), scores, by_arm)


def _score_rows(arm: LoadedArm, columns: Mapping[str, Floats], rows: Rows, by_arm: dict[UUID, Floats]) -> None:
    """Add an arm's scores of some rows to what it said before."""
    said = by_arm.setdefault(arm.deployment.deployment_id, np.full(len(rows), np.nan))
    if not rows.any():
        return
    try:
        said[rows] = arm.model.score({name: columns[name][rows] for name in arm.model.names})
    except InvalidInput:
        # The graph failed on them: said of the arm, not of the caller.
        said[rows] = np.nan


def _note(arms: Sequence[LoadedArm], asked: Sequence[Rows], by_arm: Mapping[UUID, Floats]) -> None:
    """Count each arm's answers; a row on which the one in use fails too says nothing of a canary."""
    finite = [np.isfinite(by_arm[arm.deployment.deployment_id]) for arm in arms]
    for place, arm in enumerate(arms):
        telling = asked[place] & (finite[place] | finite[0]) if place else asked[0]
        good = int((telling & finite[place]).sum())
        arm.note(good, int(telling.sum()) - good)
