"""Who calls, as far as a call tells and both of its sides know."""

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

MAX_TOKEN_BYTES = 8192

AUTHORIZATION = "authorization"
ON_BEHALF = "x-millrace-principal"
PRIORITY = "x-priority"

Priority = Literal["control", "interactive", "background", "batch"]
"""What is served first, and shed last; `control`, what an operator mends things with, is not for a caller to claim."""


@dataclass(frozen=True)
class Caller:
    """Who asks, in one call.

    Attributes:
        principal: On whose behalf it is asked: what is kept of a call names this one.
        service: The service that asks for somebody else, such as `service:training`; empty when nobody is in between.
        namespace: Where the call was allowed to act; empty for all namespaces.
        priority: What comes later in the order of `Priority` waits longer and is shed first.
        deadline: When the caller stops waiting, by `time.monotonic()`.
        role: The most that the caller may do there, an `Action`; 0 where that is nothing.
    """

    principal: str
    service: str = ""
    namespace: str = ""
    priority: Priority = "interactive"
    deadline: float = float("inf")
    role: int = 0

    def remaining_s(self) -> float:
        """Return how much longer the caller waits, seconds; 0 when it no longer does."""
        return max(0.0, self.deadline - time.monotonic())


CALLER: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Return who asks, inside an RPC."""
    return CALLER.get()
