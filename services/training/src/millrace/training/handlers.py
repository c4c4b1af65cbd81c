"""Everything training does in a transaction: one function per command and per kind of task's result."""

from collections.abc import Sequence
from dataclasses import asdict

from millrace.contracts.openlineage import ref
from millrace.contracts.tasks import Output
from millrace.contracts.training import AliasMoved, EvaluationFailed, EvaluationPassed, VersionRegistered
from millrace.runtime.errors import Conflict, NotFound
from millrace.runtime.subscriptions import Subscription
from millrace.training.commands import ListTrials, ListVersions, Promote, SetAlias, VersionKey
from millrace.training.domain import Candidate, Evaluation, Judgement, Trial, Version, VersionRecord
from millrace.training.store import Store

LISTED_VERSIONS = 100
LISTED_TRIALS = 1000


async def register_version(candidate: Candidate, tx: Store) -> Output:
    """Give a fitted model its number and announce it; contents that are known keep the number they have."""
    namespace = tx.task.namespace
    versions = await tx.hold_model(namespace, candidate.model)
    known = await tx.versions_with_id(namespace, candidate.model, candidate.version_id)
    version = known[0] if known else Version(**asdict(candidate), version=versions + 1, registered_at=tx.now)
    if not known:
        tx.add_version(namespace, version)
        tx.emit(
            VersionRegistered(
                namespace=namespace,
                model=version.model,
                version=version.version,
                version_id=version.version_id,
                training_set_id=version.training_set_id,
                estimator=version.estimator,
                params=version.params,
                metrics=version.metrics,
                parity_max_abs=version.parity_max_abs,
            )
        )
    tx.used(ref("feature.training_set", version.training_set_id))
    tx.made(
        ref("training.model", version.version_id),
        model=version.model,
        version=version.version,
        estimator=version.estimator,
        metrics=version.metrics,
    )
    return {
        "study_id": version.study_id,
        "model": version.model,
        "version": version.version,
        "version_id": version.version_id,
        "estimator": version.estimator,
        "params": version.params,
        "metrics": version.metrics,
        "parity_max_abs": version.parity_max_abs,
    }


async def keep_evaluation(judgement: Judgement, tx: Store) -> Output:
    """Keep the gate's verdict and announce it once."""
    namespace = tx.task.namespace
    await tx.hold_model(namespace, judgement.model)
    if not await tx.has_evaluation(namespace, judgement.evaluation_id):
        announcement = EvaluationPassed if judgement.passed else EvaluationFailed
        tx.emit(
            announcement(
                namespace=namespace,
                evaluation_id=judgement.evaluation_id,
                model=judgement.model,
                version=judgement.version,
                version_id=judgement.version_id,
                training_set_id=judgement.training_set_id,
                measures=judgement.measures,
                reasons=judgement.reasons,
            )
        )
    tx.save_evaluation(namespace, Evaluation(**asdict(judgement), evaluated_at=tx.now))
    verdict = "passed" if judgement.passed else "failed"
    tx.used(ref("feature.training_set", judgement.training_set_id))
    tx.used(ref("training.model", judgement.version_id))
    if judgement.champion_version_id:
        tx.used(ref("training.model", judgement.champion_version_id))
    tx.made(
        ref("training.evaluation", judgement.evaluation_id),
        model=judgement.model,
        version=judgement.version,
        verdict=verdict,
        measures=judgement.measures,
    )
    return {
        "evaluation_id": judgement.evaluation_id,
        "model": judgement.model,
        "version": judgement.version,
        "verdict": verdict,
        "reasons": list(judgement.reasons),
        "reason": "; ".join(judgement.reasons),
        "measures": judgement.measures,
        "champion_version": judgement.champion_version,
    }


