"""What a service can be asked: raw input checked once, at the edge."""

from typing import Any

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


def faults(error: ValidationError) -> str:
    """Return each fault as `field: what is wrong`, without the values."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'input'}: {fault['msg']}" for fault in found[:20]
    )
