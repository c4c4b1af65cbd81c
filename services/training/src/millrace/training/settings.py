"""What training is told when it starts."""

from millrace.runtime.settings import ServiceSettings
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """Settings of the training service."""

    model_config = SettingsConfigDict(env_prefix="TRAINING_")
