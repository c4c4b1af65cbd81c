"""How a service is asked: every RPC served by one function, from the permission to the stored answer."""

from millrace.runtime.rpc.methods import ForeignMethod
from millrace.runtime.rpc.server import RpcServer

__all__ = ["ForeignMethod", "RpcServer"]
