"""What takes time: tuning and evaluating."""

from collections.abc import Sequence

import numpy as np
from millrace.contracts.training import MANIFEST_FILE, MODEL_FILE, tree_hash
from millrace.runtime.errors import InvalidInput
from millrace.runtime.subscriptions import task
from millrace.runtime.tasks import Job
from millrace.training.clients import feature
from millrace.training.commands import Evaluate, Promote, Tune
from millrace.training.domain import (
    Bounds,
    Candidate,
    Judgement,
    Split,
    TrainingSet,
    Trial,
    Version,
    best,
    content_id,
    holdout_begins,
    refusals,
    search_space,
    split,
)
from millrace.training.engine.estimators import estimator
from millrace.training.engine.frame import Floats, Frame, groups, read_frame
from millrace.training.engine.measures import bounds, measures, sums
from millrace.training.engine.model import Deployable, build
from millrace.training.engine.study import Study
from millrace.training.handlers import keep_evaluation, promote_version, register_version

TUNING_SHARE = 0.8
"""How much of tuning is trials, as progress goes; the rest is the final fit."""


def tune(asked: Tune, job: Job) -> Candidate:
    """Return a model fitted with the best parameters found; a retry goes on after the trials that are stored."""
    of = estimator(asked.estimator)
    space = search_space(asked.estimator, of.parameters, asked.search_space)
    training_set = _training_set(asked.training_set_id, job)
    frame = read_frame(job.artifacts.path_of(training_set.sha256), training_set.columns)
    cut = split(frame.last, asked.tuning_days, asked.holdout_days, asked.timezone)
    study = Study(
        of=of,
        space=space,
        fit=frame.between(None, cut.tuning_from).sample(asked.subsample_rows, asked.seed),
        tuning=frame.between(cut.tuning_from, cut.holdout_from),
        objective=asked.objective,
        seed=asked.seed,
    )
    _check(study, cut, asked)
    study_id = content_id("study", job.task.namespace, asked.model_dump(mode="json"))
    chosen = best(_search(study_id, study, asked, job), asked.objective)
    built = build(asked, chosen.params, training_set, frame.between(None, cut.holdout_from), cut.holdout_from)
    files = {
        MODEL_FILE: job.artifacts.put_bytes(built.graph),
        MANIFEST_FILE: job.artifacts.put_bytes(built.manifest.to_bytes()),
    }
    return Candidate(
        study_id=study_id,
        model=asked.model,
        version_id=tree_hash(files),
        files=files,
        training_set_id=asked.training_set_id,
        estimator=asked.estimator,
        params=chosen.params,
        metrics=chosen.metrics,
        parity_max_abs=built.parity_max_abs,
    )


def evaluate(asked: Evaluate, job: Job) -> Judgement:
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


async def promote(asked: Promote, job: Job) -> Promote:  # noqa: ARG001 - the form of all work
    """Return what was asked: all of it is done in the finishing transaction."""
    return asked


def _check(study: Study, cut: Split, asked: Tune) -> None:
    if not study.fit.both_classes() or not len(study.tuning):
        raise InvalidInput(
            f"training set {asked.training_set_id} needs labels of both kinds before {cut.tuning_from} and rows from"
            f" there to {cut.holdout_from}: it has {len(study.fit)} and {len(study.tuning)} rows"
        )


def _training_set(training_set_id: str, job: Job) -> TrainingSet:
    found: TrainingSet = job.wait(feature.training_set(job.channel("feature"), job.task.namespace, training_set_id))
    return found


def _search(study_id: str, study: Study, asked: Tune, job: Job) -> Sequence[Trial]:
    namespace = job.task.namespace
    with job.begin() as tx:
        tx.add_study(namespace, study_id, asked)
        done: list[Trial] = job.wait(tx.trials(namespace, study_id))
    while len(done) < asked.trials:
        done.append(study.run_trial(done))
        with job.begin() as tx:
            tx.add_trial(namespace, study_id, done[-1])
        job.progress(TUNING_SHARE * len(done) / asked.trials, f"trial {len(done)} of {asked.trials}")
    return done


def _deployable(version: Version, job: Job) -> Deployable:
    return Deployable(*(job.artifacts.get_bytes(version.files[name]) for name in (MODEL_FILE, MANIFEST_FILE)))


def _holdout(asked: Evaluate, new: Deployable, in_use: Deployable | None, job: Job) -> Frame:
    training_set = _training_set(new.manifest.training_set_id, job)
    columns = dict.fromkeys(new.columns + (in_use.columns if in_use else []))
    frame = read_frame(job.artifacts.path_of(training_set.sha256), list(columns), asked.bootstrap_by)
    unseen_from = new.manifest.fitted_until
    begins = holdout_begins(frame.last, asked.holdout_days, asked.timezone) if asked.holdout_days else unseen_from
    what = f"version {asked.version} of model {asked.model}"
    if begins < unseen_from:
        raise InvalidInput(f"{what} was fitted on rows up to {unseen_from}: it cannot be judged from {begins} on")
    holdout = frame.between(begins, None)
    if not len(holdout):
        raise InvalidInput(f"training set {training_set.training_set_id} has no labelled row from {begins} on")
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


TASKS = (
    task("training.tune", Tune, tune, register_version),
    task("training.evaluate", Evaluate, evaluate, keep_evaluation),
    task("training.promote", Promote, promote, promote_version),
)
