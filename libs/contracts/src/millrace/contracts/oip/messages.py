"""The protocol's message classes, made from `open_inference.binpb` in a private descriptor pool."""

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    files("millrace.contracts.oip").joinpath("open_inference.binpb").read_bytes()
).file:
    _POOL.Add(_file)

DESCRIPTOR = _POOL.FindFileByName("open_inference.proto")
globals().update(
    {name: message_factory.GetMessageClass(found) for name, found in DESCRIPTOR.message_types_by_name.items()}
)
