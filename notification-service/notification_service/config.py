"""Settings of notification-service; environment variables carry the prefix NOTIFICATION_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings

NAME = "notification-service"


class Settings(ServiceSettings):
    """What this room needs besides the shared names."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATION_")

    port: int = Field(default=8005, ge=1, le=65535)
