"""Everything the figures of a user are computed from: portfolios as one, day by day, and what each share gained. Pure."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from analytics_service.returns import Days, Paise, Series, to_date
from analytics_service.sectors import sector_of
from analytics_service.trade_statistics import ClosedTrades


@dataclass(frozen=True)
class ShareResult:
    """One share over all portfolios: what is held of it, and what it gained. Costs are of what is still held."""

    exchange: str
    tradingsymbol: str
    quantity: int
    cost_paise: int
    open_charges_paise: int
    price_paise: int
    value_paise: int
    realised_paise: int
    """Gain of closed lots before charges."""
    realised_charges_paise: int

    @property
    def sector(self) -> str:
        """The sector of the share."""
        return sector_of(self.tradingsymbol)

    @property
    def unrealised_paise(self) -> int:
        """Value less cost of what is held, before charges."""
        return self.value_paise - self.cost_paise

    @property
    def net_paise(self) -> int:
        """All it gained, after all charges."""
        return self.realised_paise - self.realised_charges_paise + self.unrealised_paise - self.open_charges_paise


@dataclass(frozen=True)
class Analysis:
    """A user's portfolios as one, day by day. Amounts in paise."""

    days: Days
    values: Paise
    cash: Paise
    flows: Paise
    series: Series
    benchmark: Series
    shares: tuple[ShareResult, ...]
    closed: ClosedTrades

    @property
    def is_empty(self) -> bool:
        """Nothing has happened yet."""
        return not len(self.days)

    @property
    def last_day(self) -> date | None:
        """The day of the newest value."""
        return to_date(self.days[-1]) if len(self.days) else None

    @property
    def value_paise(self) -> int:
        """What all is worth now."""
        return int(self.values[-1]) if len(self.values) else 0

    @property
    def cash_paise(self) -> int:
        """Of it, cash."""
        return int(self.cash[-1]) if len(self.cash) else 0

    @property
    def put_in_paise(self) -> int:
        """Money put in less money taken out."""
        return int(self.flows.sum())

    def cash_flows(self) -> list[tuple[date, int]]:
        """Flows as an investor sees them (put in is negative), with the value as if taken out on the last day."""
        moved = np.flatnonzero(self.flows)
        flows = [(to_date(self.days[at]), -int(self.flows[at])) for at in moved]
        if self.last_day is not None and self.value_paise:
            flows.append((self.last_day, self.value_paise))
        return flows
