"""One journey of a shop's orders, which several tests look at: two good months, a damaged one and a broken file."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import pytest
from millrace.contracts import SERVICES, oip
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.runtime.testing import create_topics
from millrace.runtime.testing.process import Deployment, deployed
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.postgres import Postgres

from tests.journeys.orders import Landed, Order, land, orders, shuffled
from tests.journeys.receiver import Receiver, receiving
from tests.journeys.shop import Shop

LABELS = "orders.labels"
#: The trace, and the span of the shop, that January's event came from.
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
JANUARY, FEBRUARY, DAMAGED, BROKEN, NEXT = "2024-01", "2024-02", "2024-03", "2024-04", "2024-05"
ASKED = 500


@dataclass(frozen=True)
class Journey:
    """What the shop saw.

    Attributes:
        deployment: The services that it used.
        landed: The files, by month.
        runs: How each month's run ended.
        asked: Orders of the month after, and the answer about them.
        receiver: Where all services sent their traces.
    """

    shop: Shop
    deployment: Deployment
    landed: Mapping[str, Landed]
    runs: Mapping[str, control_pb2.Run]
    asked: list[Order]
    answer: oip.ModelInferResponse
    receiver: Receiver


@pytest.fixture(scope="package")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A Kafka of the shop: its services run on while other tests run some of the same names on the tests' own."""
    folder = tmp_path_factory.mktemp("market")
    port, controller_port = free_ports(2)
    server = Kafka(folder / "kafka", folder / "kafka.log", port=port, controller_port=controller_port)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
async def journey(
    postgres: Postgres, market: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Journey]:
    """All seven services as processes, and a shop of which they know nothing but what it declares."""
    folder = tmp_path_factory.mktemp("shop")
    files = {
        JANUARY: land(folder, JANUARY, orders(JANUARY)),
        FEBRUARY: land(folder, FEBRUARY, orders(FEBRUARY)),
        DAMAGED: land(folder, DAMAGED, shuffled(orders(DAMAGED))),
        BROKEN: land(folder, BROKEN, orders(BROKEN), without="pieces"),
    }
    await create_topics(market.servers, {LABELS: 2})
    with receiving() as receiver:
        extra: dict[str, dict[str, str]] = {name: {"OTLP_ENDPOINT": receiver.endpoint} for name in SERVICES}
        extra["data"]["ALLOWED_ROOTS"] = json.dumps([str(folder)])
        extra["inference"]["LABELS_TOPICS"] = json.dumps([LABELS])
        grants = {"shopkeeper": {"shop": "MANAGE"}}
        async with deployed(SERVICES, postgres, market.servers, folder, extra, grants) as deployment:
            shop = Shop(lambda name: deployment.channel(name, "shopkeeper"), market.servers, "shop", LABELS)
            await shop.declare()
            coming = orders(NEXT)
            async with shop.trading(coming):
                await shop.tell_closed(files[JANUARY], traceparent=f"00-{TRACE_ID}-{SPAN_ID}-01")
                await shop.tell_closed(files[FEBRUARY])
                runs = {month: await shop.ended(month) for month in (JANUARY, FEBRUARY)}
            asked = coming[:ASKED]
            answer = await shop.ask(asked)
            await shop.tell_closed(files[DAMAGED])
            await shop.tell_closed(files[BROKEN])
            runs |= {month: await shop.ended(month) for month in (DAMAGED, BROKEN)}
            yield Journey(shop, deployment, files, runs, asked, answer, receiver)
