"""How well closed trades went: win rate, profit factor, expectancy. Pure; paise, after charges."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from analytics_service.returns import Days, Floats, Paise


@dataclass(frozen=True)
class ClosedTrades:
    """Orders that closed lots, by day: what each gained after the charges of both sides, and how long that was held."""

    days: Days
    net_paise: Paise
    days_held: Floats

    def between(self, first: date | None, last: date | None) -> "ClosedTrades":
        """Those of [first, last]."""
        keep = np.ones(len(self.days), dtype=bool)
        if first is not None:
            keep &= self.days >= np.datetime64(first)
        if last is not None:
            keep &= self.days <= np.datetime64(last)
        return ClosedTrades(self.days[keep], self.net_paise[keep], self.days_held[keep])


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


def statistics(trades: ClosedTrades) -> TradeStatistics:
    """Wins / closed trades; gross win / gross loss; mean P&L per trade. A trade of exactly 0 is neither win nor loss."""
    nets = trades.net_paise
    wins, losses = nets[nets > 0], -nets[nets < 0]
    won, lost = int(wins.sum()), int(losses.sum())
    return TradeStatistics(
        closed_count=len(nets),
        win_count=len(wins),
        loss_count=len(losses),
        win_rate=len(wins) / len(nets) if len(nets) else None,
        gross_win_paise=won,
        gross_loss_paise=lost,
        profit_factor=won / lost if lost else None,
        expectancy_paise=_mean(won - lost, len(nets)),
        average_win_paise=_mean(won, len(wins)),
        average_loss_paise=_mean(lost, len(losses)),
        best_paise=int(nets.max()) if len(nets) else None,
        worst_paise=int(nets.min()) if len(nets) else None,
        average_days_held=float(trades.days_held.mean()) if len(nets) else None,
    )


def _mean(total: int, count: int) -> int | None:
    if not count:
        return None
    mean = abs(total) // count
    return mean if total >= 0 else -mean
