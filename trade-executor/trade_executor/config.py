"""Settings of the executor (prefix EXECUTOR_). Seconds end in `_seconds`, amounts in `_paise`."""

from decimal import Decimal
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings, shared
from trade_executor.brokers.wire import Endpoint

SERVICE = "trade-executor"


class Settings(ServiceSettings):
    """What one executor process needs to know."""

    model_config = SettingsConfigDict(env_prefix="EXECUTOR_")

    port: int = Field(default=8004, ge=1, le=65535)
    account: str = Field(default="pool", pattern=r"^[a-z0-9_.-]{1,64}$")
    celery_broker_url: str = "memory://"
    celery_queue: str = Field(default="trade_executor", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Where wake-ups wait; its dead letters are in `<queue>.dead`."""

    # --- the broker -----------------------------------------------------------------------------------------------
    kite_root: str = "http://127.0.0.1:9010"
    """Address of the Kite Connect API; the default is the simulator's (paper trading)."""
    kite_api_key: str = "saras"
    kite_api_secret: SecretStr = SecretStr("")
    simulator_hosts: tuple[str, ...] = ()
    """Host names besides this machine that are simulators (a container's name)."""
    auto_login: bool = False
    """Development only: obtain the daily request token from the simulator instead of from a person."""
    allow_live_trading: bool = shared("ALLOW_LIVE_TRADING", False)  # type: ignore[assignment]
    seal_keys: dict[int, SecretStr] = Field(default_factory=dict)
    """Master keys (base64 of 32 bytes) by version, for broker secrets at rest."""
    seal_key_current: int = 1
    tag_key: SecretStr = SecretStr("")
    """Secret behind the last characters of every order tag; at least 16 characters."""
    tag_env: str = Field(default="d1", pattern=r"^[a-z0-9]{2}$")

    # --- limits of the account (the broker's: 10 a second, 400 a minute, 5,000 a day) -------------------------------
    sends_per_second: int = Field(default=10, ge=1, le=100)
    send_window_ms: int = Field(default=1_050, ge=1_000, le=10_000)
    """A second with a margin for the way to the broker."""
    sends_per_minute: int = Field(default=400, ge=2)
    sends_per_day: int = Field(default=4_500, ge=1)
    places_per_day: int = Field(default=3_750, ge=1)
    """What is left of `sends_per_day` above this belongs to cancels."""
    value_per_day_paise: int = Field(default=100_000_000_00, ge=1)
    senders: int = Field(default=4, ge=1, le=32)
    """Place calls that may be under way at once."""

    # --- blocks ---------------------------------------------------------------------------------------------------
    batch_wait_ms: int = Field(default=0, ge=0, le=60_000)
    """How long the oldest order of a block waits for company even when a token is free."""
    children_per_block: int = Field(default=500, ge=1, le=5_000)
    block_quantity_max: int = Field(default=100_000, ge=1)
    block_value_max_paise: int = Field(default=2_500_000_00, ge=1)
    market_protection_percent: Decimal = Field(default=Decimal(2), gt=0, le=100)
    close_by_seconds: float = Field(default=60.0, gt=0)
    """After this a MARKET block's rest, which stands at its band price, is cancelled and priced anew."""
    opposite_wait_seconds: float = Field(default=5.0, gt=0)
    """How long demand waits for a resting opposite block before that block has to give way."""

    close_lead_seconds: float = Field(default=0.0, ge=0, le=3_600)
    """How long before a session's end blocks are taken off the market. Needed where the broker's book is purged right
    at the end (a simulator that never closes); an exchange's own end of day needs none."""

    # --- certainty ------------------------------------------------------------------------------------------------
    send_deadline_seconds: float = Field(default=2.0, gt=0)
    sending_max_seconds: float = Field(default=15.0, gt=0)
    unknown_min_seconds: float = Field(default=180.0, ge=0)
    unknown_min_scans: int = Field(default=20, ge=1)
    attempts_per_block: int = Field(default=10, ge=1, le=100)
    retry_first_seconds: float = Field(default=0.25, gt=0)
    retry_max_seconds: float = Field(default=30.0, gt=0)
    cancel_repeat_seconds: float = Field(default=5.0, gt=0)
    cancel_sends_max: int = Field(default=60, ge=1)
    break_after_seconds: float = Field(default=60.0, gt=0)
    """How long the books may disagree before a person is told."""
    blind_after_seconds: float = Field(default=30.0, gt=0)
    read_pause_seconds: float = Field(default=0.25, ge=0, le=5)
    """Between two reads of the book (two requests each); the broker allows ten reads a second for everything."""
    loop_seconds: float = Field(default=1.0, gt=0)
    idle_read_seconds: float = Field(default=30.0, gt=0)
    """How often the book is read while nothing of ours is open: ghosts and strangers show up there."""

    # --- reconciliation -------------------------------------------------------------------------------------------
    recon_quick_seconds: float = Field(default=3.0, gt=0)
    """How often our own books are compared with each other while anything is under way."""
    recon_full_seconds: float = Field(default=300.0, gt=0)
    """How often they are compared with the broker's positions, holdings and cash and with the ledger."""
    recon_retry_seconds: float = Field(default=30.0, gt=0)
    """How soon a full run that could not read everything is made again."""
    recon_quiet_seconds: float = Field(default=10.0, ge=0)
    """An instrument that has been still for this long has nothing on its way: a difference then is a break at once,
    elsewhere it must stay the same for EXECUTOR_BREAK_AFTER_SECONDS."""
    cash_tolerance_paise: int = Field(default=1_00, ge=0)
    """How far the day's cash movement at the broker may be from the ledger's."""
    day_end_wait_seconds: float = Field(default=900.0, ge=0)
    """How long after the close the report of the day waits for orders that are still undecided."""

    @property
    def is_paper(self) -> bool:
        """Whether the broker is the simulator: on this machine or a declared host."""
        return Endpoint.checked(self.kite_root, self.simulator_hosts).is_simulator_allowed

    @model_validator(mode="after")
    def _auto_login_only_in_development(self) -> Self:
        if self.auto_login and not (self.environment == "development" and self.is_paper):
            raise ValueError("auto_login works only in development and with a simulator")
        return self
