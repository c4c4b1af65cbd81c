"""The Open Inference Protocol, version 2: its messages, for our server and our clients, and how to call it.

The classes live in a descriptor pool of their own: any other client of the protocol may be imported in the same
process, which with the default pool dies of a duplicate symbol.
"""

from millrace.contracts.oip.messages import (
    DESCRIPTOR,
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from millrace.contracts.oip.stub import SERVICE, OpenInferenceStub
from millrace.contracts.oip.tensors import add_bytes, add_doubles, read_bytes, read_doubles, split_bytes

__all__ = [
    "DESCRIPTOR",
    "SERVICE",
    "InferParameter",
    "InferTensorContents",
    "ModelInferRequest",
    "ModelInferResponse",
    "ModelMetadataRequest",
    "ModelMetadataResponse",
    "ModelReadyRequest",
    "ModelReadyResponse",
    "OpenInferenceStub",
    "ServerLiveRequest",
    "ServerLiveResponse",
    "ServerMetadataRequest",
    "ServerMetadataResponse",
    "ServerReadyRequest",
    "ServerReadyResponse",
    "add_bytes",
    "add_doubles",
    "read_bytes",
    "read_doubles",
    "split_bytes",
]
