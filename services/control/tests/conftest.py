"""Control's own transactions, and records as an upstream system writes them."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from millrace.control.store import Store
from millrace.runtime.subscriptions import Record
from millrace.runtime.testing import Server, store

Landed = Callable[..., Record]


@pytest.fixture
async def tx(postgres: Server) -> AsyncIterator[Store]:
    async with store(postgres, "control", Store) as opened:
        yield opened


@pytest.fixture
def landed() -> Landed:
    def record(event_id: str, data: Any = None, *, offset: int = 0, **attributes: str) -> Record:
        """A CloudEvent in binary mode on `triggers`; an attribute that is empty is left out."""
        named = {"specversion": "1.0", "id": event_id, "source": "/airport", "type": "month.landed", **attributes}
        headers = tuple((f"ce_{name}", value.encode()) for name, value in named.items() if value)
        return Record("triggers", 0, offset, None, json.dumps(data).encode(), headers, 1_700_000_000_000)

    return record
