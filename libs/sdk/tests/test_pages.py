"""Lists that come page by page are whole where they are asked for."""

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.sdk.pages import pages

NAMES = ["a", "b", "c", "d", "e"]


async def answer(request: pb.ListQueuesRequest) -> pb.ListQueuesResponse:
    after = [name for name in NAMES if name > request.after]
    page = after[: request.limit]
    queues = [pb.Queue(name=name) for name in page]
    return pb.ListQueuesResponse(queues=queues, next_after=page[-1] if len(after) > len(page) else "")


async def test_pages_are_asked_for_until_the_last_one() -> None:
    found = [page async for page in pages(answer, pb.ListQueuesRequest(namespace="demo", limit=2))]

    assert [[one.name for one in page.queues] for page in found] == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_list_that_is_no_longer_than_a_page_is_asked_for_once() -> None:
    found = [page async for page in pages(answer, pb.ListQueuesRequest(namespace="demo", limit=5))]

    assert [len(page.queues) for page in found] == [5]
