"""What lineage is told when it starts."""

from millrace.contracts.event import Namespace
from millrace.runtime.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """Settings of lineage, read once, by app."""

    model_config = SettingsConfigDict(env_prefix="LINEAGE_")

    openlineage_topics: tuple[str, ...] = ("openlineage.events",)
    """Topics with OpenLineage events of other emitters."""

    openlineage_namespace: Namespace = "demo"
    """The tenant that those events belong to."""

    keep_predictions_days: float = Field(90, gt=0)
    """How long single predictions can be looked up, days."""
