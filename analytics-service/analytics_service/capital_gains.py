"""Capital gains of a tax year from closed lots, with the rates in force on the day of each sale. Pure; paise.

Rules: listed shares, STT paid, a resident individual. Short term (12 months or less): 20 % since 23 Jul 2024, 15 % before
(s. 111A of the 1961 Act, s. 196 of the Income-tax Act 2025). Long term: 12.5 % since 23 Jul 2024, 10 % before, on gains
above 1,25,000 a tax year (1,00,000 before 2024-25; s. 112A, s. 198). Intraday trades are speculative business income and
taxed by slab: their gain is shown, their tax is not. Order of lots: FIFO (CBDT circular 768, 24 Jun 1998).

Charges are not deducted: the facts carry them as one sum, in which STT, the larger part, is not deductible. The gains are
therefore the upper bound, and charges stand beside them. Grandfathering (bought until 31 Jan 2018) needs the highest price
of that day; such lots are counted at cost and marked.
"""

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

Term = Literal["SHORT", "LONG", "INTRADAY"]
BPS_ONE = 10_000
CESS_BPS = 400
RATES_CHANGED_ON = date(2024, 7, 23)
GRANDFATHERED_UNTIL = date(2018, 1, 31)
EXEMPT_SINCE_2024_PAISE = 1_25_000_00
EXEMPT_BEFORE_PAISE = 1_00_000_00
NOTIONAL = (
    "Notional: in a pooled account the tax law sees one owner, the account holder. FIFO of the tax return runs over the"
    " whole account, and gains land on the account holder's PAN. This is a calculation for one user, not a tax document."
)
_TAX_YEAR = re.compile(r"(20\d\d)-(\d\d)\Z")


class InvalidTaxYear(ValueError):
    """Not a tax year such as 2025-26."""


