"""What data is told when it starts."""

from pathlib import Path

from millrace.runtime.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """Settings of data, from `DATA_…`."""

    model_config = SettingsConfigDict(env_prefix="DATA_")

    allowed_roots: tuple[Path, ...] = ()
    """Folders whose files may be ingested, links resolved; none by default."""

    allowed_hosts: frozenset[str] = frozenset()
    """`host:port` that may be fetched from though their addresses are not public."""

    max_source_bytes: int = Field(4 * 1024**3, ge=1)
    """The largest file that is ingested, bytes."""

    fetch_timeout_s: float = Field(300.0, gt=0)
    """Wall time in which a file must be fetched, seconds."""

    scan_memory_bytes: int = Field(1024**3, ge=64 * 1024**2)
    """Memory of one scan's engine, bytes; what exceeds it spills to disk."""

    scan_timeout_s: float = Field(600.0, gt=0)
    """Wall time in which a file must be scanned, seconds."""
