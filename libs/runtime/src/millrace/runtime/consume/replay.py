"""A held event, handled again."""

import asyncio
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from millrace.runtime import held
from millrace.runtime.consume.items import Item, Readers
from millrace.runtime.consume.settlement import apply
from millrace.runtime.errors import InvalidInput, MillraceError
from millrace.runtime.inbox import claim
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Record
from millrace.runtime.transaction import Transaction, Transactions

FETCH_S = 20.0

log = structlog.get_logger()


class Replay:
    """Handles held events of one service again."""

    def __init__(self, service: str, settings: ServiceSettings, begin: Transactions[Any], readers: Readers) -> None:
        self._service = service
        self._settings = settings
        self._begin = begin
        self._readers = readers

    async def __call__(self, at: held.Coordinates, *, accept_duplicate: bool) -> str:
        """Handle a held record again; return why it is still held, or nothing when it was handled.

        Raises:
            NotFound: No such record is held.
        """
        try:
            async with self._begin() as tx:
                record, whole = await held.take(tx, at)
                item = self._readers.read(record if whole else await self._fetch_again(at))
                await self._handle(item, tx, accept_duplicate=accept_duplicate)
        except InvalidInput as error:
            reason = str(error)
        except MillraceError:
            raise
        except Exception as error:
            log.warning("replay_failed", topic=at.topic, partition=at.partition, offset=at.offset, exc_info=error)
            reason = f"{type(error).__name__} in the handler"
        else:
            return ""
        async with self._begin() as tx:
            held.failed_again(tx, at, reason)
        return reason

    async def _handle(self, item: Item, tx: Transaction, *, accept_duplicate: bool) -> None:
        if item.unreadable:
            raise InvalidInput(item.unreadable)
        if item.envelope is not None:
            if item.too_old(tx) and not accept_duplicate:
                raise InvalidInput(
                    "too old to deduplicate: replay it with --accept-duplicate if it was not handled before"
                )
            await claim(tx, [item.envelope.event_id])
        await apply(self._service, [item], tx)

    async def _fetch_again(self, at: held.Coordinates) -> Record:
        gone = f"{at.topic} partition {at.partition} offset {at.offset} is no longer in Kafka"
        reader = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka_servers, enable_auto_commit=False)
        place = TopicPartition(at.topic, at.partition)
        try:
            async with asyncio.timeout(FETCH_S):
                await reader.start()
                reader.assign([place])
                reader.seek(place, at.offset)
                found = await reader.getone(place)
        except TimeoutError:
            raise InvalidInput(gone) from None
        finally:
            await reader.stop()
        if found.offset != at.offset:
            raise InvalidInput(gone)
        return Record(at.topic, at.partition, at.offset, found.key, found.value, tuple(found.headers), found.timestamp)
