"""What a service can be asked: raw input checked once, at the edge."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.runtime.errors import InvalidInput
from pydantic import BaseModel, ConfigDict, ValidationError


class Command(BaseModel):
    """A request whose fields are typed and trusted once it exists.

    Raises:
        InvalidInput: A field is missing, unknown or out of bounds; the message names each such field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - raw input is what it checks
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidInput(faults(error)) from None


def instant(stamp: Timestamp, name: str) -> datetime:
    """Return the instant that a request's field names.

    Raises:
        InvalidInput: It is beyond the calendar.
    """
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{name}: an instant from year 1 to 9999, with 0 to 999999999 ns") from None


def faults(error: ValidationError) -> str:
    """Return each fault as `field: what is wrong`, without the values."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'input'}: {fault['msg']}" for fault in found[:20]
    )
