"""The topics of the embedded stack are those of the catalogue."""

from collections.abc import Iterable

from millrace.contracts.catalogue import Topic
from millrace.runtime import topics as runtime
from millrace.runtime.errors import Unavailable
from millrace.sdk.stack.failure import CannotStart


async def create_topics(servers: str, topics: Iterable[Topic]) -> None:
    """Make the topics that are missing on a broker of one node.

    Raises:
        CannotStart: The broker refused one.
    """
    try:
        await runtime.create_topics(servers, topics)
    except Unavailable as error:
        raise CannotStart(str(error)) from error
