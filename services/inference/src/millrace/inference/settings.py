"""What inference is told when it starts."""

from datetime import timedelta

from millrace.runtime.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """Settings of the inference service."""

    model_config = SettingsConfigDict(env_prefix="INFERENCE_")

    concurrent_calls: int = Field(8, ge=2, le=1000)
    """As everywhere; fewer, as most of a prediction is computed on the loop that all share."""

    labels_topics: tuple[str, ...] = ("flights.labels",)
    """Topics on which the truth about answered requests comes, as CloudEvents."""

    feature_ttl_s: float = Field(1.0, ge=0, le=3600)
    """How long values of the online table are remembered, seconds; 0 asks for them every time."""

    feature_timeout_s: float = Field(2.0, gt=0, le=60)
    """Longest wait for the online table, seconds; the caller's own deadline may be nearer."""

    request_rows: int = Field(4096, ge=1, le=1_000_000)
    """Most rows of one request."""

    log_entries: int = Field(50_000, ge=1, le=10_000_000)
    """Most answered rows that wait to be logged; more are counted and dropped."""

    judged_for: timedelta = Field(timedelta(days=90), gt=timedelta())
    """How long labels and observations of canaries are kept."""
