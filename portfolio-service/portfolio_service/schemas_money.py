"""Request and answer bodies of portfolios, funds, holdings, positions, statements and charges."""

from datetime import date, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel as Answer
from pydantic import ConfigDict, Field, StringConstraints

from common.clock import DayInput
from common.money import Rupees, SignedRupees, format_rupees
from common.text import Printable, PrintableLines
from portfolio_service.funds import Movement
from portfolio_service.ledger import INR, Balance
from portfolio_service.models import Portfolio
from portfolio_service.schemas import Body, Exchange, Quantity, Side
from portfolio_service.statement import Statement
from portfolio_service.valuation import HoldingRow, HoldingsTotal, PositionRow

Name = Annotated[str, StringConstraints(min_length=1, max_length=80, strip_whitespace=True), Printable]
Reason = Annotated[str, StringConstraints(min_length=3, max_length=300, strip_whitespace=True), Printable]
Amount = Annotated[Rupees, Field(gt=0)]


class PortfolioIn(Body):
    """A portfolio to open, or its new name."""

    name: Name
    description: Annotated[str, StringConstraints(max_length=500), PrintableLines] | None = None


class FundsOut(Answer):
    """Money of a portfolio. `available` = `cash` - `blocked`; `due` is owed and paid first from what comes in."""

    portfolio_id: UUID
    cash: SignedRupees
    blocked: SignedRupees
    available: SignedRupees
    due: SignedRupees

    @classmethod
    def of(cls, portfolio_id: UUID, cash: Balance, owed_paise: int) -> Self:
        """The public form of the balances."""
        return cls(portfolio_id=portfolio_id, cash=cash.posted, blocked=cash.held, available=cash.free, due=owed_paise)


class PortfolioOut(Answer):
    """A portfolio and its money."""

    portfolio_id: UUID
    name: str
    description: str | None
    is_default: bool
    created_at: datetime
    funds: FundsOut

    @classmethod
    def of(cls, portfolio: Portfolio, cash: Balance, owed_paise: int) -> Self:
        """The public form of a portfolio's row."""
        return cls(
            portfolio_id=portfolio.portfolio_id,
            name=portfolio.name,
            description=portfolio.description,
            is_default=portfolio.is_default,
            created_at=portfolio.created_at,
            funds=FundsOut.of(portfolio.portfolio_id, cash, owed_paise),
        )


class HoldingOut(Answer):
    """A share held; figures that need a price nobody knows are null."""

    exchange: str
    tradingsymbol: str
    quantity: int
    t1_quantity: int
    free_quantity: int
    average_price: SignedRupees
    invested: SignedRupees
    last_price: SignedRupees | None
    value: SignedRupees | None
    pnl: SignedRupees | None
    pnl_percent: str | None
    day_change: SignedRupees | None
    day_change_percent: str | None

    @classmethod
    def of(cls, row: HoldingRow) -> Self:
        """The public form of a holding."""
        return cls(
            exchange=row.exchange,
            tradingsymbol=row.tradingsymbol,
            quantity=row.quantity,
            t1_quantity=row.t1_quantity,
            free_quantity=row.free_quantity,
            average_price=row.average_price_paise,
            invested=row.invested_paise,
            last_price=row.last_price_paise,
            value=row.value_paise,
            pnl=row.pnl_paise,
            pnl_percent=percent(row.pnl_bps),
            day_change=row.day_change_paise,
            day_change_percent=percent(row.day_change_bps),
        )


class HoldingsSum(Answer):
    """Sums over holdings; null where a price is missing."""

    invested: SignedRupees
    value: SignedRupees | None
    pnl: SignedRupees | None
    pnl_percent: str | None
    unpriced: int

    @classmethod
    def of(cls, total: HoldingsTotal) -> Self:
        """The public form of the sums."""
        return cls(
            invested=total.invested_paise,
            value=total.value_paise,
            pnl=total.pnl_paise,
            pnl_percent=percent(total.pnl_bps),
            unpriced=total.unpriced,
        )


class HoldingsOut(Answer):
    """All shares held."""

    items: list[HoldingOut]
    total: HoldingsSum


class PositionOut(Answer):
    """Today's trades in one instrument and product."""

    exchange: str
    tradingsymbol: str
    product: str
    quantity: int
    buy_quantity: int
    buy_value: SignedRupees
    buy_price: SignedRupees | None
    sell_quantity: int
    sell_value: SignedRupees
    sell_price: SignedRupees | None
    average_price: SignedRupees | None
    last_price: SignedRupees | None
    pnl: SignedRupees | None
    realised: SignedRupees
    unrealised: SignedRupees | None

    @classmethod
    def of(cls, row: PositionRow) -> Self:
        """The public form of a position."""
        return cls(
            exchange=row.exchange,
            tradingsymbol=row.tradingsymbol,
            product=row.product,
            quantity=row.quantity,
            buy_quantity=row.buy_quantity,
            buy_value=row.buy_value_paise,
            buy_price=row.buy_price_paise,
            sell_quantity=row.sell_quantity,
            sell_value=row.sell_value_paise,
            sell_price=row.sell_price_paise,
            average_price=row.average_price_paise,
            last_price=row.last_price_paise,
            pnl=row.pnl_paise,
            realised=row.realised_paise,
            unrealised=row.unrealised_paise,
        )


