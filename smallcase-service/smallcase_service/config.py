"""Settings of smallcase-service; environment variables carry the prefix SMALLCASE_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings
from common.money import BPS_ONE
from smallcase_service.plan import Allowance

NAME = "smallcase-service"


class Settings(ServiceSettings):
    """What this room needs besides the shared names."""

    model_config = SettingsConfigDict(env_prefix="SMALLCASE_")

    port: int = Field(default=8003, ge=1, le=65535)
    charges_allowance_bps: int = Field(default=15, ge=0, le=1_000)
    """Part of an invested amount that is kept aside for charges, in basis points of it."""
    charges_allowance_rupees_per_order: int = Field(default=1, ge=0, le=100)
    """And for each order of the basket: taxes are rounded to the rupee order by order."""

    risk_free_bps: int = Field(default=550, ge=0, le=3_000)
    """Yearly return without risk for Sharpe ratios and alpha: the cut-off of the 91-day treasury bill, in basis points."""

    def risk_free_rate(self) -> float:
        """As a fraction."""
        return self.risk_free_bps / BPS_ONE

    def allowance(self) -> Allowance:
        """What plans keep aside for charges."""
        return Allowance(self.charges_allowance_bps, self.charges_allowance_rupees_per_order * 100)
