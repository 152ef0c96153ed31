"""Settings of user-service; environment variables carry the prefix USER_."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings


class Settings(ServiceSettings):
    """What this room needs besides the shared names."""

    model_config = SettingsConfigDict(env_prefix="USER_")

    port: int = Field(default=8001, ge=1, le=65535)
    signing_key_file: Path | None = None
    """PEM of the RSA private key that signs access tokens; this room is its only holder."""
    retired_key_file: Path | None = None
    """PEM (public or private) of the key signed with before: still published, so that its tokens live out their time."""
    secret_file: Path | None = None
    """32 random bytes as hex: keys the PAN hash, derives mail tokens; seals TOTP secrets unless the next setting is there."""
    seal_secret_files: dict[int, Path] = Field(default_factory=dict)
    """Files as above by version, to seal TOTP secrets with; those of old versions only open (docs/security.md)."""
    seal_current: int = Field(default=1, ge=1, le=255)
    """Version that seals."""
    access_token_minutes: int = Field(default=15, ge=1, le=60)
    refresh_token_days: int = Field(default=7, ge=1, le=30)
    hashing_workers: int = Field(default=2, ge=1, le=8)
    hashing_waiting_max: int = Field(default=16, ge=0, le=20)
    """Together with the workers below throttle.ADDRESS.free."""
    expose_reset_token: bool = False
    """Development only: mail tokens appear in the answer, because nobody sends the mail there."""
    proxy_hops: int = Field(default=1, ge=0, le=4)
    """How many proxies of ours append to X-Forwarded-For; 0: believe only the connection."""

    @field_validator("expose_reset_token")
    @classmethod
    def _only_in_development(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("environment") != "development":
            raise ValueError("a reset token in an answer gives every account away; allowed in development only")
        return value

    @property
    def admin_needs_totp(self) -> bool:
        """Roles above a plain user must use a second factor (everywhere but in development)."""
        return self.environment != "development"