@dataclass(frozen=True)
class TaxYear:
    """1 April to 31 March."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first.year}-{self.last.year % 100:02d}"

    @property
    def exempt_paise(self) -> int:
        """Long-term gains of the year that are free of tax."""
        return EXEMPT_SINCE_2024_PAISE if self.first.year >= 2024 else EXEMPT_BEFORE_PAISE


@dataclass(frozen=True)
class SoldLot:
    """A part of a lot that was sold."""

    exchange: str
    tradingsymbol: str
    product: str
    acquired_on: date
    disposed_on: date
    quantity: int
    cost_paise: int
    proceeds_paise: int
    charges_paise: int

    @property
    def gain_paise(self) -> int:
        """Proceeds minus cost, before charges."""
        return self.proceeds_paise - self.cost_paise

    @property
    def term(self) -> Term:
        """How the law calls it."""
        return "INTRADAY" if self.product == "MIS" else holding_term(self.acquired_on, self.disposed_on)

    @property
    def may_be_grandfathered(self) -> bool:
        """Bought before long-term gains were taxed: the cost may be higher than what was paid."""
        return self.acquired_on <= GRANDFATHERED_UNTIL


@dataclass(frozen=True)
class TaxLine:
    """Gains of one kind at one rate, after losses and exemption, and their tax to the paisa (before surcharge, cess)."""

    term: Term
    rate_bps: int
    gain_paise: int
    taxable_paise: int
    tax_paise: int


@dataclass(frozen=True)
class CapitalGains:
    """A tax year: what was sold, the sums by term, and the tax they lead to. Losses left over are positive."""

    year: TaxYear
    lots: tuple[SoldLot, ...]
    short_paise: int
    long_paise: int
    intraday_paise: int
    charges_paise: int
    exempt_used_paise: int
    lines: tuple[TaxLine, ...]
    tax_paise: int
    cess_paise: int
    short_loss_left_paise: int
    long_loss_left_paise: int


def tax_year(text: str) -> TaxYear:
    """`"2025-26"` -> 1 April 2025 to 31 March 2026; raises InvalidTaxYear."""
    match = _TAX_YEAR.match(text)
    if match is None or (int(match[1]) + 1) % 100 != int(match[2]):
        raise InvalidTaxYear("A tax year is written like 2025-26: it runs from 1 April to 31 March.")
    first = int(match[1])
    return TaxYear(date(first, 4, 1), date(first + 1, 3, 31))


def tax_year_of(on: date) -> TaxYear:
    """The tax year that a day belongs to."""
    first = on.year if on.month >= 4 else on.year - 1
    return TaxYear(date(first, 4, 1), date(first + 1, 3, 31))


def holding_term(acquired_on: date, sold_on: date) -> Term:
    """SHORT for 12 months or less, LONG for more: sold on the anniversary is still SHORT, the day after is LONG."""
    year = acquired_on.year + 1
    last_day = calendar.monthrange(year, acquired_on.month)[1]
    anniversary = date(year, acquired_on.month, min(acquired_on.day, last_day))
    return "LONG" if sold_on > anniversary else "SHORT"


def rate_bps(term: Term, sold_on: date) -> int:
    """The rate of a gain by the day of the sale, in basis points; 0 for intraday (taxed by slab)."""
    if term == "INTRADAY":
        return 0
    now = sold_on >= RATES_CHANGED_ON
    if term == "SHORT":
        return 2_000 if now else 1_500
    return 1_250 if now else 1_000


def capital_gains(lots: Sequence[SoldLot], year: TaxYear) -> CapitalGains:
    """The gains of a tax year. Losses and the exemption go to the highest rate first: short-term losses against short-
    then long-term gains, long-term losses against long-term gains only."""
    sold = tuple(
        sorted(
            (lot for lot in lots if year.first <= lot.disposed_on <= year.last),
            key=lambda lot: (lot.disposed_on, lot.tradingsymbol, lot.exchange, lot.acquired_on),
        )
    )
    gains: dict[tuple[Term, int], int] = {}
    losses: dict[Term, int] = {"SHORT": 0, "LONG": 0, "INTRADAY": 0}
    sums: dict[Term, int] = {"SHORT": 0, "LONG": 0, "INTRADAY": 0}
    for lot in sold:
        sums[lot.term] += lot.gain_paise
        if lot.gain_paise < 0:
            losses[lot.term] -= lot.gain_paise
        else:
            key = (lot.term, rate_bps(lot.term, lot.disposed_on))
            gains[key] = gains.get(key, 0) + lot.gain_paise
    taxable = {key: gain for key, gain in gains.items() if key[0] != "INTRADAY"}
    long_left = _set_off(taxable, "LONG", losses["LONG"])
    short_left = _set_off(taxable, "LONG", _set_off(taxable, "SHORT", losses["SHORT"]))
    exempt_used = year.exempt_paise - _set_off(taxable, "LONG", year.exempt_paise)
    lines = tuple(
        TaxLine(term, rate, gains[term, rate], taxable[term, rate], taxable[term, rate] * rate // BPS_ONE)
        for term, rate in sorted(taxable, key=lambda key: (key[0] != "SHORT", -key[1]))
    )
    tax = sum(line.tax_paise for line in lines)
    return CapitalGains(
        year=year,
        lots=sold,
        short_paise=sums["SHORT"],
        long_paise=sums["LONG"],
        intraday_paise=sums["INTRADAY"],
        charges_paise=sum(lot.charges_paise for lot in sold),
        exempt_used_paise=exempt_used,
        lines=lines,
        tax_paise=tax,
        cess_paise=tax * CESS_BPS // BPS_ONE,
        short_loss_left_paise=short_left,
        long_loss_left_paise=long_left,
    )


def _set_off(taxable: dict[tuple[Term, int], int], term: Term, amount: int) -> int:
    """Take an amount off the gains of a term, highest rate first; answers what is left of it."""
    for key in sorted((key for key in taxable if key[0] == term), key=lambda key: -key[1]):
        used = min(amount, taxable[key])
        taxable[key] -= used
        amount -= used
    return amount
