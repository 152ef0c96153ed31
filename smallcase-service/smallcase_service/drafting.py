"""From a request to a draft with whole weights: schemes that compute need candles, which market-data-service keeps."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from common.errors import Unavailable, Unprocessable
from common.market_data import History, Key, MarketData
from smallcase_service import weighting
from smallcase_service.attributes import Attributes
from smallcase_service.composition import Constituent
from smallcase_service.index_value import common_closes
from smallcase_service.returns import TRADING_DAYS, daily_returns
from smallcase_service.schemas import ShareIn, SmallcaseIn
from smallcase_service.schemas_attributes import WeightingIn
from smallcase_service.service import Draft

HISTORY_DAYS = 1_900
"""What is asked of every share, so that one answer serves all figures: a little over five years."""
MONTH_VALUES = 21
RETRY_AFTER_S = 3


class WeightsMissing(Unprocessable):
    """The scheme `custom` takes a weight of every share."""


class WeightsNotTaken(Unprocessable):
    """The scheme computes the weights; none may be named."""


class MarketValuesMissing(Unprocessable):
    """The scheme `market_cap` takes a market value of every share."""


class TooLittleHistory(Unprocessable):
    """A share has too few stored closes for what was asked."""


class HistoryIncomplete(Unavailable):
    """Candles are still being read from the broker."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(
            f"Candles of {len(keys)} shares are still being read; try again in a moment.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            waiting=[":".join(key) for key in keys[:10]],
        )


def histories_of(market: MarketData, keys: Sequence[Key], today: date) -> dict[Key, History]:
    """Stored candles of shares over the usual window; a share that is not known has an empty, complete history."""
    found = market.histories(keys, today - timedelta(days=HISTORY_DAYS), today - timedelta(days=1))
    return {key: found.get(key, History((), (), (), True)) for key in keys}


def complete_histories(market: MarketData, keys: Sequence[Key], today: date) -> dict[Key, History]:
    """The same; raises HistoryIncomplete while days are still being read."""
    found = histories_of(market, keys, today)
    waiting = [key for key, history in found.items() if not history.is_complete]
    if waiting:
        raise HistoryIncomplete(waiting)
    return found


def draft_of(body: SmallcaseIn, market: MarketData, today: date) -> Draft:
    """The draft of a request with its weights computed; see the exceptions of this module and of `weighting`."""
    weights, note = weights_of(body.constituents, body.weighting, market, today)
    return Draft(
        name=body.name,
        description=body.description,
        visibility=body.visibility,
        constituents=[
            Constituent(given.exchange, given.tradingsymbol, weight, given.rationale)
            for given, weight in zip(body.constituents, weights, strict=True)
        ],
        attributes=Attributes(**body.attributes.model_dump(), weighting=body.weighting.scheme, weighting_note=note),
    )


def weights_of(
    constituents: Sequence[ShareIn], wanted: WeightingIn, market: MarketData, today: date
) -> tuple[list[int], str]:
    """Weights in basis points, and in words what they come from."""
    if wanted.scheme == "custom":
        given = [one.weight_bps for one in constituents if one.weight_bps is not None]
        if len(given) < len(constituents):
            raise WeightsMissing("Name weight_bps of every share, or a scheme in weighting.scheme that computes them.")
        return given, "named by the maker"
    if any(one.weight_bps is not None for one in constituents):
        raise WeightsNotTaken(f"The scheme {wanted.scheme} computes the weights: leave weight_bps out.")
    if wanted.scheme == "equal":
        return weighting.equal(len(constituents)), "the same for every share"
    if wanted.scheme == "market_cap":
        values = [one.market_value for one in constituents if one.market_value]
        if len(values) < len(constituents):
            raise MarketValuesMissing(
                "Name market_value, in rupees above 0, of every share: the platform has no source of market values."
            )
        note = f"free-float market values named by the maker, at most {wanted.cap_bps} basis points each"
        return weighting.market_cap(values, wanted.cap_bps), note
    keys = [(one.exchange, one.tradingsymbol) for one in constituents]
    return scheme_weights(wanted.scheme, keys, complete_histories(market, list(dict.fromkeys(keys)), today))


def scheme_weights(scheme: str, keys: Sequence[Key], histories: dict[Key, History]) -> tuple[list[int], str]:
    """Weights of `inverse_volatility` or `momentum` from the closes of the last year; raises TooLittleHistory."""
    closes = common_closes({key: histories[key] for key in keys})
    prices = {key: closes.of[key][-(TRADING_DAYS + 1) :] for key in keys}
    short = [key for key, values in prices.items() if len(values) <= TRADING_DAYS or not np.all(values > 0)]
    if short:
        raise TooLittleHistory(
            f"{', '.join(':'.join(key) for key in short[:5])}: fewer than {TRADING_DAYS + 1} daily closes are known;"
            " leave these shares out or take another scheme.",
            instruments=[":".join(key) for key in short],
        )
    window = f"{TRADING_DAYS} daily returns, {closes.days[-TRADING_DAYS - 1]} to {closes.days[-1]}"
    if scheme == "inverse_volatility":
        deviations = [float(np.std(daily_returns(prices[key]), ddof=1)) for key in keys]
        still = [key for key, deviation in zip(keys, deviations, strict=True) if not deviation > 0]
        if still:
            raise TooLittleHistory(f"{':'.join(still[0])} has not moved for a year: it has no volatility.")
        return weighting.inverse_volatility(deviations), f"1 / volatility of {window}"
    scores = [float(prices[key][-1 - MONTH_VALUES] / prices[key][0] - 1) for key in keys]
    return weighting.by_rank(scores), f"rank of the return without the last {MONTH_VALUES} days of {window}"
