"""What can be asked of pools and quotas, checked at the edge."""

from typing import Annotated

from millrace.contracts.event import Namespace
from millrace.core.admission import MAX_SHARE, Rate
from millrace.core.ir import MAX_KEY_CHARS, MAX_SLOTS
from millrace.core.parts import NAME
from millrace.runtime.command import Command
from pydantic import Field

MAX_SHARES = 1_000
PoolName = Annotated[str, Field(pattern=NAME)]


class ApplyPool(Command):
    """Have a pool of so many slots.

    Attributes:
        slots: With 0, nothing is let in.
        rate: At which attempts begin at most.
        shares: What a fairness key has as often as one that is not named has one.
    """

    namespace: Namespace
    principal: str
    name: PoolName
    slots: Annotated[int, Field(ge=0, le=MAX_SLOTS)]
    rate: Rate | None = None
    shares: Annotated[
        dict[Annotated[str, Field(max_length=MAX_KEY_CHARS)], Annotated[int, Field(ge=1, le=MAX_SHARE)]],
        Field(max_length=MAX_SHARES),
    ] = {}  # noqa: RUF012 - pydantic copies it


class GetPool(Command):
    """Look at a pool."""

    namespace: Namespace
    name: PoolName


class DeletePool(GetPool):
    """Have a pool no more."""


class ApplyQuota(Command):
    """Say how many tasks of a namespace may hold slots at once, over all its pools; None for any number."""

    namespace: Namespace
    principal: str
    max_leases: Annotated[int, Field(ge=0, le=1_000_000)] | None
