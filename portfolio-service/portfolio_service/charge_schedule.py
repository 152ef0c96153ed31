"""The dated charge schedule: which rates of brokerage, tax and fees are in force for a trade on a day.

Rates are data (`data/charges.toml`), never constants in code: each row carries the days it is valid and its source.
Exactly one row may answer a question; none raises ChargeRowMissing, two can not exist (checked when the schedule is read).
"""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, get_args

Charge = Literal["brokerage", "stt", "exchange_fee", "investor_protection", "sebi_fee", "stamp", "gst", "dp"]

CHARGES: tuple[Charge, ...] = get_args(Charge)
ANY = "*"
SELECTORS = ("segment", "exchange", "product", "side")
RATES_CACHE_SIZE = 4096
"""Bound of the answers remembered: segments x exchanges x products x sides x the dates in use."""

_ROW_KEYS = {"charge", *SELECTORS, "percent", "flat_paise", "cap_paise", "valid_from", "valid_to", "source"}


class ChargeScheduleInvalid(ValueError):
    """The schedule file breaks its own rules (unknown key, negative rate, two rows for one trade and day)."""


class ChargeRowMissing(LookupError):
    """The schedule has no row for this charge, trade and day; a missing row is never read as zero."""


@dataclass(frozen=True, slots=True)
class Levy:
    """How one charge is computed: `flat_paise + rate * value`, at most `cap_paise`."""

    rate: Decimal = Decimal(0)
    flat_paise: int = 0
    cap_paise: int | None = None

    def on(self, base_paise: Decimal | int) -> Decimal:
        """The unrounded charge in paise on a value of `base_paise`; never falls when the value rises."""
        amount = self.flat_paise + self.rate * base_paise
        return amount if self.cap_paise is None else min(amount, Decimal(self.cap_paise))


@dataclass(frozen=True, slots=True)
class ChargeRow:
    """One levy for a combination of segment, exchange, product and side (`*`: every one), from day to day inclusive."""

    charge: Charge
    segment: str
    exchange: str
    product: str
    side: str
    levy: Levy
    valid_from: date
    valid_to: date | None
    source: str

    def applies(self, selector: Mapping[str, str], on: date) -> bool:
        """Whether this row answers for the trade of `selector` on that day."""
        return self.in_force(on) and all(getattr(self, key) in (ANY, selector[key]) for key in SELECTORS)

    def in_force(self, on: date) -> bool:
        """Whether the day lies between valid_from and valid_to, both included."""
        return self.valid_from <= on and (self.valid_to is None or on <= self.valid_to)

    def collides(self, other: "ChargeRow") -> bool:
        """Whether some trade on some day would be answered by both rows."""
        if self.charge != other.charge:
            return False
        for key in SELECTORS:
            mine, theirs = getattr(self, key), getattr(other, key)
            if ANY not in (mine, theirs) and mine != theirs:
                return False
        later = max(self.valid_from, other.valid_from)
        return self.in_force(later) and other.in_force(later)


Rates = Mapping[Charge, Levy]
"""Every charge of one kind of trade on one day."""


class ChargeSchedule:
    """All rows, checked once: sources present, rates not negative, at most one row per charge, trade and day."""

    def __init__(self, rows: Sequence[ChargeRow]) -> None:
        """Raises ChargeScheduleInvalid when two rows could answer for the same trade."""
        for one, other in itertools.combinations(rows, 2):
            if one.collides(other):
                raise ChargeScheduleInvalid(f"two {one.charge} rows answer for the same trade: {one} and {other}")
        self.rows = tuple(rows)

    @classmethod
    def from_toml(cls, text: str) -> "ChargeSchedule":
        """Read the format described at the head of `data/charges.toml`; raises ChargeScheduleInvalid."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ChargeScheduleInvalid(f"not a TOML document: {error}") from error
        return cls([_row(table) for table in document.get("row", [])])

    def rates(self, *, segment: str, exchange: str, product: str, side: str, trade_date: date) -> Rates:
        """All levies of a trade on a day; raises ChargeRowMissing naming the first charge without a row."""
        selector = {"segment": segment, "exchange": exchange, "product": product, "side": side}
        return MappingProxyType({charge: self._row_for(charge, selector, trade_date).levy for charge in CHARGES})

    def _row_for(self, charge: Charge, selector: Mapping[str, str], on: date) -> ChargeRow:
        for row in self.rows:
            if row.charge == charge and row.applies(selector, on):
                return row
        trade = " ".join(selector[key] for key in SELECTORS)
        raise ChargeRowMissing(f"the charge schedule has no {charge} row for {trade} on {on.isoformat()}")


def _row(table: Mapping[str, Any]) -> ChargeRow:
    unknown = table.keys() - _ROW_KEYS
    if unknown:
        raise ChargeScheduleInvalid(f"unknown keys {sorted(unknown)} in row {dict(table)}")
    if table.get("charge") not in CHARGES:
        raise ChargeScheduleInvalid(f"unknown charge in row {dict(table)}")
    valid_from, valid_to = table.get("valid_from"), table.get("valid_to")
    if type(valid_from) is not date or not (valid_to is None or (type(valid_to) is date and valid_to >= valid_from)):
        raise ChargeScheduleInvalid(f"valid_from and valid_to must be dates in order in row {dict(table)}")
    if not table.get("source"):
        raise ChargeScheduleInvalid(f"a row needs its source: {dict(table)}")
    return ChargeRow(
        charge=table["charge"],
        segment=table.get("segment", ANY),
        exchange=table.get("exchange", ANY),
        product=table.get("product", ANY),
        side=table.get("side", ANY),
        levy=_levy(table),
        valid_from=valid_from,
        valid_to=valid_to,
        source=table["source"],
    )


def _levy(table: Mapping[str, Any]) -> Levy:
    if ("percent" in table) == ("flat_paise" in table):
        raise ChargeScheduleInvalid(f"a row has either percent or flat_paise: {dict(table)}")
    percent, flat_paise, cap_paise = table.get("percent", "0"), table.get("flat_paise", 0), table.get("cap_paise")
    if not isinstance(percent, str) or type(flat_paise) is not int or type(cap_paise) not in (int, type(None)):
        raise ChargeScheduleInvalid(f"percent is text, amounts are whole paise: {dict(table)}")
    try:
        rate = Decimal(percent) / 100
    except InvalidOperation:
        raise ChargeScheduleInvalid(f"percent is not a number: {dict(table)}") from None
    if not rate.is_finite() or rate < 0 or flat_paise < 0 or (cap_paise or 0) < 0:
        raise ChargeScheduleInvalid(f"a charge is never negative: {dict(table)}")
    return Levy(rate=rate, flat_paise=flat_paise, cap_paise=cap_paise)


@lru_cache(maxsize=1)
def schedule_in_force() -> ChargeSchedule:
    """The schedule shipped with the service, read on first use."""
    text = resources.files("portfolio_service").joinpath("data/charges.toml").read_text(encoding="utf-8")
    return ChargeSchedule.from_toml(text)


@lru_cache(maxsize=RATES_CACHE_SIZE)
def rates_in_force(*, segment: str, exchange: str, product: str, side: str, trade_date: date) -> Rates:
    """`ChargeSchedule.rates` of the shipped schedule, remembered; raises ChargeRowMissing."""
    return schedule_in_force().rates(
        segment=segment, exchange=exchange, product=product, side=side, trade_date=trade_date
    )
