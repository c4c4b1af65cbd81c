"""What takes time: verifying a model version, and waiting for a canary's labelled answers."""

import asyncio
from uuid import UUID

from millrace.inference.clients.training import ModelVersion, model_version
from millrace.inference.commands import Deploy, Judge, Shift
from millrace.inference.domain.canary import Judgement, Verdict
from millrace.inference.domain.routing import Deployment, State
from millrace.inference.engine.golden import check_golden
from millrace.inference.engine.model import load
from millrace.inference.handlers import (
    Judged,
    announce_deployment,
    begin_judgement,
    keep_verdict,
    shift_traffic,
    trial_so_far,
)
from millrace.runtime.errors import MillraceError
from millrace.runtime.subscriptions import task
from millrace.runtime.tasks import Job
from millrace.runtime.traceparent import current_traceparent

LOOK_S = 0.5


def deploy(asked: Deploy, job: Job) -> UUID:
    """Return a new deployment whose files are verified and whose model answers its golden rows as training did.

    It runs in a process of its own: a model that crashes takes no traffic with it.
    """
    namespace = job.task.namespace
    found: ModelVersion = job.wait(model_version(job.channel("training"), namespace, asked.model, asked.version))
    with job.begin() as tx:
        deployment = Deployment(
            namespace=namespace,
            deployment_id=tx.new_id(),
            model=found.model,
            version=found.version,
            version_id=found.version_id,
            files=found.files,
            state=State.LOADING,
            traceparent=current_traceparent(),
            created_at=tx.now,
        )
        deployment_id: UUID = job.wait(tx.start_deployment(namespace, job.task.task_id, deployment))
    try:
        check_golden(load(job.artifacts, found.version_id, found.files))
    except MillraceError:
        with job.begin() as tx:
            tx.set_state(namespace, deployment_id, State.FAILED)
        raise
    return deployment_id


async def shift(asked: Shift, _: Job) -> Shift:
    """Return what was asked: all of it is done in the finishing transaction."""
    return asked


async def judge(asked: Judge, job: Job) -> Judged:
    """Return the verdict on a canary once its labelled answers allow one, or time is up."""
    namespace, who = job.task.namespace, asked.deployment_id
    until = asyncio.get_running_loop().time() + asked.timeout_s
    async with job.begin() as tx:
        judgement = await begin_judgement(namespace, asked, tx)
    while True:
        async with job.begin() as tx:
            trial = await trial_so_far(namespace, who, tx)
            if trial.over:
                return trial.over
            found = judgement.next(trial.evidence)
            if isinstance(found, Judgement) and found != judgement:
                tx.want_answers(namespace, who, found.wanted)
        if isinstance(found, Verdict):
            return Judged(who, found, trial.evidence)
        judgement, answers = found, trial.evidence.answers
        if asyncio.get_running_loop().time() > until:
            verdict = judgement.at_timeout(trial.evidence)
            return Judged(who, verdict, trial.evidence, f"only {answers} of {judgement.wanted} answers were labelled")
        job.progress(answers / judgement.wanted, f"{answers} of {judgement.wanted} labelled answers")
        await asyncio.sleep(LOOK_S)


TASKS = (
    task("inference.deploy", Deploy, deploy, announce_deployment),
    task("inference.shift", Shift, shift, shift_traffic),
    task("inference.judge", Judge, judge, keep_verdict),
)
