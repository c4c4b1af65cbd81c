"""The search: which parameters to try next, and what a trial scores."""

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from millrace.training.commands import Dimension, Objective, Params, Range
from millrace.training.domain import Trial
from millrace.training.engine.estimators import Estimator
from millrace.training.engine.frame import Frame
from millrace.training.engine.measures import measures

STARTUP_TRIALS = 5
"""Trials drawn at random before the sampler learns from them."""


def next_params(
    space: Mapping[str, Dimension], done: Sequence[Trial], objective: Objective, seed: int
) -> Params:
    """Return the parameters to try after the trials done so far.

    It is a function of its arguments: a study that was interrupted goes on as if it had not been.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    number = len(done)
    sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=(seed + 7919 * number) % 2**32)
    study = optuna.create_study(direction="maximize" if objective == "auc" else "minimize", sampler=sampler)
    distributions = {name: _distribution(dimension) for name, dimension in space.items()}
    for trial in done:
        value = trial.metrics.get(objective) if trial.state == "complete" else None
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if value is None else TrialState.COMPLETE,
                params=trial.params,
                distributions=distributions,
                value=value,
            )
        )
    return dict(study.ask(distributions).params)


def run_trial(number: int, params: Params, of: Estimator, fit: Frame, tuning: Frame, seed: int) -> Trial:
    """Return a trial: the estimator fitted on some rows and measured on others."""
    model = of.fit(params, fit.features, fit.label, seed)
    return Trial(number, params, measures(tuning.label, model.score(tuning.features)))


def _distribution(dimension: Dimension) -> BaseDistribution:
    if not isinstance(dimension, Range):
        return CategoricalDistribution(dimension.choices)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
