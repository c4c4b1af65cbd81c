"""gRPC in: translate, hand over, translate back."""

import json

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.training.v1 import training_pb2 as pb
from millrace.runtime.caller import caller
from millrace.training.commands import ListTrials, ListVersions, SetAlias, VersionKey
from millrace.training.domain import Evaluation, Trial, VersionRecord
from millrace.training.handlers import model_version, model_versions, set_alias, study_trials
from millrace.training.store import Store


class TrainingApi:
    """The TrainingService."""

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, tx: Store) -> pb.GetModelVersionResponse:
        key = VersionKey(
            namespace=request.namespace,
            model=request.model,
            version=request.version,
            alias=request.alias,
            version_id=request.version_id,
        )
        return pb.GetModelVersionResponse(version=_version(await model_version(key, tx)))

    async def ListModelVersions(self, request: pb.ListModelVersionsRequest, tx: Store) -> pb.ListModelVersionsResponse:
        command = ListVersions(namespace=request.namespace, model=request.model, limit=request.limit)
        return pb.ListModelVersionsResponse(versions=map(_version, await model_versions(command, tx)))

    async def ListTrials(self, request: pb.ListTrialsRequest, tx: Store) -> pb.ListTrialsResponse:
        command = ListTrials(
            namespace=request.namespace,
            study_id=request.study_id,
            limit=request.limit,
            from_number=request.from_number,
        )
        page, after = await study_trials(command, tx)
        return pb.ListTrialsResponse(trials=map(_trial, page), next_from_number=after)

    async def SetAlias(self, request: pb.SetAliasRequest, tx: Store) -> pb.SetAliasResponse:
        command = SetAlias(
            namespace=request.namespace, model=request.model, version=request.version, alias=request.alias
        )
        return pb.SetAliasResponse(previous_version=await set_alias(command, caller().principal, tx))


def _version(record: VersionRecord) -> pb.ModelVersion:
    version = record.version
    answer = pb.ModelVersion(
        model=version.model,
        version=version.version,
        version_id=version.version_id,
        files=version.files,
        training_set_id=version.training_set_id,
        study_id=version.study_id,
        estimator=version.estimator,
        params_json=json.dumps(version.params, sort_keys=True),
        metrics=version.metrics,
        parity_max_abs=version.parity_max_abs,
        aliases=record.aliases,
        evaluations=map(_evaluation, record.evaluations),
    )
    answer.time.FromDatetime(version.registered_at)
    return answer


def _evaluation(evaluation: Evaluation) -> pb.Evaluation:
    time = Timestamp()
    time.FromDatetime(evaluation.evaluated_at)
    return pb.Evaluation(
        evaluation_id=evaluation.evaluation_id,
        passed=evaluation.passed,
        measures=evaluation.measures,
        reasons=evaluation.reasons,
        time=time,
        champion_version=evaluation.champion_version,
    )


def _trial(trial: Trial) -> pb.Trial:
    return pb.Trial(
        number=trial.number,
        params_json=json.dumps(trial.params, sort_keys=True),
        metrics=trial.metrics,
        state=trial.state,
    )
