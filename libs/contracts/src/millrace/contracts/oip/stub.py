"""How the protocol is called."""

from typing import Any

import grpc
from millrace.contracts.oip import messages

SERVICE = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class OpenInferenceStub:
    """The protocol's calls on a channel, `grpc` or `grpc.aio`: one attribute per method, such as `ModelInfer`."""

    ServerLive: Any
    ServerReady: Any
    ModelReady: Any
    ServerMetadata: Any
    ModelMetadata: Any
    ModelInfer: Any

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        for method in SERVICE.methods:
            call = channel.unary_unary(
                f"/{SERVICE.full_name}/{method.name}",
                request_serializer=getattr(messages, method.input_type.name).SerializeToString,
                response_deserializer=getattr(messages, method.output_type.name).FromString,
            )
            setattr(self, method.name, call)
