"""The gRPC server of one service."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from millrace.runtime.access import Access
from millrace.runtime.errors import Conflict
from millrace.runtime.rpc.call import MAX_MESSAGE_BYTES, Calls
from millrace.runtime.rpc.methods import Begin, ForeignMethod, Rpc, foreign_rpcs, rpcs_of

MAX_METADATA_BYTES = 16 * 1024
MOST_CALLS = 16
MOST_STREAMS = 100
CALLS_PER_S = 2000.0
#: Where gRPC itself refuses, without a word on when to come back: above all that may stand in line here.
MOST_RPCS = 4000
#: A connection lives this long, so that replicas added later get their share.
CONNECTION_AGE_S = 1800
CONNECTION_GRACE_S = 3600
#: Clients ping every 10 s (endpoints.py); one that pings much faster is sent away.
PING_S = 5
#: A connection that is silent is asked after so long whether it is still there…
LOOK_AFTER_S = 30
#: … and closed when it has not answered, or not even begun to speak HTTP/2, after so long.
GONE_S = 10
CLOSE_S = 1.0
#: How long clients that watch the health of several replicas are served yet, while they turn to the others.
LINGER_S = 1.0


class _Health(health.aio.HealthServicer):  # type: ignore[name-defined,misc] # its stubs lack the asyncio half
    """Knows how many clients follow what it says.

    Attributes:
        watchers: How many do now.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watchers = 0

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: ANN401, N802 - gRPC's
        self.watchers += 1
        try:
            await super().Watch(request, context)
        finally:
            self.watchers -= 1


class RpcServer:
    """Serves a service's RPCs, grpc.health.v1 and reflection.

    Args:
        service: Its name.
        access: Who may do what.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        most_calls: How many calls are served at once; more stand in line by their priority.
        calls_per_s: How many calls each principal may make in each namespace.
        reuse_port: Whether several processes may share the port.
    """

    def __init__(
        self,
        service: str,
        access: Access,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        most_calls: int = MOST_CALLS,
        calls_per_s: float = CALLS_PER_S,
        reuse_port: bool = False,
    ) -> None:
        self.port = port
        self._service = service
        self._host = host
        self._calls = Calls(service, access, most_calls=most_calls, most_streams=MOST_STREAMS, calls_per_s=calls_per_s)
        self._reuse_port = reuse_port
        self._rpcs: dict[str, list[Rpc]] = {}
        self._files: list[FileDescriptor] = []
        self._health = _Health()
        self._server: grpc.aio.Server | None = None

    def serve(self, service: ServiceDescriptor, servicer: object, begin: Begin) -> None:
        """Answer the RPCs of one of our protos, each by the servicer's method of that name.

        Raises:
            TypeError: A method is missing or of the wrong form, or the proto does not say who may call it.
        """
        self._rpcs[service.full_name] = rpcs_of(service, servicer, begin)
        self._files.append(service.file)

    def serve_foreign(
        self,
        service: str,
        methods: Mapping[str, ForeignMethod],
        begin: Begin,
        descriptor: ServiceDescriptor | None = None,
    ) -> None:
        """Answer the RPCs of a protocol that is not ours.

        Args:
            service: The full name of its gRPC service.
            methods: What answers each RPC, and who may ask.
            begin: Opens transactions; handed to each handler.
            descriptor: What reflection tells of it; may come from a descriptor pool of its own.
        """
        self._rpcs[service] = foreign_rpcs(service, methods, begin)
        if descriptor:
            self._files.append(descriptor.file)

    async def start(self) -> int:
        """Listen, and return the port; health says NOT_SERVING until told otherwise.

        Raises:
            Conflict: The port is taken.
        """
        server = grpc.aio.server(
            maximum_concurrent_rpcs=MOST_RPCS,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_metadata_size", MAX_METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
                ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1000),
                ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_S * 1000),
                ("grpc.http2.min_ping_interval_without_data_ms", PING_S * 1000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", LOOK_AFTER_S * 1000),
                ("grpc.keepalive_timeout_ms", GONE_S * 1000),
                ("grpc.server_handshake_timeout_ms", GONE_S * 1000),
                ("grpc.max_concurrent_streams", MOST_RPCS),
                ("grpc.so_reuseport", int(self._reuse_port)),
            ],
        )
        for name, rpcs in self._rpcs.items():
            handlers = {rpc.name.rpartition("/")[2]: self._handler(rpc) for rpc in rpcs}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._rpcs, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=self._pool())
        await self.set_serving(serving=False)
        try:
            self.port = server.add_insecure_port(f"{self._host}:{self.port}")
        except RuntimeError:
            raise Conflict(
                f"{self._service} cannot listen on {self._host}:{self.port}: the port is taken; choose another"
            ) from None
        await server.start()
        self._server = server
        return self.port

    async def set_serving(self, *, serving: bool) -> None:
        """Say by grpc.health.v1 whether calls are welcome."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._rpcs):
            await self._health.set(name, status)

    async def drain(self, grace_s: float) -> None:
        """Say NOT_SERVING, let the calls in flight end, for at most so long, and close."""
        await self._health.enter_graceful_shutdown()
        if self._health.watchers:
            await asyncio.sleep(LINGER_S)
        await self._calls.drain(grace_s)
        server, self._server = self._server, None
        if server:
            await server.stop(CLOSE_S)

    def _handler(self, rpc: Rpc) -> "grpc.RpcMethodHandler[Any, Any]":
        if rpc.streams:
            return grpc.unary_stream_rpc_method_handler(partial(self._calls.stream, rpc))
        return grpc.unary_unary_rpc_method_handler(partial(self._calls.answer, rpc))

    def _pool(self) -> DescriptorPool:
        """Return the descriptors of all that is served, whatever pools they come from."""
        pool, added = DescriptorPool(), set[str]()

        def add(file: FileDescriptor) -> None:
            if file.name not in added:
                added.add(file.name)
                for needed in file.dependencies:
                    add(needed)
                proto = FileDescriptorProto()
                file.CopyToProto(proto)
                pool.Add(proto)

        for file in (*self._files, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            add(file)
        return pool
