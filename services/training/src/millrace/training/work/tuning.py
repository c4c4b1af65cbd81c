"""Tuning: the search, the final fit, the files."""

from collections.abc import Sequence

from millrace.contracts.training import MANIFEST_FILE, MODEL_FILE, tree_hash
from millrace.runtime.errors import InvalidInput
from millrace.runtime.tasks import Job
from millrace.training.clients.feature import training_set
from millrace.training.commands import Tune
from millrace.training.domain import Candidate, Split, TrainingSet, Trial, best, content_id, search_space, split
from millrace.training.engine.estimators import estimator
from millrace.training.engine.frame import read_frame
from millrace.training.engine.model import build
from millrace.training.engine.study import Study

TUNING_SHARE = 0.8
"""How much of tuning is trials, as progress goes; the rest is the final fit."""


def tuned(asked: Tune, job: Job) -> Candidate:
    """Return a model fitted with the best parameters found; a retry goes on after the trials that are stored."""
    of = estimator(asked.estimator)
    space = search_space(asked.estimator, of.parameters, asked.search_space)
    source: TrainingSet = job.wait(training_set(job.channel("feature"), job.task.namespace, asked.training_set_id))
    frame = read_frame(job.artifacts.path_of(source.sha256), source.columns)
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
    built = build(asked, chosen.params, source, frame.between(None, cut.holdout_from), cut.holdout_from)
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


def _check(study: Study, cut: Split, asked: Tune) -> None:
    if not study.fit.both_classes() or not len(study.tuning):
        raise InvalidInput(
            f"training set {asked.training_set_id} needs labels of both kinds before {cut.tuning_from} and rows from"
            f" there to {cut.holdout_from}: it has {len(study.fit)} and {len(study.tuning)} rows"
        )


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
