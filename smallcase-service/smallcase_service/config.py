"""Settings of smallcase-service; environment variables carry the prefix SMALLCASE_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings

NAME = "smallcase-service"


class Settings(ServiceSettings):
    """What this room needs besides the shared names."""

    model_config = SettingsConfigDict(env_prefix="SMALLCASE_")

    port: int = Field(default=8003, ge=1, le=65535)
