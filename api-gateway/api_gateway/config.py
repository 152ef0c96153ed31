"""Settings of the gateway, read from GATEWAY_* and the names all rooms share."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings

BODY_LIMIT_BYTES = 256 * 1024
UPLOAD_LIMIT_BYTES = 6 * 1024 * 1024
PER_MINUTE_MAX = 1_000_000


def _origin(value: str) -> str:
    """An origin is scheme and authority alone; a wildcard would let any page speak for a signed-in user."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or value != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("an origin looks like https://app.example.com, without path and without wildcard")
    return value


def _limits_url(value: str) -> str:
    if value != "memory://" and not value.startswith(("redis://", "rediss://")):
        raise ValueError("use memory://, redis://... or rediss://...")
    return value


PerMinute = Annotated[int, Field(ge=1, le=PER_MINUTE_MAX)]


class Settings(ServiceSettings):
    """What the gateway can be told; every limit has a default that suits one public door."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    """Web origins that may call the API from a browser, as a JSON list."""
    trusted_proxy_hops: int = Field(default=0, ge=0, le=8)
    """How many proxies of ours stand in front; that many entries at the end of X-Forwarded-For are believed."""
    body_limit_bytes: int = Field(default=BODY_LIMIT_BYTES, ge=1024, le=64 * 1024 * 1024)
    upload_limit_bytes: int = Field(default=UPLOAD_LIMIT_BYTES, ge=1024, le=64 * 1024 * 1024)
    """Of routes that take a file."""

    limits_url: Annotated[str, AfterValidator(_limits_url)] = "memory://"
    """Where counts of requests are kept: this process, or a Redis that several gateways share."""
    general_per_minute: PerMinute = 600
    orders_per_minute: PerMinute = 300
    auth_per_minute: PerMinute = 30
    anonymous_per_minute: PerMinute = 300
    postback_per_minute: PerMinute = 3000

    session_check_s: float = Field(default=15.0, ge=0.0, le=300.0)
    """A revoked session is refused at most this many seconds later."""
    upstream_connect_timeout_s: float = Field(default=1.0, gt=0, le=30)
    upstream_timeout_s: float = Field(default=15.0, gt=0, le=300)
    upstream_connections: int = Field(default=100, ge=1, le=10_000)
    """Connections kept to one room at most; further requests wait within the connect timeout."""
