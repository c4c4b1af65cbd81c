"""Judging: what the gate says of a version on its holdout."""

import numpy as np
from millrace.contracts.training import MANIFEST_FILE, MODEL_FILE
from millrace.runtime.errors import InvalidInput
from millrace.runtime.tasks import Job
from millrace.training.clients.feature import training_set
from millrace.training.commands import Evaluate
from millrace.training.domain import (
    Bounds,
    Judgement,
    TrainingSet,
    Version,
    content_id,
    holdout_begins,
    refusals,
)
from millrace.training.engine.frame import Floats, Frame, groups, read_frame
from millrace.training.engine.measures import bounds, measures, sums
from millrace.training.engine.model import Deployable


def judged(asked: Evaluate, job: Job) -> Judgement:
    """Return the gate's verdict on a version, from the scores of the very graph that would be deployed."""
    namespace = job.task.namespace
    with job.begin() as tx:
        version: Version = job.wait(tx.version(namespace, asked.model, asked.version))
        number = job.wait(tx.aliased(namespace, asked.model, asked.champion)) if asked.champion else 0
        champion: Version | None = job.wait(tx.version(namespace, asked.model, number)) if number else None
    new = _deployable(version, job)
    in_use = _deployable(champion, job) if champion else None
    holdout = _holdout(asked, new, in_use, job)
    score = new.score(holdout)
    score_in_use = in_use.score(holdout) if in_use else np.full(len(holdout), new.manifest.base_rate)
    totals = sums(groups(holdout, asked.bootstrap_by, asked.timezone), holdout.label, score, score_in_use)
    found = bounds(totals, asked.bootstraps, asked.seed)
    compared = f"version {champion.version} in use" if champion else "the training rate"
    reasons = refusals(found, version.parity_max_abs, asked.max_regression, compared)
    return Judgement(
        evaluation_id=content_id(
            "evaluation", namespace, asked.model_dump(mode="json"), version.version_id, champion and champion.version_id
        ),
        model=version.model,
        version=version.version,
        version_id=version.version_id,
        training_set_id=version.training_set_id,
        champion_version=champion.version if champion else 0,
        champion_version_id=champion.version_id if champion else "",
        passed=not reasons,
        measures=_measures(holdout, score, score_in_use, found, version.parity_max_abs),
        reasons=reasons,
    )


def _deployable(version: Version, job: Job) -> Deployable:
    return Deployable(*(job.artifacts.get_bytes(version.files[name]) for name in (MODEL_FILE, MANIFEST_FILE)))


def _holdout(asked: Evaluate, new: Deployable, in_use: Deployable | None, job: Job) -> Frame:
    source: TrainingSet = job.wait(
        training_set(job.channel("feature"), job.task.namespace, new.manifest.training_set_id)
    )
    if lacking := sorted(set(in_use.columns) - set(source.columns)) if in_use else []:
        raise InvalidInput(
            f"the version in use takes {', '.join(lacking)}, which training set {source.training_set_id} lacks: build"
            " it with those views too, or say `champion: ''` to compare with the training rate alone"
        )
    columns = dict.fromkeys(new.columns + (in_use.columns if in_use else []))
    frame = read_frame(job.artifacts.path_of(source.sha256), list(columns), asked.bootstrap_by)
    unseen_from = new.manifest.fitted_until
    begins = holdout_begins(frame.last, asked.holdout_days, asked.timezone) if asked.holdout_days else unseen_from
    what = f"version {asked.version} of model {asked.model}"
    if begins < unseen_from:
        raise InvalidInput(f"{what} was fitted on rows up to {unseen_from}: it cannot be judged from {begins} on")
    holdout = frame.between(begins, None)
    if not len(holdout):
        raise InvalidInput(f"training set {source.training_set_id} has no labelled row from {begins} on")
    return holdout


def _measures(holdout: Frame, score: Floats, score_in_use: Floats, found: Bounds, parity: float) -> dict[str, float]:
    of_new = measures(holdout.label, score)
    brier_in_use = measures(holdout.label, score_in_use)["brier"]
    rate = float(holdout.label.mean())
    base = rate * (1 - rate)
    of_gate = {"skill_lower": found.skill_lower, "regression_upper": found.regression_upper, "groups": found.groups}
    if base:
        of_gate |= {"skill": 1 - of_new["brier"] / base, "regression": (of_new["brier"] - brier_in_use) / base}
    return (
        of_new
        | of_gate
        | {
            "base_brier": base,
            "base_rate": rate,
            "brier_in_use": brier_in_use,
            "parity": parity,
            "rows": float(len(holdout)),
        }
    )
