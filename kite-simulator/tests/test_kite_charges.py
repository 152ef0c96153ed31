"""Charges against the worked examples of the market rules, section 5."""

from decimal import Decimal

import pytest

from kite_simulator.charges import Charges, contract_note_paise, order_charges

EXAMPLES = [
    ("delivery both ways", "CNC", [("BUY", 100_000_00), ("SELL", 110_000_00)], 1, 248_20),
    ("intraday", "MIS", [("BUY", 100_000_00), ("SELL", 101_000_00)], 0, 82_72),
    ("delivery buy", "CNC", [("BUY", 14_000_00)], 0, 16_62),
    ("delivery sell", "CNC", [("SELL", 15_000_00)], 1, 30_90),
]


@pytest.mark.parametrize(
    ("product", "orders", "scrips", "total"), [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES]
)
def test_worked_example(product, orders, scrips, total):
    lines = Charges()
    for side, value_paise in orders:
        lines += order_charges("NSE", product, side, value_paise)
    assert contract_note_paise(lines, scrips) == pytest.approx(total, abs=1)


def test_brokerage_is_capped_at_twenty_rupees():
    assert order_charges("NSE", "MIS", "BUY", 1_000_000_00).brokerage == Decimal(20)
    assert order_charges("NSE", "MIS", "BUY", 10_000_00).brokerage == Decimal(3)
