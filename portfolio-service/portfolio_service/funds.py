"""Money in and out of a portfolio other than by trades: paper top-ups, deposits and withdrawals by an administrator."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import outbox
from common.errors import Forbidden, Unprocessable
from common.events import CashMoved
from common.logging import get_logger
from common.money import format_rupees
from portfolio_service import ledger, postings
from portfolio_service.config import NAME
from portfolio_service.entries import entry_type
from portfolio_service.ledger import AccountKind, Balance, Transfer
from portfolio_service.models import Account, Portfolio, TransferRow, UserOrder
from portfolio_service.portfolios import lock_trader, not_found

log = get_logger(__name__)

STATEMENT_ENTRIES_MAX = 10_000


class TopupNotAvailable(Forbidden):
    """Paper money exists in paper mode only."""


class TopupLimit(Unprocessable):
    """More than one top-up may bring."""


class InsufficientFunds(Unprocessable):
    """Less is free than is to be taken out."""


class StatementTooLong(Unprocessable):
    """The period has more entries than one statement shows."""


@dataclass(frozen=True)
class Movement:
    """One ledger row seen from one portfolio: positive `amount` came in. Paise for INR, units otherwise."""

    transfer_id: UUID
    seq: int
    portfolio_id: UUID
    account: str
    asset: str
    type: str
    amount: int
    order_id: UUID | None
    instrument: str | None
    reason: str | None
    at: datetime


def move_cash(
    session: Session,
    portfolio: Portfolio,
    kind: Literal["TOPUP", "DEPOSIT", "WITHDRAWAL"],
    amount_paise: int,
    *,
    key: str,
    actor_id: UUID,
    reason: str | None,
    now: datetime,
) -> Transfer:
    """Move money between the outside world and a portfolio; what comes in first pays dues. Raises InsufficientFunds.

    `key` with `actor_id` makes the cause: the same request again is the same transfer.
    """
    cash, due, bank = (
        ledger.cash_account(portfolio.portfolio_id),
        ledger.due_account(portfolio.portfolio_id),
        ledger.bank_account(),
    )
    lock_trader(session, portfolio.user_id)
    # Deleting takes the same lock: whoever waited for it must look again.
    session.refresh(portfolio)
    if portfolio.closed_at is not None:
        raise not_found()
    balances = postings.open_accounts(session, [cash, due, bank])
    taking = kind == "WITHDRAWAL"
    if taking and balances[cash].free < amount_paise:
        raise InsufficientFunds(
            f"₹{format_rupees(amount_paise)} is to be withdrawn; ₹{format_rupees(balances[cash].free)} is available.",
            needed=format_rupees(amount_paise),
            available=format_rupees(balances[cash].free),
        )
    word = {"TOPUP": "topup", "DEPOSIT": "deposit", "WITHDRAWAL": "withdraw"}[kind]
    transfer = Transfer(
        cause=f"{word}:{actor_id}:{key}",
        debit=cash if taking else bank,
        credit=bank if taking else cash,
        amount=amount_paise,
        reason=reason,
        actor_id=actor_id,
    )
    transfers = [transfer]
    if not taking:
        transfers.extend(
            ledger.pay_due(transfer.cause, portfolio.portfolio_id, balances[cash].free + amount_paise, balances[due])
        )
    if transfer in postings.post(session, transfers, now):
        event = CashMoved(
            user_id=portfolio.user_id,
            portfolio_id=portfolio.portfolio_id,
            kind=kind,
            amount_paise=amount_paise,
            transfer_id=transfer.id,
        )
        outbox.record(session, event, source=NAME, aggregate_id=portfolio.portfolio_id)
        log.info(
            "cash.moved",
            kind=kind,
            amount_paise=amount_paise,
            portfolio_id=portfolio.portfolio_id,
            actor_id=actor_id,
            transfer_id=transfer.id,
        )
    return transfer


def cash_of(session: Session, portfolio_id: UUID) -> tuple[Balance, int]:
    """Cash balance of a portfolio, and what it owes in paise."""
    balances = postings.balances_of(session, [portfolio_id])
    owed = -balances.get(ledger.due_account(portfolio_id), Balance()).posted
    return balances.get(ledger.cash_account(portfolio_id), Balance()), owed


def movements(
    session: Session,
    portfolio_ids: Sequence[UUID],
    *,
    kinds: Sequence[AccountKind],
    with_holds: bool = False,
    before_seq: int | None = None,
    first: datetime | None = None,
    last: datetime | None = None,
    limit: int,
    newest_first: bool = True,
) -> list[Movement]:
    """Ledger rows that touched accounts of the portfolios, from `first` (included) to `last` (not included)."""
    accounts = {
        row.id: row
        for row in session.scalars(
            sa.select(Account).where(
                Account.owner.in_([str(portfolio_id) for portfolio_id in portfolio_ids]),
                Account.kind.in_([kind.value for kind in kinds]),
            )
        )
    }
    ids = list(accounts)
    row = TransferRow
    query = (
        sa.select(row, UserOrder.exchange, UserOrder.tradingsymbol)
        .outerjoin(UserOrder, UserOrder.order_id == row.order_id)
        .where(sa.or_(row.debit_account.in_(ids), row.credit_account.in_(ids)))
    )
    if not with_holds:
        query = query.where(row.kind.in_(["posted", "post"]))
    if before_seq is not None:
        query = query.where(row.seq < before_seq)
    if first is not None:
        query = query.where(row.created_at >= first)
    if last is not None:
        query = query.where(row.created_at < last)
    query = query.order_by(row.seq.desc() if newest_first else row.seq).limit(limit)
    found = []
    for transfer, exchange, symbol in session.execute(query):
        # A repayment touches two accounts of the portfolio; each listed account gets its own line.
        for account_id, sign in ((transfer.debit_account, -1), (transfer.credit_account, 1)):
            account = accounts.get(account_id)
            if account is None:
                continue
            found.append(
                Movement(
                    transfer_id=transfer.id,
                    seq=transfer.seq,
                    portfolio_id=UUID(account.owner),
                    account=account.kind,
                    asset=transfer.asset,
                    type=entry_type(transfer.cause, transfer.asset),
                    amount=sign * transfer.amount,
                    order_id=transfer.order_id,
                    instrument=f"{exchange}:{symbol}" if symbol else None,
                    reason=transfer.reason,
                    at=transfer.created_at,
                )
            )
    return found


def cash_before(session: Session, portfolio_id: UUID, instant: datetime) -> int:
    """Paise in the cash account of a portfolio just before an instant: the replay up to there."""
    account = ledger.cash_account(portfolio_id).id
    row = TransferRow
    signed = sa.case((row.credit_account == account, row.amount), else_=-row.amount)
    total = session.execute(
        sa.select(sa.func.coalesce(sa.func.sum(signed), 0)).where(
            sa.or_(row.debit_account == account, row.credit_account == account),
            row.kind.in_(["posted", "post"]),
            row.created_at < instant,
        )
    ).scalar_one()
    return int(total)


def statement_entries(session: Session, portfolio_id: UUID, first: datetime, last: datetime) -> list[Movement]:
    """Cash movements of a period in the ledger's order; raises StatementTooLong."""
    entries = movements(
        session,
        [portfolio_id],
        kinds=[AccountKind.CASH],
        first=first,
        last=last,
        limit=STATEMENT_ENTRIES_MAX + 1,
        newest_first=False,
    )
    if len(entries) > STATEMENT_ENTRIES_MAX:
        raise StatementTooLong(
            f"The period has more than {STATEMENT_ENTRIES_MAX} entries; choose a shorter one.",
            limit=STATEMENT_ENTRIES_MAX,
        )
    return entries
