"""The catalogue: smallcases with the figures a list shows, orders and filters by; categories and regions.

Figures depend on live prices and candles, so they are computed for each answer: of one page, or, where a figure decides
what is on the page, of the newest matches up to a named number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID

import numpy as np

from common.errors import Unavailable
from common.market_data import Key, MarketData
from smallcase_service import composition
from smallcase_service.drafting import histories_of
from smallcase_service.index_value import Closes, Composition, common_closes, index_series
from smallcase_service.returns import PERIODS, period_returns
from smallcase_service.service import CursorInvalid, Snapshot
from smallcase_service.tracking import weights_of

CANDIDATES_MAX = 300

Sort = Literal["newest", "name", "minimum_investment", "return_1y"]


@dataclass(frozen=True)
class Card:
    """A smallcase with its figures: the minimum in paise, and returns by period (backtest of today's composition)."""

    snapshot: Snapshot
    minimum_paise: int | None
    returns: dict[str, float | None]

    @property
    def return_1y(self) -> float | None:
        """The last year's return."""
        return self.returns["1y"]


@dataclass(frozen=True)
class Deck:
    """Cards, and whether candles of some share still arrive."""

    cards: Sequence[Card]
    is_collecting: bool


def deck_of(market: MarketData, today: date, snapshots: Sequence[Snapshot]) -> Deck:
    """Figures of smallcases; those that can not be known now are None."""
    keys = list(dict.fromkeys(one.key for snapshot in snapshots for one in snapshot.constituents))
    if not keys:
        return Deck([], False)
    try:
        instruments, prices = market.instruments(keys), market.prices(keys)
        histories = histories_of(market, keys, today)
    except Unavailable:
        return Deck([Card(snapshot, None, dict.fromkeys(PERIODS)) for snapshot in snapshots], True)
    is_collecting = any(not history.is_complete for history in histories.values())
    closes = common_closes(histories)
    cards = []
    for snapshot in snapshots:
        minimum = composition.value(snapshot.constituents, instruments, prices).minimum
        cards.append(Card(snapshot, minimum.amount_paise if minimum else None, _returns(closes, snapshot)))
    return Deck(cards, is_collecting)


def _returns(closes: Closes, snapshot: Snapshot) -> dict[str, float | None]:
    weights = weights_of(snapshot.constituents)
    whole = (
        np.flatnonzero(np.all(np.vstack([np.isfinite(closes.of[key]) for key in weights]), axis=0))
        if closes.days
        else np.array([])
    )
    if not len(whole):
        return dict.fromkeys(PERIODS)
    of_these: dict[Key, np.ndarray] = {key: closes.of[key] for key in weights}
    held = Closes(closes.days, of_these)
    series = index_series(held, [Composition(closes.days[int(whole[0])], weights)])
    return {
        name: period.value if period else None for name, period in period_returns(series.days, series.values).items()
    }


def page_of(
    cards: Sequence[Card], sort: Sort, *, maximum_paise: int | None, cursor: UUID | None, limit: int
) -> tuple[list[Card], UUID | None]:
    """A page of cards in the wanted order; raises CursorInvalid. Cards without the figure come last."""
    chosen = [card for card in cards if maximum_paise is None or _within(card, maximum_paise)]
    keys: dict[Sort, Callable[[Card], tuple[bool, float | str]]] = {
        "newest": lambda card: (False, -card.snapshot.smallcase.created_at.timestamp()),
        "name": lambda card: (False, card.snapshot.content.name.casefold()),
        "minimum_investment": lambda card: (card.minimum_paise is None, card.minimum_paise or 0),
        "return_1y": lambda card: (card.return_1y is None, -(card.return_1y or 0.0)),
    }
    chosen.sort(key=lambda card: (*keys[sort](card), str(card.snapshot.smallcase.smallcase_id)))
    start = 0
    if cursor is not None:
        ids = [card.snapshot.smallcase.smallcase_id for card in chosen]
        if cursor not in ids:
            raise CursorInvalid(
                "The cursor is unknown or its smallcase does not fit any more; start again without one."
            )
        start = ids.index(cursor) + 1
    page = chosen[start : start + limit]
    more = start + limit < len(chosen)
    return page, page[-1].snapshot.smallcase.smallcase_id if more else None


def _within(card: Card, maximum_paise: int) -> bool:
    return card.minimum_paise is not None and card.minimum_paise <= maximum_paise


def mean_returns(cards: Sequence[Card]) -> tuple[dict[str, float | None], dict[str, int]]:
    """The mean of each period's returns over the cards that have it, and how many have it."""
    found = {name: [value for card in cards if (value := card.returns[name]) is not None] for name in PERIODS}
    means = {name: float(np.mean(values)) if values else None for name, values in found.items()}
    return means, {name: len(values) for name, values in found.items()}