class PositionsOut(Answer):
    """Everything traded today; sums are null where a price is missing."""

    items: list[PositionOut]
    realised: SignedRupees
    pnl: SignedRupees | None


class PortfolioDetail(PortfolioOut):
    """A portfolio with what it holds. `value`: cash and shares at last prices, less dues."""

    holdings: HoldingsOut
    value: SignedRupees | None


class TopupIn(Body):
    """Paper money to add."""

    amount: Amount
    portfolio_id: UUID | None = None


class AdminCashIn(Body):
    """Money an administrator moves into or out of a user's portfolio, and why."""

    user_id: UUID
    portfolio_id: UUID | None = None
    amount: Amount
    reason: Reason


class CashMovedOut(Answer):
    """A movement of money and the balances after it."""

    transfer_id: UUID
    kind: str
    amount: SignedRupees
    funds: FundsOut


class TransactionOut(Answer):
    """One ledger row of a portfolio: money has `amount`, shares have `quantity`; negative went out."""

    transaction_id: UUID
    portfolio_id: UUID
    account: str
    type: str
    asset: str
    amount: SignedRupees | None
    quantity: int | None
    order_id: UUID | None
    instrument: str | None
    reason: str | None
    at: datetime

    @classmethod
    def of(cls, row: Movement) -> Self:
        """The public form of a movement."""
        money = row.asset == INR
        return cls(
            transaction_id=row.transfer_id,
            portfolio_id=row.portfolio_id,
            account=row.account,
            type=row.type,
            asset=row.asset,
            amount=row.amount if money else None,
            quantity=None if money else row.amount,
            order_id=row.order_id,
            instrument=row.instrument,
            reason=row.reason,
            at=row.at,
        )


class TransactionPage(Answer):
    """A page of ledger rows, newest first."""

    items: list[TransactionOut]
    next_cursor: str | None


class StatementEntry(Answer):
    """One line of a statement; negative went out."""

    at: datetime
    type: str
    particulars: str
    reference: str
    amount: SignedRupees
    balance: SignedRupees


class StatementOut(Answer):
    """A statement of cash: opening + credits - debits = closing."""

    portfolio_id: UUID
    first_day: date
    last_day: date
    opening_balance: SignedRupees
    credits: SignedRupees
    debits: SignedRupees
    closing_balance: SignedRupees
    entries: list[StatementEntry]

    @classmethod
    def of(cls, portfolio_id: UUID, first_day: date, last_day: date, statement: Statement) -> Self:
        """The public form of a statement."""
        return cls(
            portfolio_id=portfolio_id,
            first_day=first_day,
            last_day=last_day,
            opening_balance=statement.opening_paise,
            credits=statement.credits_paise,
            debits=statement.debits_paise,
            closing_balance=statement.closing_paise,
            entries=[
                StatementEntry(
                    at=line.entry.booked_at,
                    type=line.entry.kind,
                    particulars=line.entry.particulars,
                    reference=line.entry.reference,
                    amount=line.entry.amount_paise,
                    balance=line.balance_paise,
                )
                for line in statement.lines
            ],
        )


class ChargesIn(Body):
    """A trade whose charges are asked for."""

    exchange: Exchange = "NSE"
    side: Side
    product: Literal["CNC", "MIS"] = "CNC"
    quantity: Annotated[Quantity, Field(gt=0, le=10_000_000)]
    price: Amount
    trade_date: DayInput | None = None


class ChargesOut(Answer):
    """An estimate by the dated schedule; the broker's contract note is the truth."""

    value: SignedRupees
    brokerage: SignedRupees
    stt: SignedRupees
    exchange_fee: SignedRupees
    sebi_fee: SignedRupees
    stamp_duty: SignedRupees
    gst: SignedRupees
    dp_charge: SignedRupees
    total: SignedRupees


class LedgerCheckOut(Answer):
    """Proof of the ledger: `ok` when no rule is broken."""

    ok: bool
    checked_at: datetime
    figures: dict[str, int]
    problems: dict[str, list[dict[str, int | str | None]]]


class AssetTotalOut(Answer):
    """One asset, in paise (`INR`) or units (`NSE:INFY`)."""

    model_config = ConfigDict(from_attributes=True)

    asset: str
    users: int
    house: int
    to_market: int
    from_market: int


class LedgerTotalsOut(Answer):
    """What users and the house have together; for other rooms, therefore in paise."""

    as_of: datetime
    assets: list[AssetTotalOut]


def percent(bps: int | None) -> str | None:
    """`1234` basis points -> `"12.34"`."""
    return None if bps is None else format_rupees(bps)
