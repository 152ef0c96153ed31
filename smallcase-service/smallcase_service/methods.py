"""Methods that suggest weights from past prices, in plain words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from smallcase_service.attributes import RiskLevel

MethodName = Literal["minimum_variance", "hierarchical_risk_parity", "maximum_sharpe"]

TRAIN_VALUES = 252
TEST_VALUES = 63
"""Walk-forward: weights from one year, held over the next quarter, then again."""
VALUES_MIN = TRAIN_VALUES + TEST_VALUES
VALUES_MAX = 756
"""Three years: older prices tell of another company."""


@dataclass(frozen=True)
class Method:
    """A method, what it does, and what can go wrong with it."""

    name: MethodName
    title: str
    description: str
    danger: str


METHODS: Mapping[MethodName, Method] = {
    method.name: method
    for method in (
        Method(
            "minimum_variance",
            "Minimum variance",
            "The weights whose past daily returns moved least, with a covariance shrunk by Ledoit-Wolf. Past returns are"
            " not looked at.",
            "It leans on few calm shares; shares that were calm can become wild.",
        ),
        Method(
            "hierarchical_risk_parity",
            "Hierarchical risk parity",
            "Shares that moved alike are grouped, and every group bears a similar part of the risk. Past returns are not"
            " looked at.",
            "It spreads risk as it was in the past; in a crash most shares fall together.",
        ),
        Method(
            "maximum_sharpe",
            "Maximum Sharpe ratio",
            "The weights with the highest past return above the risk-free rate per unit of volatility.",
            "It trusts past returns, which hardly ever repeat: of the three methods the one that disappoints most.",
        ),
    )
}
METHOD_OF_RISK: Mapping[RiskLevel, MethodName] = {
    "low": "minimum_variance",
    "medium": "hierarchical_risk_parity",
    "high": "maximum_sharpe",
}
