"""What takes time. The modules beside this one are loaded only where it is done: in the child processes."""

from millrace.runtime.subscriptions import task
from millrace.runtime.tasks import Job
from millrace.training.commands import Evaluate, Promote, Tune
from millrace.training.domain import Candidate, Judgement
from millrace.training.handlers import keep_evaluation, promote_version, register_version


def tune(asked: Tune, job: Job) -> Candidate:
    """Return a model fitted with the best parameters found."""
    from millrace.training.work.tuning import tuned  # noqa: PLC0415 - seconds of imports that the service can do without

    return tuned(asked, job)


def evaluate(asked: Evaluate, job: Job) -> Judgement:
    """Return the gate's verdict on a version."""
    from millrace.training.work.judging import judged  # noqa: PLC0415 - likewise

    return judged(asked, job)


async def promote(asked: Promote, job: Job) -> Promote:  # noqa: ARG001 - the form of all work
    """Return what was asked: all of it is done in the finishing transaction."""
    return asked


TASKS = (
    task("training.tune", Tune, tune, register_version),
    task("training.evaluate", Evaluate, evaluate, keep_evaluation),
    task("training.promote", Promote, promote, promote_version),
)
