"""What inference asks of training: model versions."""

from dataclasses import dataclass

import grpc
from millrace.contracts.rpc.training.v1 import training_pb2 as pb
from millrace.contracts.rpc.training.v1.training_pb2_grpc import TrainingServiceStub

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ModelVersion:
    """A registered version; `files` are path -> SHA-256 of the artifact."""

    model: str
    version: int
    version_id: str
    files: dict[str, str]


async def model_version(channel: grpc.aio.Channel, namespace: str, model: str, version: int) -> ModelVersion:
    """Return a version by its number.

    Raises:
        NotFound: There is none.
    """
    request = pb.GetModelVersionRequest(namespace=namespace, model=model, version=version)
    answer = (await TrainingServiceStub(channel).GetModelVersion(request, timeout=TIMEOUT_S)).version
    return ModelVersion(answer.model, answer.version, answer.version_id, dict(answer.files))
