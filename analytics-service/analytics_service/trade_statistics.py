"""How well closed trades went: win rate, profit factor, expectancy. Pure; paise, after charges."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from uuid import UUID


@dataclass(frozen=True)
class ClosedTrade:
    """What one closing order gained after the charges of both sides, and how long what it closed was held."""

    order_id: UUID
    closed_on: date
    net_paise: int
    days_held: float


@dataclass(frozen=True)
class TradeStatistics:
    """Figures over closed trades. A ratio without anything to divide by is None."""

    closed_count: int
    win_count: int
    loss_count: int
    win_rate: float | None
    gross_win_paise: int
    gross_loss_paise: int
    """Positive."""
    profit_factor: float | None
    expectancy_paise: int | None
    """The mean of a closed trade, to the paisa towards zero."""
    average_win_paise: int | None
    average_loss_paise: int | None
    best_paise: int | None
    worst_paise: int | None
    average_days_held: float | None


def statistics(trades: Iterable[ClosedTrade]) -> TradeStatistics:
    """Wins / closed trades; gross win / gross loss; mean P&L per trade. A trade of exactly 0 is neither win nor loss."""
    closed = list(trades)
    wins = [trade.net_paise for trade in closed if trade.net_paise > 0]
    losses = [-trade.net_paise for trade in closed if trade.net_paise < 0]
    won, lost = sum(wins), sum(losses)
    nets = [trade.net_paise for trade in closed]
    return TradeStatistics(
        closed_count=len(closed),
        win_count=len(wins),
        loss_count=len(losses),
        win_rate=len(wins) / len(closed) if closed else None,
        gross_win_paise=won,
        gross_loss_paise=lost,
        profit_factor=won / lost if lost else None,
        expectancy_paise=_mean(nets),
        average_win_paise=_mean(wins),
        average_loss_paise=_mean(losses),
        best_paise=max(nets, default=None),
        worst_paise=min(nets, default=None),
        average_days_held=sum(trade.days_held for trade in closed) / len(closed) if closed else None,
    )


def _mean(amounts: list[int]) -> int | None:
    if not amounts:
        return None
    total = sum(amounts)
    mean = abs(total) // len(amounts)
    return mean if total >= 0 else -mean
