"""What data tells: dataset versions."""

from datetime import datetime
from typing import Annotated, ClassVar

from millrace.contracts.event import Event
from pydantic import Field


class VersionPublished(Event):
    """A dataset version can be read: immutable files under a manifest whose SHA-256 is its id.

    Attributes:
        partition: The part of the dataset that this version is the newest of, such as `2013-01`.
        contract: The contract's name.
        contract_hash: SHA-256 of the contract as applied, hex.
        source_uri: Where the bytes came from.
        source_sha256: SHA-256 of those bytes, hex.
        good_rows: Rows that satisfy the contract.
        quarantined_rows: Rows set aside, each with its reasons.
        landed_at: When the bytes came to be known.
    """

    topic: ClassVar[str] = "data.versions"
    key_field: ClassVar[str] = "dataset"

    dataset: str
    partition: str
    version_id: str
    contract: str
    contract_hash: str
    source_uri: str
    source_sha256: str
    good_rows: Annotated[int, Field(ge=0)]
    quarantined_rows: Annotated[int, Field(ge=0)]
    landed_at: datetime
