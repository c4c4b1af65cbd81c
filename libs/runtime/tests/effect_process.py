"""A process that reacts to versions, with its relay: what tests kill.

Arguments: group, DSN, brokers, folder, instance.
"""

import asyncio
import sys
from pathlib import Path

from millrace.contracts.data import VersionPublished
from millrace.contracts.feature import ViewApplied
from millrace.runtime.consume import Consumer, Readers
from millrace.runtime.database import Database, Transactions
from millrace.runtime.outbox import Relay
from millrace.runtime.subscriptions import on
from runtime_effects import Effects, settings_of


async def note_and_tell(event: VersionPublished, tx: Effects) -> None:
    tx.add(f"{event.dataset}/{event.partition}")
    tx.emit(ViewApplied(namespace="demo", view=event.dataset, view_hash=event.partition))


async def main(group: str, dsn: str, servers: str, folder: str, instance: str) -> None:
    settings = settings_of(dsn, servers, Path(folder), int(instance))
    async with Database(dsn) as database:
        readers = Readers()
        readers.subscribe(on(VersionPublished, note_and_tell, start="earliest"))
        consumer = Consumer(group, settings, Transactions(database, Effects), readers=readers)
        relay = Relay(database, settings, group)
        await asyncio.gather(consumer.run(), relay.run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
