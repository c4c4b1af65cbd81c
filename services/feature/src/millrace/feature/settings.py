"""What feature is told when it starts."""

from datetime import timedelta

from millrace.runtime.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """Settings of the feature service."""

    model_config = SettingsConfigDict(env_prefix="FEATURE_")

    sql_memory_bytes: int = Field(1024**3, ge=64 * 1024**2)
    """Most memory that one view's SQL may hold in a task, bytes; as much again may be spilled to disk."""

    sql_time_s: float = Field(120.0, gt=0, le=3600)
    """Longest that one view's SQL may take in a task, seconds."""

    compute_memory_bytes: int = Field(256 * 1024**2, ge=64 * 1024**2)
    """Most memory that one view's SQL may hold in a call, bytes."""

    compute_time_s: float = Field(5.0, gt=0, le=60)
    """Longest that one view's SQL may take in a call, seconds."""

    concurrent_computes: int = Field(2, ge=1, le=64)
    """Most calls that compute at once; others wait their turn."""

    generation_grace: timedelta = Field(timedelta(hours=1), gt=timedelta())
    """How long a generation that is not online is kept: longer than it takes to compute one."""
