"""What observability is told when it starts."""

from datetime import timedelta
from decimal import Decimal

from millrace.runtime.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """Settings of observability, read once, by app."""

    model_config = SettingsConfigDict(env_prefix="OBSERVABILITY_")

    price_per_cpu_hour: Decimal = Field(Decimal("0.04"), ge=0)
    """What an hour of one processor costs from now on, in `currency`."""

    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")
    """Of the price, as ISO 4217 has it."""

    audit_timeout_s: float = Field(3.0, gt=0, le=30)
    """How long each service may take to list its mutating calls, seconds."""

    series_retention: timedelta = Field(timedelta(days=400), gt=timedelta())
    """How long runs, attempts and their cost, and the lag of events are kept."""