async def promote_version(asked: Promote, tx: Store) -> Output:
    """Point an alias at a version, as a task of a run."""
    command = SetAlias(namespace=tx.task.namespace, model=asked.model, version=asked.version, alias=asked.alias)
    version, evaluation = await _passed(command, tx)
    previous = await _move(command, evaluation, tx.task.principal, tx)
    tx.used(ref("training.model", version.version_id))
    tx.used(ref("training.evaluation", evaluation.evaluation_id))
    return {"model": asked.model, "alias": asked.alias, "version": asked.version, "previous_version": previous}


async def set_alias(command: SetAlias, principal: str, tx: Store) -> int:
    """Point an alias at a version that passed its newest evaluation; return where it pointed before, 0 for nowhere.

    Raises:
        NotFound: There is no such version.
        Conflict: It has not passed an evaluation, or its newest one refused it.
    """
    _, evaluation = await _passed(command, tx)
    return await _move(command, evaluation, principal, tx)


async def model_version(key: VersionKey, tx: Store) -> VersionRecord:
    """Return a version by number, alias or id.

    Raises:
        NotFound: There is none.
    """
    number = key.version
    if not number and key.alias:
        number = await tx.aliased(key.namespace, key.model, key.alias)
        if not number:
            raise NotFound(f"model {key.model} has no alias {key.alias}")
    if number:
        version = await tx.version(key.namespace, key.model, number)
    else:
        found = await tx.versions_with_id(key.namespace, key.model, key.version_id)
        if not found:
            raise NotFound(f"model {key.model} has no version with id {key.version_id}")
        version = found[0]
    return (await _records([version], key.namespace, key.model, tx))[0]


async def model_versions(command: ListVersions, tx: Store) -> list[VersionRecord]:
    """Return a model's newest versions, newest first."""
    versions = await tx.versions(command.namespace, command.model, command.limit or LISTED_VERSIONS)
    return await _records(versions, command.namespace, command.model, tx)


async def study_trials(command: ListTrials, tx: Store) -> tuple[list[Trial], int]:
    """Return a page of a study's trials, in order, and the number from which the next one is; 0 after the last.

    Raises:
        NotFound: There is no such study.
    """
    await tx.check_study(command.namespace, command.study_id)
    most = command.limit or LISTED_TRIALS
    found = await tx.trials(command.namespace, command.study_id, command.from_number, most + 1)
    return found[:most], found[most].number if len(found) > most else 0


async def _passed(command: SetAlias, tx: Store) -> tuple[Version, Evaluation]:
    await tx.hold_model(command.namespace, command.model)
    version = await tx.version(command.namespace, command.model, command.version)
    evaluations = await tx.evaluations(command.namespace, command.model, [command.version])
    if not evaluations:
        raise Conflict(f"version {command.version} of model {command.model} has not been evaluated")
    if not evaluations[0].passed:
        raise Conflict(
            f"version {command.version} of model {command.model} was refused by evaluation"
            f" {evaluations[0].evaluation_id}: {'; '.join(evaluations[0].reasons)}"
        )
    return version, evaluations[0]


async def _move(command: SetAlias, evaluation: Evaluation, principal: str, tx: Store) -> int:
    namespace, model, alias = command.namespace, command.model, command.alias
    previous = await tx.aliased(namespace, model, alias)
    if previous != command.version:
        tx.move_alias(command, previous, evaluation.evaluation_id, principal)
        tx.emit(
            AliasMoved(
                namespace=namespace,
                model=model,
                version=command.version,
                version_id=evaluation.version_id,
                alias=alias,
                previous_version=previous,
            )
        )
    return previous


async def _records(versions: Sequence[Version], namespace: str, model: str, tx: Store) -> list[VersionRecord]:
    aliases = await tx.aliases(namespace, model)
    evaluations = await tx.evaluations(namespace, model, [version.version for version in versions])
    return [
        VersionRecord(
            version,
            tuple(alias for alias, number in aliases.items() if number == version.version),
            tuple(evaluation for evaluation in evaluations if evaluation.version == version.version),
        )
        for version in versions
    ]


SUBSCRIPTIONS: tuple[Subscription, ...] = ()
