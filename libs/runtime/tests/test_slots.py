"""How places to compute are shared."""

import asyncio

from millrace.runtime.tasks.slots import Slots


async def order_of(tenants: str, places: int) -> str:
    """Return in which order tasks of these tenants, come in this order, begin."""
    slots, began = Slots(places), []

    async def compute(tenant: str) -> None:
        async with slots.place(tenant):
            began.append(tenant)
            await asyncio.sleep(0)

    await asyncio.gather(*(compute(tenant) for tenant in tenants))
    return "".join(began)


async def test_a_tenant_with_few_tasks_does_not_wait_for_one_with_many() -> None:
    assert await order_of("aaaaaaab", places=1) == "abaaaaaa"


async def test_tenants_with_as_many_tasks_take_turns() -> None:
    assert await order_of("aaabbbccc", places=1) == "abcabcabc"


async def test_no_more_tasks_compute_than_there_are_places() -> None:
    slots, most, now = Slots(2), 0, 0

    async def compute(tenant: str) -> None:
        nonlocal most, now
        async with slots.place(tenant):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(compute(tenant) for tenant in "aabbccdd"))

    assert most == 2


async def test_a_task_that_is_cancelled_while_it_waits_or_as_its_turn_comes_keeps_no_place() -> None:
    slots = Slots(1)

    async def compute() -> None:
        async with slots.place("a"):
            pass

    async with slots.place("a"):
        waiting, next_one = asyncio.create_task(compute()), asyncio.create_task(compute())
        await asyncio.sleep(0)
        waiting.cancel()
    next_one.cancel()
    await asyncio.gather(waiting, next_one, return_exceptions=True)

    await asyncio.wait_for(compute(), 1)
