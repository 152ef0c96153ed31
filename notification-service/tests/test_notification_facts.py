"""What is said of facts: one cause per fact, Indian notation, silence where nothing is worth saying."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events import BasketUpdated, CashMoved, KycChanged, OrderUpdated, ReportReady, SipDue
from notification_service.facts import (
    Fact,
    UnknownStatus,
    basket_fact,
    cash_fact,
    kyc_fact,
    order_fact,
    report_fact,
    sip_fact,
)
from notification_service.kinds import Kind
from notification_service.masking import without_account_numbers
from notification_service.wording import words_of

Make = Callable[..., OrderUpdated]


def text(fact: Fact) -> str:
    return words_of(fact.kind, fact.data).text


def title(fact: Fact) -> str:
    return words_of(fact.kind, fact.data).title


def test_filled_order_names_average_value_and_charges(order_updated: Make) -> None:
    fact = order_fact(order_updated(quantity=3, filled_quantity=3, amount_paise=1_00_000_00))
    assert fact is not None
    assert fact.kind is Kind.ORDER_FILLED
    assert title(fact) == "Bought 3 RELIANCE"
    assert text(fact) == (
        "Your order to buy 3 RELIANCE (NSE) is filled: average price ₹33,333.33, value ₹1,00,000.00, charges ₹15.20."
    )


def test_partly_filled_sale_names_the_last_fill_and_the_total_so_far(order_updated: Make) -> None:
    event = order_updated(
        side="SELL",
        status="PARTIAL",
        quantity=1_50_000,
        filled_quantity=1_00_000,
        last_fill_quantity=4,
        last_fill_amount_paise=10_00,
    )
    fact = order_fact(event)
    assert fact is not None
    assert fact.kind is Kind.ORDER_PARTLY_FILLED
    assert fact.cause == f"order:{event.order_id}:3"
    assert title(fact) == "Sold 1,00,000 of 1,50,000 RELIANCE"
    assert text(fact) == (
        "Your order to sell 1,50,000 RELIANCE (NSE) is partly filled: 4 sold at an average of ₹2.50, "
        "1,00,000 of 1,50,000 so far."
    )


@pytest.mark.parametrize(
    ("status", "kind", "happened"),
    [
        ("CANCELLED", Kind.ORDER_CANCELLED, "was cancelled"),
        ("REJECTED", Kind.ORDER_REJECTED, "was rejected"),
        ("EXPIRED", Kind.ORDER_EXPIRED, "expired"),
        ("FAILED", Kind.ORDER_FAILED, "could not be carried out"),
    ],
)
def test_end_without_a_fill_says_so_and_gives_the_reason(
    order_updated: Make, status: str, kind: Kind, happened: str
) -> None:
    fact = order_fact(order_updated(status=status, filled_quantity=0, amount_paise=0, reason="Price out of range."))
    assert fact is not None
    assert fact.kind is kind
    assert text(fact) == (
        f"Your order to buy 10 RELIANCE (NSE) {happened}; nothing was traded. Reason: Price out of range."
    )


def test_end_after_a_partial_fill_says_what_was_traded(order_updated: Make) -> None:
    fact = order_fact(order_updated(status="CANCELLED", filled_quantity=4, amount_paise=49_382_60))
    assert fact is not None
    assert text(fact).endswith("was cancelled; 4 of 10 had been bought for ₹49,382.60.")


@pytest.mark.parametrize("status", ["ACCEPTED", "WORKING"])
def test_steps_on_the_way_are_not_told(order_updated: Make, status: str) -> None:
    assert order_fact(order_updated(status=status)) is None


def test_partial_without_news_is_not_told(order_updated: Make) -> None:
    assert order_fact(order_updated(status="PARTIAL", filled_quantity=4, last_fill_quantity=0)) is None
    assert order_fact(order_updated(status="PARTIAL", filled_quantity=10, last_fill_quantity=6)) is None


def test_unknown_status_raises(order_updated: Make) -> None:
    with pytest.raises(UnknownStatus, match="FROZEN"):
        order_fact(order_updated(status="FROZEN"))


def test_end_has_one_cause_whatever_its_version(order_updated: Make) -> None:
    order_id = uuid4()
    causes = {
        fact.cause
        for version in (3, 4)
        if (fact := order_fact(order_updated(order_id=order_id, order_version=version))) is not None
    }
    assert causes == {f"order:{order_id}:end"}


@pytest.mark.parametrize("reason_code", ["replacement_refused", "replacement_dropped"])
def test_change_that_did_not_happen_is_told_beside_the_end(order_updated: Make, reason_code: str) -> None:
    ended = order_updated(status="CANCELLED", filled_quantity=0, amount_paise=0)
    later = ended.model_copy(update={"order_version": 4, "reason_code": reason_code, "reason": "Not enough cash."})
    end, fact = order_fact(ended), order_fact(later)
    assert end is not None
    assert fact is not None
    assert fact.cause != end.cause
    assert fact.kind is Kind.ORDER_NOT_CHANGED
    assert text(fact) == (
        "Your order to buy 10 RELIANCE (NSE) could not be replaced by the changed one. Reason: Not enough cash."
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [("pending", Kind.KYC_PENDING), ("approved", Kind.KYC_APPROVED), ("rejected", Kind.KYC_REJECTED)],
)
def test_kyc_statuses_have_words(status: str, kind: Kind) -> None:
    fact = kyc_fact(KycChanged(user_id=uuid4(), status=status))
    assert fact is not None
    assert fact.kind is kind


def test_rejected_kyc_gives_the_reason_and_the_way_out() -> None:
    fact = kyc_fact(KycChanged(user_id=uuid4(), status="rejected", reason="The name does not match the PAN."))
    assert fact is not None
    assert text(fact) == (
        "Your KYC was not accepted. Reason: The name does not match the PAN. Correct the details and submit them again."
    )


def test_kyc_that_was_never_submitted_is_not_told() -> None:
    assert kyc_fact(KycChanged(user_id=uuid4(), status="none")) is None


def test_second_rejection_is_a_new_fact_and_a_repeat_is_not() -> None:
    user_id = uuid4()
    first, second = datetime(2026, 11, 23, 5, tzinfo=UTC), datetime(2026, 11, 24, 5, tzinfo=UTC)
    causes = [
        fact.cause
        for at in (first, first, second)
        if (fact := kyc_fact(KycChanged(user_id=user_id, status="rejected", occurred_at=at))) is not None
    ]
    assert causes[0] == causes[1] != causes[2]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("TOPUP", "₹1,00,000.00 added"),
        ("DEPOSIT", "₹1,00,000.00 deposited"),
        ("WITHDRAWAL", "₹1,00,000.00 withdrawn"),
    ],
)
def test_cash_fact_names_the_amount(kind: str, said: str) -> None:
    event = CashMoved(user_id=uuid4(), portfolio_id=uuid4(), kind=kind, amount_paise=1_00_000_00, transfer_id=uuid4())
    fact = cash_fact(event)
    assert title(fact) == said
    assert fact.cause == f"cash:{event.transfer_id}"


def basket(**fields: Any) -> BasketUpdated:
    defaults: dict[str, Any] = {
        "basket_order_id": uuid4(), "user_id": uuid4(), "investment_id": uuid4(), "smallcase_id": uuid4(),
        "smallcase_name": "Steady Ten", "kind": "INVEST", "status": "filled", "orders": 10, "orders_filled": 10,
        "bought_paise": 49_873_25, "sold_paise": 0, "charges_paise": 61_40,
    }  # fmt: skip
    return BasketUpdated(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        (
            {},
            Kind.BASKET_DONE,
            "Your investment in Steady Ten is done: all 10 orders are filled. Bought for ₹49,873.25. Charges ₹61.40.",
        ),
        (
            {"status": "needs_repair", "orders_filled": 7, "kind": "REBALANCE", "sold_paise": 1_00_000_00},
            Kind.BASKET_NEEDS_REPAIR,
            (
                "Your rebalance of Steady Ten is not complete: 7 of 10 orders are filled. Bought for ₹49,873.25. Sold for "
                "₹1,00,000.00. Charges ₹61.40. Open the basket to place what is missing again."
            ),
        ),
        (
            {"status": "refused", "orders_filled": 0, "kind": "SIP", "reason": "Not enough cash."},
            Kind.BASKET_REFUSED,
            "Your SIP instalment in Steady Ten was not placed. Reason: Not enough cash.",
        ),
    ],
)
def test_baskets_have_words(fields: dict[str, Any], kind: Kind, said: str) -> None:
    event = basket(**fields)
    fact = basket_fact(event)
    assert (fact.kind, text(fact)) == (kind, said)
    assert fact.cause == f"basket:{event.basket_order_id}:{event.status}"


@pytest.mark.parametrize("kind", get_args(BasketUpdated.model_fields["kind"].annotation))
@pytest.mark.parametrize("status", get_args(BasketUpdated.model_fields["status"].annotation))
def test_no_basket_is_without_words(kind: Any, status: Any) -> None:
    fact = basket_fact(basket(kind=kind, status=status))
    assert "Steady Ten" in title(fact)
    assert text(fact)


def test_an_instalment_is_told_once_a_day() -> None:
    due = SipDue(
        sip_id=uuid4(), user_id=uuid4(), smallcase_id=uuid4(), smallcase_name="Steady Ten", due_on=date(2026, 11, 23),
        amount_paise=5_000_00, mode="CONFIRM",
    )  # fmt: skip
    again = due.model_copy(update={"occurred_at": due.occurred_at + timedelta(hours=3)})
    assert sip_fact(due).cause == sip_fact(again).cause
    assert sip_fact(due).cause != sip_fact(due.model_copy(update={"due_on": date(2026, 12, 23)})).cause
    assert text(sip_fact(due)).endswith("is due on 2026-11-23. Confirm it to place its orders.")


def test_a_report_is_named_with_its_days() -> None:
    event = ReportReady(
        report_id=uuid4(), user_id=uuid4(), kind="monthly", title="October 2026", period_start=date(2026, 10, 1),
        period_end=date(2026, 10, 31),
    )  # fmt: skip
    assert text(report_fact(event)).startswith('Your report "October 2026" for 2026-10-01 to 2026-10-31 is ready.')
    assert report_fact(event).subject == {"report_id": str(event.report_id)}
    day = event.model_copy(update={"kind": "daily", "title": "23 Nov", "period_start": (on := date(2026, 11, 23))})
    assert text(report_fact(day.model_copy(update={"period_end": on}))).startswith(
        'Your report "23 Nov" for 2026-11-23 is ready.'
    )


@given(st.text(max_size=200))
def test_masking_leaves_no_long_number_and_changes_nothing_else(given_text: str) -> None:
    masked = without_account_numbers(given_text)
    assert re.search(r"(?<![\w.,₹])\d{9,}(?!\w)", masked) is None
    if not re.search(r"\d{4}", given_text):
        assert masked == given_text
    assert without_account_numbers(masked) == masked


@pytest.mark.parametrize(
    "harmless", ["₹1,23,456.50", "2026-11-23 09:15", "12345678 shares", "INFY24NOV1500CE", "10:30", "order 220303"]
)
def test_amounts_dates_and_names_are_not_masked(harmless: str) -> None:
    assert without_account_numbers(harmless) == harmless
