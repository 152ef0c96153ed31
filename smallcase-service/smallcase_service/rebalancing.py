"""What a strategy would make of the weights of a smallcase, share by share. Pure; weights in basis points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from common.errors import Unprocessable
from common.market_data import Key
from common.money import BPS_ONE, split_by_largest_remainder
from smallcase_service.composition import Constituent

HOLD_BELOW_BPS = 25
"""Smaller differences are left alone: they cost more than they mend."""


class OtherShares(Unprocessable):
    """The weights to apply are not those of the smallcase's shares."""


@dataclass(frozen=True)
class Change:
    """One share before and after."""

    key: Key
    version_weight: int
    current_weight: int
    suggested_weight: int

    @property
    def difference(self) -> int:
        """Suggested less current weight."""
        return self.suggested_weight - self.current_weight

    @property
    def action(self) -> Literal["increase", "decrease", "hold"]:
        """What to do about it."""
        if abs(self.difference) < HOLD_BELOW_BPS:
            return "hold"
        return "increase" if self.difference > 0 else "decrease"


def current_weights(constituents: Sequence[Constituent], drifted: Mapping[Key, float]) -> list[int]:
    """Weights now: drifted with prices where the index knows them, else those of the version."""
    if set(drifted) != {one.key for one in constituents}:
        return [one.weight_bps for one in constituents]
    return split_by_largest_remainder(BPS_ONE, [max(0, round(drifted[one.key] * 10**12)) for one in constituents])


def changes(constituents: Sequence[Constituent], current: Sequence[int], suggested: Sequence[int]) -> list[Change]:
    """Every share with its weights."""
    return [
        Change(one.key, one.weight_bps, now, wanted)
        for one, now, wanted in zip(constituents, current, suggested, strict=True)
    ]


def reason_of(change: Change, title: str) -> str:
    """Why, in words."""
    if change.action == "hold":
        return f"{title}: within {HOLD_BELOW_BPS} basis points of the suggested weight."
    drift = change.current_weight - change.version_weight
    moved = f", after it has moved by {drift:+d} basis points with the prices" if drift else ""
    return f"{title}: from {change.current_weight} to {change.suggested_weight} basis points{moved}."


def reweighted(constituents: Sequence[Constituent], wanted: Mapping[Key, int]) -> list[Constituent]:
    """The same shares with other weights; raises OtherShares."""
    if set(wanted) != {one.key for one in constituents}:
        raise OtherShares(
            "Name every share of the smallcase once and no other; to exchange shares, change the smallcase."
        )
    return [Constituent(one.exchange, one.tradingsymbol, wanted[one.key], one.rationale) for one in constituents]
