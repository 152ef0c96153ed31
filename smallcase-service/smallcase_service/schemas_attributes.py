"""Attributes and weighting schemes in requests and answers."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from common.money import BPS_ONE
from common.text import PrintableLines
from smallcase_service.attributes import (
    BENCHMARK_DEFAULT,
    CATEGORY_DEFAULT,
    REGION_DEFAULT,
    Frequency,
    RiskLevel,
    Weighting,
)
from smallcase_service.models import SmallcaseVersion
from smallcase_service.weighting import CAP_DEFAULT_BPS

RATIONALE_LENGTH_MAX = 2_000
SHARE_RATIONALE_LENGTH_MAX = 300

Slug = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9_]+$", examples=["banking"])]
Label = Annotated[str, StringConstraints(strip_whitespace=True, max_length=60), PrintableLines]
Rationale = Annotated[str, StringConstraints(strip_whitespace=True, max_length=RATIONALE_LENGTH_MAX), PrintableLines]
ShareRationale = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=SHARE_RATIONALE_LENGTH_MAX), PrintableLines
]
IndexName = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Z0-9][A-Z0-9 &\-]*$")]


class AttributesIn(BaseModel):
    """What the maker says of the smallcase. `risk_level` is a statement; the measured label is shown beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: Slug = CATEGORY_DEFAULT
    theme: Label = ""
    region: Annotated[Label, Field(min_length=1)] = REGION_DEFAULT
    risk_level: RiskLevel | None = None
    benchmark: IndexName = BENCHMARK_DEFAULT
    rationale: Rationale = ""
    rebalancing_frequency: Frequency = "none"
    expense_ratio_bps: Annotated[int, Field(strict=True, ge=0, le=1_000)] = 0


class WeightingIn(BaseModel):
    """How the weights are made. `custom` takes `weight_bps` of every share; `market_cap` takes `market_value` of every
    share and the largest weight; the others compute from stored candles of the last year."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheme: Literal["custom", "equal", "market_cap", "inverse_volatility", "momentum"] = "custom"
    cap_bps: Annotated[int, Field(strict=True, ge=1, le=BPS_ONE)] = CAP_DEFAULT_BPS


class AttributesOut(BaseModel):
    """Attributes of a version, and where its weights come from."""

    category: str
    theme: str
    region: str
    risk_level: RiskLevel | None
    benchmark: str
    rationale: str
    rebalancing_frequency: Frequency
    expense_ratio_bps: int
    weighting: Weighting
    weighting_note: str

    @classmethod
    def of(cls, content: SmallcaseVersion) -> Self:
        """From the stored version."""
        return cls.model_validate({name: getattr(content, name) for name in cls.model_fields})
