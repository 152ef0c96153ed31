"""What a version of a smallcase says of itself beside its name and its weights. Pure."""

from dataclasses import dataclass
from typing import Literal

RiskLevel = Literal["low", "medium", "high"]
Frequency = Literal["none", "monthly", "quarterly", "half_yearly", "yearly"]
Weighting = Literal["custom", "equal", "market_cap", "inverse_volatility", "momentum", "optimised"]

RISK_LEVELS = ("high", "low", "medium")
FREQUENCIES = ("half_yearly", "monthly", "none", "quarterly", "yearly")
WEIGHTINGS = ("custom", "equal", "inverse_volatility", "market_cap", "momentum", "optimised")
CATEGORY_DEFAULT = "other"
REGION_DEFAULT = "India"
BENCHMARK_DEFAULT = "NIFTY 50"


@dataclass(frozen=True)
class Attributes:
    """Attributes of a version. `risk_level` is what the maker says, None: nothing; the measured label stands beside it.

    `weighting` is the scheme the weights come from and `weighting_note` what they were computed from, in words.
    """

    category: str = CATEGORY_DEFAULT
    theme: str = ""
    region: str = REGION_DEFAULT
    risk_level: RiskLevel | None = None
    benchmark: str = BENCHMARK_DEFAULT
    rationale: str = ""
    rebalancing_frequency: Frequency = "none"
    expense_ratio_bps: int = 0
    weighting: Weighting = "custom"
    weighting_note: str = ""
