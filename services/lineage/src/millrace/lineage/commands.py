"""What lineage can be asked, checked."""

from datetime import datetime
from typing import Annotated, Literal

from millrace.contracts.event import Namespace
from millrace.runtime.command import Command
from pydantic import Field

MAX_NODES = 10_000
USUAL_NODES = 1_000

Direction = Literal["upstream", "downstream", "both"]


class GetGraph(Command):
    """What lies upstream or downstream of a node.

    Attributes:
        depth: Most edges from the node; 0 for as deep as it goes.
        max_nodes: Most nodes in the answer.
        as_of: The graph as it was known then; none for now.
    """

    namespace: Namespace
    node: Annotated[str, Field(min_length=3, max_length=1000)]
    direction: Direction = "both"
    depth: Annotated[int, Field(ge=0, le=10_000)] = 0
    max_nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] = USUAL_NODES
    as_of: datetime | None = None


class Explain(Command):
    """The way back from one prediction to the bytes that it rests on."""

    namespace: Namespace
    prediction_id: Annotated[str, Field(min_length=1, max_length=200)]
