"""What training asks of feature: training sets."""

import grpc
from millrace.contracts.rpc.feature.v1 import feature_pb2 as pb
from millrace.contracts.rpc.feature.v1.feature_pb2_grpc import FeatureServiceStub
from millrace.contracts.training import ModelFeature, OnlineView
from millrace.training.domain import TrainingSet

TIMEOUT_S = 10.0


async def training_set(channel: grpc.aio.Channel, namespace: str, training_set_id: str) -> TrainingSet:
    """Return where a training set's Parquet is and which of its columns a model takes."""
    request = pb.GetTrainingSetRequest(namespace=namespace, training_set_id=training_set_id)
    answer = await FeatureServiceStub(channel).GetTrainingSet(request, timeout=TIMEOUT_S)
    sent = set(answer.request_features)
    return TrainingSet(
        training_set_id,
        answer.sha256,
        tuple(_feature(name, online=name not in sent) for name in answer.features),
        tuple(OnlineView(view=view.view, entity=tuple(view.entity)) for view in answer.online_views),
    )


def _feature(name: str, *, online: bool) -> ModelFeature:
    view, _, feature = name.rpartition(".")
    return ModelFeature(view=view, feature=feature, source="online" if online else "request")
