"""Charges of an equity trade at Zerodha, in force since 1 April 2026 (zerodha.com/charges; NSE FA73061; Finance Act 2026)."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

BROKERAGE_CAP = Decimal(20)
BROKERAGE_RATE = Decimal("0.0003")
STT_DELIVERY = Decimal("0.001")
STT_INTRADAY_SELL = Decimal("0.00025")
EXCHANGE_FEE = {"NSE": Decimal("0.0000307"), "BSE": Decimal("0.0000375")}
SEBI_FEE = Decimal("0.000001")
STAMP_DELIVERY = Decimal("0.00015")
STAMP_INTRADAY = Decimal("0.00003")
GST = Decimal("0.18")
DP_CHARGE_PAISE = 1534
"""13 rupees plus GST per scrip and day on delivery sales."""
INTRADAY_PRODUCTS = frozenset({"MIS", "CO"})
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Charges:
    """Items of one executed order in rupees, unrounded as the virtual contract note shows them."""

    transaction_tax: Decimal = ZERO
    exchange_turnover_charge: Decimal = ZERO
    sebi_turnover_charge: Decimal = ZERO
    brokerage: Decimal = ZERO
    stamp_duty: Decimal = ZERO
    gst: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Sum of all items."""
        return (
            self.transaction_tax
            + self.exchange_turnover_charge
            + self.sebi_turnover_charge
            + self.brokerage
            + self.stamp_duty
            + self.gst
        )

    def __add__(self, other: "Charges") -> "Charges":
        return Charges(
            self.transaction_tax + other.transaction_tax,
            self.exchange_turnover_charge + other.exchange_turnover_charge,
            self.sebi_turnover_charge + other.sebi_turnover_charge,
            self.brokerage + other.brokerage,
            self.stamp_duty + other.stamp_duty,
            self.gst + other.gst,
        )


def order_charges(exchange: str, product: str, side: str, value_paise: int) -> Charges:
    """Charges of one executed order of `value_paise` traded value."""
    value = Decimal(value_paise) / 100
    buy = side == "BUY"
    if product in INTRADAY_PRODUCTS:
        brokerage = min(BROKERAGE_CAP, value * BROKERAGE_RATE)
        tax = ZERO if buy else value * STT_INTRADAY_SELL
        stamp = value * STAMP_INTRADAY if buy else ZERO
    else:
        brokerage = ZERO
        tax = value * STT_DELIVERY
        stamp = value * STAMP_DELIVERY if buy else ZERO
    exchange_fee = value * EXCHANGE_FEE[exchange]
    sebi_fee = value * SEBI_FEE
    return Charges(
        transaction_tax=tax,
        exchange_turnover_charge=exchange_fee,
        sebi_turnover_charge=sebi_fee,
        brokerage=brokerage,
        stamp_duty=stamp,
        gst=(brokerage + exchange_fee + sebi_fee) * GST,
    )


def contract_note_paise(lines: Charges, scrips_delivered_out: int) -> int:
    """What the day's contract note debits: STT to the nearest rupee, the rest to the paisa, plus DP charges."""
    tax = lines.transaction_tax.quantize(Decimal(1), ROUND_HALF_UP)
    rest = (lines.total - lines.transaction_tax).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return int((tax + rest) * 100) + scrips_delivered_out * DP_CHARGE_PAISE
