"""What was really traded: a broker's candles with splits and bonus issues taken out again.

Pure. A broker restates all candles before an ex-date as if today's shares had always been there: prices times old/new,
volumes times new/old. Undone, a price is as exact as the broker's paisa allows: one paisa of its price is worth the
ratio in paise of the traded one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from math import prod
from typing import Generic, Literal, TypeVar

from common.clock import trading_date
from market_data_service.source import DayCandle, IntradayCandle

ActionKind = Literal["SPLIT", "BONUS"]
Candle = TypeVar("Candle", DayCandle, IntradayCandle)


@dataclass(frozen=True, slots=True)
class Action:
    """From `ex_date` (IST) on there are `new_shares` for every `old_shares`: both positive."""

    ex_date: date
    kind: ActionKind
    new_shares: int
    old_shares: int

    @property
    def ratio(self) -> Fraction:
        """New shares per old share: bonus 1:1 is 2, a split from 10 to 2 rupees is 5."""
        return Fraction(self.new_shares, self.old_shares)


@dataclass(frozen=True, slots=True)
class AsTraded(Generic[Candle]):
    """Candles as they were traded, and the actions taken out of at least one of them, in the order given."""

    candles: tuple[Candle, ...]
    undone: tuple[Action, ...]


def as_traded(candles: Sequence[Candle], read_on: Sequence[date], actions: Sequence[Action]) -> AsTraded[Candle]:
    """Undo the actions in each candle that a broker gave on the day (IST) of the same place in `read_on`.

    Raises ValueError when the two are not of one length.
    """
    changed: list[Candle] = []
    undone: set[Action] = set()
    for candle, given in zip(candles, read_on, strict=True):
        # Most questions are for adjusted candles, and the minutes of two months are many.
        held = held_in(actions, _day(candle), given) if actions else []
        undone.update(held)
        changed.append(_undo(candle, prod((action.ratio for action in held), start=Fraction(1))) if held else candle)
    return AsTraded(tuple(changed), tuple(action for action in actions if action in undone))


def held_in(actions: Sequence[Action], on: date, read_on: date) -> list[Action]:
    """The actions that a broker had worked into the candle of day `on` when it gave it on `read_on`.

    The ex-date itself is traded in new shares; of a later one than `read_on` the broker could not know.
    """
    return [action for action in actions if on < action.ex_date <= read_on]


def _day(candle: DayCandle | IntradayCandle) -> date:
    return candle.on if isinstance(candle, DayCandle) else trading_date(candle.at)


def _undo(candle: Candle, ratio: Fraction) -> Candle:
    new, old = ratio.numerator, ratio.denominator
    return replace(
        candle,
        open_paise=_divided(candle.open_paise * new, old),
        high_paise=_divided(candle.high_paise * new, old),
        low_paise=_divided(candle.low_paise * new, old),
        close_paise=_divided(candle.close_paise * new, old),
        volume=_divided(candle.volume * old, new),
    )


def _divided(dividend: int, divisor: int) -> int:
    """Rounded half to even."""
    whole, rest = divmod(dividend, divisor)
    return whole + (2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1))
