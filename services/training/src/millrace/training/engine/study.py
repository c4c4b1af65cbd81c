"""The search: which parameters to try next, and what a trial scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from millrace.training.commands import Dimension, Objective, Params, Range
from millrace.training.domain import Trial
from millrace.training.engine.estimators import Estimator
from millrace.training.engine.frame import Frame
from millrace.training.engine.measures import measures
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

STARTUP_TRIALS = 5
"""Trials drawn at random before the sampler learns from them."""
STRIDE = 7919
"""Keeps the draws of a study's trials apart from those of a study whose seed is next to its own."""


@dataclass(frozen=True)
class Study:
    """A search over one estimator's parameters.

    Attributes:
        fit: Rows that each trial is fitted on.
        tuning: Later rows, on which it is measured.
        seed: The same study makes the same trials.
    """

    of: Estimator
    space: Mapping[str, Dimension]
    fit: Frame
    tuning: Frame
    objective: Objective
    seed: int

    def run_trial(self, done: Sequence[Trial]) -> Trial:
        """Return the trial that follows those done so far."""
        params = self.next_params(done)
        model = self.of.fit(params, self.fit.features, self.fit.label, self.seed)
        return Trial(len(done), params, measures(self.tuning.label, model.score(self.tuning.features)))

    def next_params(self, done: Sequence[Trial]) -> Params:
        """Return the parameters to try next.

        They follow from the study and the trials alone: one that was interrupted goes on as if it had not been.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = TPESampler(n_startup_trials=STARTUP_TRIALS, seed=(self.seed + STRIDE * len(done)) % 2**32)
        study = optuna.create_study(direction="maximize" if self.objective == "auc" else "minimize", sampler=sampler)
        distributions = {name: _distribution(dimension) for name, dimension in self.space.items()}
        for trial in done:
            value = trial.metrics.get(self.objective) if trial.state == "complete" else None
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            study.add_trial(create_trial(state=state, params=trial.params, distributions=distributions, value=value))
        return dict(study.ask(distributions).params)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if not isinstance(dimension, Range):
        return CategoricalDistribution(dimension.choices)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
