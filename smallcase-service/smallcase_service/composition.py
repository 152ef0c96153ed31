"""What a smallcase may be made of, and whether one can be bought now. Pure; weights in basis points.

Up to 50 shares, each once, weights that sum to exactly 100 % (publisherhelp.smallcase.com).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import Unprocessable
from common.market_data import History, Instrument, Key, Price, UnknownInstrument
from common.money import BPS_ONE, indian_rupees
from smallcase_service.liquidity import DAYS, FLOOR_PAISE, average_traded_paise
from smallcase_service.minimum import Leg, Minimum, minimum_investment

CONSTITUENTS_MAX = 50


class WeightsNotWhole(Unprocessable):
    """The weights do not sum to 100 %."""


class DuplicateConstituent(Unprocessable):
    """A share is named more than once."""


@dataclass(frozen=True)
class Constituent:
    """One share of a smallcase and its wanted weight."""

    exchange: str
    tradingsymbol: str
    weight_bps: int
    rationale: str = ""
    """Why the maker took it."""

    @property
    def key(self) -> Key:
        """What market data knows the share by."""
        return self.exchange, self.tradingsymbol


@dataclass(frozen=True)
class Problem:
    """A reason why a smallcase cannot be bought now; `key` is the share it is about."""

    code: str
    message: str
    key: Key | None = None


@dataclass(frozen=True)
class Valuation:
    """A smallcase at the market: problems, and the minimum when there are none."""

    problems: list[Problem]
    minimum: Minimum | None

    @property
    def valid(self) -> bool:
        """Whether it can be bought now."""
        return not self.problems


def check_composition(constituents: Sequence[Constituent]) -> None:
    """Raise DuplicateConstituent or WeightsNotWhole unless every share is named once and the weights sum to 10,000."""
    seen: set[Key] = set()
    for constituent in constituents:
        if constituent.key in seen:
            raise DuplicateConstituent(
                f"{constituent.exchange}:{constituent.tradingsymbol} is named more than once; add its weights together.",
                exchange=constituent.exchange,
                tradingsymbol=constituent.tradingsymbol,
            )
        seen.add(constituent.key)
    total = sum(constituent.weight_bps for constituent in constituents)
    if total != BPS_ONE:
        raise WeightsNotWhole(
            f"The weights sum to {total} basis points; they must sum to exactly {BPS_ONE} (100 %).",
            weight_bps_sum=total,
        )


def check_known(constituents: Sequence[Constituent], instruments: Mapping[Key, Instrument]) -> None:
    """Raise UnknownInstrument, naming every share that market data does not know."""
    unknown = [f"{exchange}:{symbol}" for exchange, symbol in (c.key for c in constituents if c.key not in instruments)]
    if unknown:
        raise UnknownInstrument(
            f"Not tradable: {', '.join(unknown)}; search with GET /api/v1/tokens/search.", instruments=unknown
        )


def value(
    constituents: Sequence[Constituent], instruments: Mapping[Key, Instrument], prices: Mapping[Key, Price]
) -> Valuation:
    """A smallcase at the given prices. A share that is no longer traded or has no price makes it invalid."""
    problems = []
    for constituent in constituents:
        share = f"{constituent.exchange}:{constituent.tradingsymbol}"
        if constituent.key not in instruments:
            problems.append(Problem("unknown_instrument", f"{share} is not traded any more.", constituent.key))
        elif constituent.key not in prices or prices[constituent.key].price_paise <= 0:
            problems.append(Problem("price_missing", f"{share} has no price yet.", constituent.key))
    if problems:
        return Valuation(problems, None)
    legs = [Leg(constituent.weight_bps, prices[constituent.key].price_paise) for constituent in constituents]
    return Valuation([], minimum_investment(legs))


def liquidity_warnings(constituents: Sequence[Constituent], histories: Mapping[Key, History]) -> list[Problem]:
    """What to know before buying: shares of which less than the floor is traded, or of which that is not known."""
    warnings = []
    for constituent in constituents:
        share = f"{constituent.exchange}:{constituent.tradingsymbol}"
        history = histories.get(constituent.key)
        traded = average_traded_paise(history) if history is not None else None
        if traded is None:
            message = f"How much of {share} is traded is not known yet: there are no candles of it."
            warnings.append(Problem("liquidity_unknown", message, constituent.key))
        elif traded < FLOOR_PAISE:
            message = (
                f"Of {share}, {indian_rupees(traded)} a day were traded on average over the last {DAYS} days;"
                f" below {indian_rupees(FLOOR_PAISE)} a basket of many investors may move the price."
            )
            warnings.append(Problem("low_liquidity", message, constituent.key))
    return warnings


def not_valued() -> Valuation:
    """The valuation while market data does not answer."""
    return Valuation([Problem("prices_unavailable", "Prices cannot be read at the moment; try again shortly.")], None)
