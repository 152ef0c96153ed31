"""Settings of analytics-service; environment variables carry the prefix ANALYTICS_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings

NAME = "analytics-service"


class Settings(ServiceSettings):
    """What this room needs besides the shared names."""

    model_config = SettingsConfigDict(env_prefix="ANALYTICS_")

    port: int = Field(default=8006, ge=1, le=65535)
