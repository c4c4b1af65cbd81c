"""What control is told when it starts."""

from datetime import timedelta

from millrace.runtime.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """Control's settings, read from `CONTROL_…`."""

    model_config = SettingsConfigDict(env_prefix="CONTROL_", frozen=True, extra="forbid")

    clock_poll_s: float = Field(2.0, gt=0, le=60)
    """How often control looks for what others have left or applied, when nothing tells it to look sooner, seconds."""

    sources_poll_s: float = Field(5.0, gt=0, le=600)
    """How often control asks the broker for the topics of sources that are patterns, seconds."""

    run_retention: timedelta = Field(timedelta(days=90), gt=timedelta())
    """How long a run that has ended is kept, with its tasks and attempts."""

    event_retention: timedelta = Field(timedelta(days=90), gt=timedelta())
    """How long events from outside are known again, and what triggers said then: longer than topics keep records."""
