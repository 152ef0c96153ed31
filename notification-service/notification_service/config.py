"""Settings of notification-service; environment variables carry the prefix NOTIFICATION_. Seconds end in `_seconds`."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from common.config import InvalidSettings, ServiceSettings
from common.sealing import Sealer
from notification_service.providers.chat import ChatNotAllowed, parse_chat
from notification_service.retrying import Pauses

NAME = "notification-service"
STEPS_MAX = 10
"""How many waits one call to a provider may have."""

PUSH_HOSTS = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    ".push.apple.com",
    ".notify.windows.com",
)
"""The push services of the browsers there are; a name with a dot in front stands for all names below it."""


def _base_url(value: str) -> str:
    if not value.startswith(("http://", "https://")) or value.endswith("/"):
        raise ValueError("an address looks like https://saras.example.com, without a slash at its end")
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]


class Settings(ServiceSettings):
    """What this room needs besides the shared names."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATION_")

    port: int = Field(default=8005, ge=1, le=65535)
    celery_broker_url: str = "memory://"
    celery_queue: str = Field(default="notification_service", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Where wake-ups wait; its dead letters are in `<queue>.dead`."""
    public_url: BaseUrl = "http://127.0.0.1:8000"
    """The gateway as the outside sees it: providers call back there."""
    web_url: BaseUrl = "http://127.0.0.1:8000"
    """Where the web page is: links in mails lead there."""

    # --- deliveries -----------------------------------------------------------------------------------------------
    loop_seconds: float = Field(default=1.0, gt=0, le=60)
    provider_timeout_seconds: float = Field(default=5.0, gt=0, le=30)
    """How long one step of a call to a provider may take."""
    lease_seconds: float = Field(default=60.0, gt=0, le=600)
    """After this a delivery whose worker says nothing is looked at by others; longer than any call can take."""
    tries_max: int = Field(default=8, ge=1, le=50)
    retry_first_seconds: float = Field(default=5.0, gt=0)
    retry_max_seconds: float = Field(default=900.0, gt=0)
    circuit_failures: int = Field(default=5, ge=1, le=100)
    """After so many failures in a row a provider is left alone for a while."""
    circuit_first_seconds: float = Field(default=5.0, gt=0)
    circuit_max_seconds: float = Field(default=60.0, gt=0)

    # --- e-mail ---------------------------------------------------------------------------------------------------
    mail_from: str = Field(default="no-reply@saras.example", pattern=r"^[^@\s]{1,64}@[A-Za-z0-9.-]{1,255}$")
    mail_directory: Path | None = None
    """Development only: mails become files here, and nothing leaves the machine."""
    smtp_host: str | None = None
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr = SecretStr("")

    # --- SMS (Twilio) ---------------------------------------------------------------------------------------------
    twilio_account_sid: str | None = None
    twilio_auth_token: SecretStr = SecretStr("")
    twilio_from: str = ""
    """Number or messaging service that SMS come from."""
    twilio_url: BaseUrl = "https://api.twilio.com"

    # --- push -----------------------------------------------------------------------------------------------------
    fcm_credentials_file: Path | None = None
    """JSON of a Firebase service account."""
    fcm_url: BaseUrl = "https://fcm.googleapis.com"
    vapid_private_key: SecretStr = SecretStr("")
    """Of the pair that browsers subscribe with: base64url of 32 bytes, or PEM."""
    vapid_public_key: str = ""
    """What browsers subscribe with: base64url of the uncompressed point."""
    vapid_subject: str = "mailto:operator@saras.example"
    web_push_hosts: tuple[str, ...] = PUSH_HOSTS

    # --- chats ----------------------------------------------------------------------------------------------------
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that users' webhooks may go to; none without it."""
    operators_chat: SecretStr = SecretStr("")
    """Apprise address of the chat that every alarm goes to (slack://..., tgram://...)."""

    # --- people ---------------------------------------------------------------------------------------------------
    seal_keys: dict[int, SecretStr] = Field(default_factory=dict)
    """Master keys (base64 of 32 bytes) by version, for the addresses of contact points."""
    seal_key_current: int = 1
    contact_points_max: int = Field(default=10, ge=1, le=100)
    alerts_max: int = Field(default=50, ge=1, le=1000)
    price_poll_seconds: float = Field(default=5.0, gt=0, le=300)
    price_age_max_seconds: float = Field(default=30.0, gt=0)

    @field_validator("mail_directory")
    @classmethod
    def _only_in_development(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("environment") != "development":
            raise ValueError("mails in a directory hold links that open accounts; allowed in development only")
        return value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if chat := self.operators_chat.get_secret_value():
            try:
                parse_chat(chat, webhook_hosts=self.webhook_hosts, plain_http=self.in_development)
            except ChatNotAllowed as error:
                raise ValueError(f"operators_chat: {error}") from None
        # A mail to a server with TLS and a login takes ten steps.
        if self.lease_seconds < STEPS_MAX * self.provider_timeout_seconds:
            raise ValueError(f"lease_seconds must be at least {STEPS_MAX} times provider_timeout_seconds")
        return self

    @property
    def in_development(self) -> bool:
        """Whether this is nobody's real platform."""
        return self.environment == "development"

    @property
    def retries(self) -> Pauses:
        """Pauses between the attempts of one delivery."""
        return Pauses(self.retry_first_seconds, self.retry_max_seconds)

    @property
    def circuits(self) -> Pauses:
        """How long a failing provider is left alone."""
        return Pauses(self.circuit_first_seconds, self.circuit_max_seconds)

    def fcm_credentials(self) -> dict[str, object] | None:
        """The service account; raises InvalidSettings when its file cannot be read."""
        if self.fcm_credentials_file is None:
            return None
        try:
            found = json.loads(self.fcm_credentials_file.read_text())
        except (OSError, ValueError) as error:
            raise InvalidSettings(f"NOTIFICATION_FCM_CREDENTIALS_FILE: {type(error).__name__}") from None
        return dict(found)


def sealer_from(settings: Settings) -> Sealer | None:
    """The sealer of a process, None without keys: contact points can then be neither added nor used.

    Raises InvalidSettings for keys that are none.
    """
    keys = {version: key.get_secret_value() for version, key in settings.seal_keys.items()}
    if not keys:
        return None
    try:
        return Sealer.from_base64(keys, settings.seal_key_current)
    except ValueError as error:
        raise InvalidSettings(f"NOTIFICATION_SEAL_KEYS: {error}") from None
