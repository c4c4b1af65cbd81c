"""What data can be asked."""

from typing import Annotated, Literal

from millrace.contracts.event import Namespace
from millrace.runtime.command import Command
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A dataset's or contract's name; a dataset's is a table's name in the SQL of feature views."""

Partition = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._=-]{0,127}$")]
FileFormat = Literal["csv", "parquet"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MAX_CONTRACT_BYTES = 256 * 1024
MAX_LISTED = 1000


class ApplyContract(Command):
    """Put a contract in force."""

    namespace: Namespace
    odcs_yaml: Annotated[str, Field(min_length=1, max_length=MAX_CONTRACT_BYTES)]


class GetVersion(Command):
    """Read one version."""

    namespace: Namespace
    version_id: Digest


class ListVersions(Command):
    """Read the newest versions, of one dataset or of all."""

    namespace: Namespace
    dataset: Name | None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 100


class ReadPlan(Command):
    """Read which files make up some versions, or the newest version of every partition."""

    namespace: Namespace
    dataset: Name
    version_ids: Annotated[tuple[Digest, ...], Field(max_length=MAX_LISTED)] = ()
    up_to_partition: Partition | None = None


class ListQuarantined(Command):
    """Read rows that were set aside."""

    namespace: Namespace
    version_id: Digest
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 100


class Ingest(BaseModel):
    """Input of `data.ingest`.

    Attributes:
        contract: Its name; the dataset's name when absent.
        uri: Where the bytes are: `file:` in an allowed folder, `http:` or `https:`.
        sha256: What their digest must be, where the one who asks knows it.
        landed_at: When they came to be known; the time of the ingest when absent.
        format: Told by the URI's suffix when absent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Name
    partition: Partition
    uri: Annotated[str, Field(min_length=1, max_length=2000)]
    contract: Name | None = None
    sha256: Digest | None = None
    landed_at: AwareDatetime | None = None
    format: FileFormat | None = None
