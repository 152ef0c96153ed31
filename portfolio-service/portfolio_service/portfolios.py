"""Portfolios of users: the default one exists from first use, others by wish; only an empty one can be deleted."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4, uuid5

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.errors import Conflict, NotFound
from common.events import CashMoved
from portfolio_service.config import NAME
from portfolio_service.ledger import NAMESPACE, Transfer, bank_account, cash_account, due_account
from portfolio_service.models import Account, Portfolio, Trader, UserOrder
from portfolio_service.orders import LIVE_STATES
from portfolio_service.postings import ensure_accounts, open_accounts, post

DEFAULT_NAME = "Default"
IDS_CACHED_MAX = 65_536


class PortfolioNotFound(NotFound):
    """No such portfolio of this user."""


class PortfolioNameTaken(Conflict):
    """The user has an open portfolio with this name."""


class PortfolioLimit(Conflict):
    """The user has as many portfolios as allowed."""


class PortfolioNotEmpty(Conflict):
    """Money, shares, dues or live orders are left in it."""


class DefaultPortfolio(Conflict):
    """The default portfolio stays."""


@lru_cache(maxsize=IDS_CACHED_MAX)
def default_portfolio_id(user_id: UUID) -> UUID:
    """Derived, so the default portfolio can be named without a look-up."""
    return uuid5(NAMESPACE, f"portfolio:default:{user_id}")


def make_default(session: Session, user_id: UUID, now: datetime) -> None:
    """Make the user's trader row, default portfolio and cash account unless they exist."""
    portfolio_id = default_portfolio_id(user_id)
    session.execute(insert(Trader).values(user_id=user_id, gross_paise=0, created_at=now).on_conflict_do_nothing())
    session.execute(
        insert(Portfolio)
        .values(
            portfolio_id=portfolio_id,
            user_id=user_id,
            name=DEFAULT_NAME,
            is_default=True,
            cash_opened=False,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )
    ensure_accounts(session, [cash_account(portfolio_id), due_account(portfolio_id)])


def lock_trader(session: Session, user_id: UUID) -> None:
    """`lock_traders` of one."""
    lock_traders(session, [user_id])


def lock_traders(session: Session, user_ids: Iterable[UUID]) -> None:
    """Make everything that changes one user's balances wait for each other.

    Taken before any account of the users, in the order of their ids. A consumer holds accounts of several users in one
    transaction; with this rule whoever waits for a user holds nothing of that user, so nobody waits in a circle.
    """
    wanted = sorted(set(user_ids))
    if not wanted:
        return
    session.execute(
        sa.select(Trader.user_id)
        .where(Trader.user_id.in_(wanted))
        .order_by(Trader.user_id)
        .with_for_update(key_share=True)
    )


def open_paper_cash(
    session: Session, portfolio: Portfolio | sa.Row[*tuple[Any, ...]], paise: int, now: datetime
) -> None:
    """Give a new default portfolio (the object, or a row that names it) its initial paper cash, once."""
    if paise <= 0 or portfolio.cash_opened or not portfolio.is_default:
        return
    cash = cash_account(portfolio.portfolio_id)
    transfer = Transfer(cause=f"initial:{portfolio.portfolio_id}", debit=bank_account(), credit=cash, amount=paise)
    lock_trader(session, portfolio.user_id)
    open_accounts(session, [transfer.debit, transfer.credit])
    session.execute(
        sa.update(Portfolio).where(Portfolio.portfolio_id == portfolio.portfolio_id).values(cash_opened=True)
    )
    if post(session, [transfer], now):
        event = CashMoved(
            user_id=portfolio.user_id,
            portfolio_id=portfolio.portfolio_id,
            kind="TOPUP",
            amount_paise=paise,
            transfer_id=transfer.id,
        )
        outbox.record(session, event, source=NAME, aggregate_id=portfolio.portfolio_id)


def portfolios_of(session: Session, user_id: UUID, now: datetime, *, paper_cash_paise: int = 0) -> Sequence[Portfolio]:
    """The user's open portfolios, the default one first; makes the default one on first use."""
    query = (
        sa.select(Portfolio)
        .where(Portfolio.user_id == user_id, Portfolio.closed_at.is_(None))
        .order_by(Portfolio.is_default.desc(), Portfolio.created_at, Portfolio.portfolio_id)
    )
    found = session.scalars(query).all()
    if not found:
        make_default(session, user_id, now)
        found = session.scalars(query).all()
    open_paper_cash(session, found[0], paper_cash_paise, now)
    return found


def portfolio_of(
    session: Session, user_id: UUID, portfolio_id: UUID | None, now: datetime, *, paper_cash_paise: int = 0
) -> Portfolio:
    """One open portfolio of the user (None: the default one); raises PortfolioNotFound, also for somebody else's."""
    wanted = portfolio_id or default_portfolio_id(user_id)
    for portfolio in portfolios_of(session, user_id, now, paper_cash_paise=paper_cash_paise):
        if portfolio.portfolio_id == wanted:
            return portfolio
    raise not_found()


def not_found() -> PortfolioNotFound:
    """The same answer for an absent and for a foreign portfolio."""
    return PortfolioNotFound("There is no such portfolio among yours.")


def create(session: Session, user_id: UUID, name: str, description: str | None, now: datetime, most: int) -> Portfolio:
    """Open another portfolio; raises PortfolioNameTaken, PortfolioLimit."""
    portfolios_of(session, user_id, now)
    # The trader row serializes two creations, so neither the limit nor the name can be passed by both.
    lock_trader(session, user_id)
    existing = portfolios_of(session, user_id, now)
    if len(existing) >= most:
        raise PortfolioLimit(f"You have {most} portfolios, which is the most there can be.", limit=most)
    _check_name(existing, name)
    portfolio = Portfolio(
        portfolio_id=uuid4(),
        user_id=user_id,
        name=name,
        description=description,
        is_default=False,
        cash_opened=False,
        created_at=now,
    )
    session.add(portfolio)
    session.flush()
    ensure_accounts(session, [cash_account(portfolio.portfolio_id), due_account(portfolio.portfolio_id)])
    return portfolio


def rename(
    session: Session, user_id: UUID, portfolio_id: UUID, name: str, description: str | None, now: datetime
) -> Portfolio:
    """Change name and description; raises PortfolioNotFound, PortfolioNameTaken."""
    portfolio_of(session, user_id, portfolio_id, now)
    lock_trader(session, user_id)
    existing = portfolios_of(session, user_id, now)
    portfolio = portfolio_of(session, user_id, portfolio_id, now)
    _check_name([other for other in existing if other.portfolio_id != portfolio_id], name)
    portfolio.name, portfolio.description = name, description
    session.flush()
    return portfolio


def close(session: Session, user_id: UUID, portfolio_id: UUID, now: datetime) -> None:
    """Delete an empty portfolio; raises PortfolioNotFound, DefaultPortfolio, PortfolioNotEmpty."""
    portfolio = portfolio_of(session, user_id, portfolio_id, now)
    if portfolio.is_default:
        raise DefaultPortfolio("The default portfolio can not be deleted.")
    # Orders are judged under this lock, so none can slip in while the portfolio is looked at.
    lock_trader(session, user_id)
    accounts = session.execute(
        sa.select(sa.func.count()).where(
            Account.owner == str(portfolio_id), sa.or_(Account.posted != 0, Account.held != 0)
        )
    ).scalar_one()
    live = session.execute(
        sa.select(sa.func.count()).where(UserOrder.portfolio_id == portfolio_id, UserOrder.state.in_(LIVE_STATES))
    ).scalar_one()
    if accounts or live:
        raise PortfolioNotEmpty(
            "Sell the shares, withdraw or move the money and cancel live orders first.", live_orders=live
        )
    portfolio.closed_at = now
    session.flush()


def _check_name(others: Sequence[Portfolio], name: str) -> None:
    if any(other.name.casefold() == name.casefold() for other in others):
        raise PortfolioNameTaken(f"You already have a portfolio named {name!r}.", name=name)
