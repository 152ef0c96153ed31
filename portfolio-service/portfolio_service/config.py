"""Settings of portfolio-service (prefix PORTFOLIO_). Money settings are rupees as whole numbers, stated in the name."""

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings, shared
from portfolio_service.risk import Limits

NAME = "portfolio-service"


class Settings(ServiceSettings):
    """What portfolio-service needs to know."""

    model_config = SettingsConfigDict(env_prefix="PORTFOLIO_")

    port: int = Field(default=8002, ge=1, le=65535)
    trading_mode: Literal["paper", "live"] = shared("TRADING_MODE", "paper")  # type: ignore[assignment]
    initial_paper_cash_rupees: int = Field(default=0, ge=0, le=1_00_00_000)
    topup_max_rupees: int = Field(default=10_00_000, ge=1)
    portfolios_max: int = Field(default=20, ge=1, le=200)
    batch_orders_max: int = Field(default=1_000, ge=1, le=1_000)

    order_quantity_max: int = Field(default=10_000, ge=1)
    order_value_max_rupees: int = Field(default=5_00_000, ge=1)
    daily_value_max_rupees: int = Field(default=1_00_00_000, ge=1)
    price_band_bps: int = Field(default=300, ge=1, le=10_000)
    price_age_max_s: float = Field(default=10.0, gt=0)
    market_protection_bps: int = Field(default=300, ge=0, le=10_000)
    submissions_per_minute: int = Field(default=30, ge=1, le=1_000_000)
    duplicate_window_s: float = Field(default=10.0, ge=0, le=3_600)
    allow_btst: bool = True
    kyc_required: bool = True

    sweep_interval_s: float = Field(default=1.0, gt=0)
    ledger_check_interval_s: float = Field(default=300.0, ge=10)
    """The proof of the ledger replays all of it: the larger the ledger, the rarer it should be."""

    def limits(self) -> Limits:
        """The risk limits in force."""
        return Limits(
            quantity_max=self.order_quantity_max,
            order_value_max_paise=self.order_value_max_rupees * 100,
            daily_value_max_paise=self.daily_value_max_rupees * 100,
            price_band_bps=self.price_band_bps,
            price_age_max_s=self.price_age_max_s,
            market_protection_bps=self.market_protection_bps,
            submissions_per_minute=self.submissions_per_minute,
            duplicate_window_s=self.duplicate_window_s,
            allow_btst=self.allow_btst,
            kyc_required=self.kyc_required,
        )
