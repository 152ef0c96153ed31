"""Settings from environment variables: typed, prefixed per room, unknown or missing names fail at start.

Names that several rooms share (ENVIRONMENT, LOG_LEVEL, REDIS_URL, BUS_URL, the peers' addresses) carry no prefix; a
room's own names carry its prefix, so one `.env` feeds all rooms.
"""

import os
from pathlib import Path
from typing import Literal, Self

from dotenv import load_dotenv
from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

DOTENV = Path(".env")
SECRETS_DIRECTORY_VARIABLE = "SECRETS_DIR"


class InvalidSettings(Exception):
    """A setting is missing, unknown or malformed; the message names the environment variable."""


def shared(name: str, default: object = ...) -> object:
    """A field read from an environment variable without the room's prefix."""
    return Field(default=default, validation_alias=AliasChoices(name.lower(), name))


class ServiceSettings(BaseSettings):
    """What every room needs to know; subclasses set `env_prefix` and add their own fields."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, case_sensitive=False, env_ignore_empty=True
    )

    environment: Literal["development", "staging", "production"] = shared("ENVIRONMENT", "development")  # type: ignore[assignment]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = shared("LOG_LEVEL", "INFO")  # type: ignore[assignment]
    database_url: str | None = None
    redis_url: str | None = shared("REDIS_URL", None)  # type: ignore[assignment]
    bus_url: str | None = shared("BUS_URL", None)  # type: ignore[assignment]
    jwks_url: str = shared("JWKS_URL", "http://127.0.0.1:8001/.well-known/jwks.json")  # type: ignore[assignment]
    service_keys_file: Path | None = shared("SERVICE_KEYS_FILE", None)  # type: ignore[assignment]
    """JWKS with the public keys of all rooms: who may call an internal route."""
    service_key_file: Path | None = None
    """PEM private key of this room, to sign its own calls to other rooms."""
    user_service_url: str = shared("USER_SERVICE_URL", "http://127.0.0.1:8001")  # type: ignore[assignment]
    portfolio_service_url: str = shared("PORTFOLIO_SERVICE_URL", "http://127.0.0.1:8002")  # type: ignore[assignment]
    smallcase_service_url: str = shared("SMALLCASE_SERVICE_URL", "http://127.0.0.1:8003")  # type: ignore[assignment]
    trade_executor_url: str = shared("TRADE_EXECUTOR_URL", "http://127.0.0.1:8004")  # type: ignore[assignment]
    notification_service_url: str = shared("NOTIFICATION_SERVICE_URL", "http://127.0.0.1:8005")  # type: ignore[assignment]
    analytics_service_url: str = shared("ANALYTICS_SERVICE_URL", "http://127.0.0.1:8006")  # type: ignore[assignment]
    market_data_service_url: str = shared("MARKET_DATA_SERVICE_URL", "http://127.0.0.1:8007")  # type: ignore[assignment]
    status_port: int | None = shared("STATUS_PORT", None)  # type: ignore[assignment]
    """Where a process without a web server answers with its metrics, as long as it lives; unset: nowhere."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    database_pool_size: int = Field(default=8, ge=1, le=100)

    @classmethod
    def load(cls) -> Self:
        """Read the environment, below it `.env`, below it files; raises InvalidSettings with the variable's name in the message.

        Where SECRETS_DIR is set, a file there named like a variable in small letters holds its value: secrets are mounted
        into containers as files, and a container's environment can be read by too many.
        """
        load_dotenv(DOTENV, override=False)
        prefix = (cls.model_config.get("env_prefix") or "").upper()
        known = {prefix + name.upper() for name in cls.model_fields}
        # A mistyped name would otherwise be ignored in silence and a default used.
        if unknown := sorted(
            name for name in os.environ if prefix and name.startswith(prefix) and name not in known | _SHARED
        ):
            raise InvalidSettings(f"unknown setting: {', '.join(unknown)}")
        try:
            return cls(_secrets_dir=secrets_directory())
        except ValidationError as error:
            raise InvalidSettings(_explain(prefix, error)) from None

    def peer_url(self, room: str) -> str:
        """Where a room answers, by its name (`portfolio-service`)."""
        return str(getattr(self, f"{room.replace('-', '_')}_url"))

    def required(self, name: str) -> str:
        """The value of an optional setting that this process cannot do without."""
        value = getattr(self, name)
        if value in (None, ""):
            raise InvalidSettings(
                f"missing setting: {(self.model_config.get('env_prefix') or '').upper()}{name.upper()}"
            )
        return str(value)


def secrets_directory() -> Path | None:
    """Where secret settings lie as files, if anywhere (SECRETS_DIR); raises InvalidSettings for a folder that is not there."""
    given = os.environ.get(SECRETS_DIRECTORY_VARIABLE)
    if not given:
        return None
    if not Path(given).is_dir():
        raise InvalidSettings(f"{SECRETS_DIRECTORY_VARIABLE}: no such folder")
    return Path(given)


_SHARED = frozenset(
    name.upper() for name, field in ServiceSettings.model_fields.items() if field.validation_alias is not None
)


def _explain(prefix: str, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        name = str(item["loc"][0]).upper() if item["loc"] else "settings"
        variable = name if name in _SHARED or name.startswith(prefix) else prefix + name
        # The offending value stays out of the message: it may be a secret.
        lines.append(f"{variable}: {item['msg']}")
    return "; ".join(lines)
