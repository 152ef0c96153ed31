"""The desk at which submissions are judged: locked balances and limits, what earlier orders left, the rows they become.

Reading happens in the constructor (trader rows, then accounts, each in one order of ids), judging changes only what the
desk knows, writing is one statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, cast
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import outbox
from common.bulk import all_at_once, given, insertion, updating
from common.clock import trading_date
from common.errors import Unavailable
from common.events import OrderAccepted
from common.logging import get_logger
from portfolio_service import charges, postings, risk
from portfolio_service.charge_schedule import ChargeRowMissing
from portfolio_service.config import NAME
from portfolio_service.fills import sweep_delay_s
from portfolio_service.ledger import (
    AccountKey,
    Balance,
    Transfer,
    asset_of,
    cash_account,
    effects,
    hold_cash,
    hold_shares,
    shares_account,
)
from portfolio_service.market_view import unsettled_since
from portfolio_service.models import Portfolio, TaxLot, Trader, UserOrder
from portfolio_service.orders import OrderRequest, OrderState
from portfolio_service.portfolios import default_portfolio_id, make_default, open_paper_cash
from portfolio_service.risk import Limits, RateBucket, Refusal, Terms
from portfolio_service.submissions import (
    NOT_ATTEMPTED,
    PORTFOLIO_NOT_FOUND,
    Accepted,
    Outcome,
    Refused,
    Submission,
    accepted_event,
    all_refused,
)

log = get_logger(__name__)


@dataclass(slots=True)
class _Counters:
    """Limits per user as the trader row has them, moved on by every accepted submission."""

    gross_on: date | None
    gross_paise: int
    bucket: RateBucket | None

    @classmethod
    def of(cls, row: Any) -> "_Counters":
        """As a row of `_TRADERS` says."""
        bucket = None if row.rate_level is None else RateBucket(row.rate_level, row.rate_at)
        return cls(row.gross_on, row.gross_paise, bucket)

    def row(self, user_id: UUID) -> dict[str, Any]:
        """As the row has to become."""
        level, at = (self.bucket.level, self.bucket.at) if self.bucket else (None, None)
        return {
            "user_id": user_id,
            "gross_on": self.gross_on,
            "gross_paise": self.gross_paise,
            "rate_level": level,
            "rate_at": at,
        }


class Desk:
    """Everything known under lock while a list of submissions is judged, and the rows they lead to."""

    def __init__(
        self,
        session: Session,
        submissions: Sequence[Submission],
        now: datetime,
        limits: Limits,
        paper_cash_paise: int,
    ) -> None:
        self._session, self._now, self._limits = session, now, limits
        self._rows: list[dict[str, Any]] = []
        self._events: list[tuple[OrderAccepted, object, str | None]] = []
        self._holds: list[Transfer] = []
        self._changed: set[UUID] = set()
        users = sorted({submission.user_id for submission in submissions})
        self._counters: dict[UUID, _Counters] = {}
        self._owners: dict[UUID, UUID] = {}
        self._lock_traders(users, paper_cash_paise)
        requests = [(submission.user_id, request) for submission in submissions for request in submission.requests]
        own = [(user, request) for user, request in requests if self._owns(user, request)]
        self._balances = postings.lock_accounts(session, {self._account(user, request) for user, request in own})
        self._unsettled = self._load_unsettled(requests)
        self._recent = self._load_recent(users, [request for _, request in requests])

    # --- reading under lock -----------------------------------------------------------------------------------------

    def _lock_traders(self, users: Sequence[UUID], paper_cash_paise: int) -> None:
        """Lock the users' trader rows in order and read their counters and open portfolios; makes what is missing.

        A portfolio that is being deleted may still look open here; it is empty then, so nothing can be held in it.
        """
        asked = {"users": users}
        found = self._session.execute(_TRADERS, asked).all()
        if missing := set(users) - {row.user_id for row in found}:
            for user in sorted(missing):
                make_default(self._session, user, self._now)
            found = self._session.execute(_TRADERS, asked).all()
        self._counters = {row.user_id: _Counters.of(row) for row in found}
        self._owners = {row.portfolio_id: row.user_id for row in found}
        for row in found:
            open_paper_cash(self._session, row, paper_cash_paise, self._now)

    def _load_unsettled(self, requests: Sequence[tuple[UUID, OrderRequest]]) -> dict[AccountKey, int]:
        """Delivery shares that may not be sold yet where selling before delivery (BTST) is off.

        Settlement is T+1: what was bought today or on the trading day before is not delivered.
        """
        sells = [(user, request) for user, request in requests if request.side == "SELL" and request.product == "CNC"]
        if self._limits.allow_btst or not sells:
            return {}
        since = unsettled_since(trading_date(self._now))
        portfolio_ids = {self._portfolio_id(user, request) for user, request in sells}
        rows = self._session.execute(
            sa.select(
                TaxLot.portfolio_id, TaxLot.exchange, TaxLot.tradingsymbol, sa.func.sum(TaxLot.remaining_quantity)
            )
            .where(TaxLot.portfolio_id.in_(portfolio_ids), TaxLot.product == "CNC", TaxLot.acquired_on >= since)
            .where(TaxLot.remaining_quantity > 0)
            .group_by(TaxLot.portfolio_id, TaxLot.exchange, TaxLot.tradingsymbol)
        )
        return {
            shares_account(portfolio_id, asset_of(exchange, symbol), "CNC"): int(units)
            for portfolio_id, exchange, symbol, units in rows
        }

    def _load_recent(
        self, users: Sequence[UUID], requests: Sequence[OrderRequest]
    ) -> set[tuple[UUID, str, str, str, int]]:
        """(user, exchange, symbol, side, quantity) of orders accepted within the duplicate window."""
        window = self._limits.duplicate_window_s
        if window <= 0 or all(request.confirm_duplicate for request in requests):
            return set()
        rows = self._session.execute(
            sa.select(
                UserOrder.user_id, UserOrder.exchange, UserOrder.tradingsymbol, UserOrder.side, UserOrder.quantity
            )
            .where(UserOrder.user_id.in_(users), UserOrder.accepted_at > self._now - timedelta(seconds=window))
            .distinct()
        )
        return {(user, exchange, symbol, side, quantity) for user, exchange, symbol, side, quantity in rows}

    def _owns(self, user_id: UUID, request: OrderRequest) -> bool:
        return self._owners.get(self._portfolio_id(user_id, request)) == user_id

    def _portfolio_id(self, user_id: UUID, request: OrderRequest) -> UUID:
        return request.portfolio_id or default_portfolio_id(user_id)

    def _account(self, user_id: UUID, request: OrderRequest) -> AccountKey:
        portfolio_id = self._portfolio_id(user_id, request)
        if request.side == "BUY":
            return cash_account(portfolio_id)
        return shares_account(portfolio_id, asset_of(*request.instrument), request.product)

    # --- judging ----------------------------------------------------------------------------------------------------

    def judge(self, submission: Submission, results: Sequence[Terms | Refusal]) -> list[Outcome]:
        """Judge one submission against what the ones before it have left."""
        counters = self._counters[submission.user_id]
        before = replace(counters)
        if submission.counted:
            bucket = risk.take_submission(counters.bucket, self._now, self._limits)
            if isinstance(bucket, Refusal):
                return all_refused([bucket] * len(results))
            counters.bucket = bucket
        taken: list[tuple[Balance, int]] = []
        drafts: list[tuple[dict[str, Any], Transfer]] = []
        answers: list[Outcome] = []
        for index, (request, result) in enumerate(zip(submission.requests, results, strict=True)):
            outcome = result if isinstance(result, Refusal) else self._judge_one(submission, index, request, result)
            if isinstance(outcome, Refusal):
                answers.append(Refused(index, outcome))
                continue
            row, hold = outcome
            balance = self._balances[hold.debit]
            balance.held += hold.amount
            taken.append((balance, hold.amount))
            drafts.append(outcome)
            answers.append(Accepted(index, row))
        if not drafts or (submission.atomic and len(drafts) < len(results)):
            for balance, amount in taken:
                balance.held -= amount
            self._counters[submission.user_id] = before
            return [
                answer if isinstance(answer, Refused) else Refused(answer.index, NOT_ATTEMPTED) for answer in answers
            ]
        self._changed.add(submission.user_id)
        for row, hold in drafts:
            self._rows.append(row)
            self._holds.append(hold)
            self._events.append((accepted_event(row), row["order_id"], submission.correlation_id))
            if self._limits.duplicate_window_s > 0:
                # For the submissions after this one; the same order twice in one list is meant.
                self._recent.add(tuple(row[name] for name in _SAME))
        return answers

    def _judge_one(
        self, submission: Submission, index: int, request: OrderRequest, terms: Terms
    ) -> tuple[dict[str, Any], Transfer] | Refusal:
        user_id, portfolio_id = submission.user_id, self._portfolio_id(submission.user_id, request)
        if not self._owns(user_id, request):
            return PORTFOLIO_NOT_FOUND
        counters = self._counters[user_id]
        so_far = counters.gross_paise if counters.gross_on == terms.trading_date else 0
        duplicate = (user_id, *request.instrument, request.side, request.quantity) in self._recent
        if duplicate and not request.confirm_duplicate:
            return risk.duplicate_refusal(request, self._limits)
        account = self._account(user_id, request)
        free = self._balances[account].free
        hold_charges, order_id = 0, submission.order_ids[index] if submission.order_ids else uuid4()
        refusal = risk.check_daily_value(terms.value_paise, so_far, self._limits)
        if request.side == "BUY":
            hold_charges = _hold_charges(request, terms)
            needed = terms.value_paise + hold_charges
            refusal = refusal or risk.check_funds(needed, free)
            hold = hold_cash(order_id, portfolio_id, needed)
        else:
            refusal = refusal or risk.check_shares(request, max(0, free - self._unsettled.get(account, 0)))
            hold = hold_shares(order_id, account, request.quantity)
        if refusal is not None:
            return refusal
        counters.gross_on, counters.gross_paise = terms.trading_date, so_far + terms.value_paise
        return self._row(submission, request, terms, portfolio_id, order_id, hold, hold_charges), hold

    def _row(
        self,
        submission: Submission,
        request: OrderRequest,
        terms: Terms,
        portfolio_id: UUID,
        order_id: UUID,
        hold: Transfer,
        hold_charges: int,
    ) -> dict[str, Any]:
        return {
            "order_id": order_id,
            "user_id": submission.user_id,
            "portfolio_id": portfolio_id,
            "submission_id": submission.submission_id,
            "idempotency_ref": submission.key,
            "exchange": request.exchange,
            "tradingsymbol": request.tradingsymbol,
            "side": request.side,
            "product": request.product,
            "order_type": request.order_type,
            "quantity": request.quantity,
            "price_paise": request.price_paise,
            "trigger_price_paise": request.trigger_price_paise,
            "validity": request.validity,
            "ttl_minutes": request.ttl_minutes,
            "tag": request.tag,
            "trading_date": terms.trading_date,
            "state": OrderState.ACCEPTED.value,
            "version": 1,
            "filled_quantity": 0,
            "amount_paise": 0,
            "charges_paise": 0,
            "hold_price_paise": terms.worst_price_paise,
            "hold_charges_paise": hold_charges,
            "hold_transfer_id": hold.id,
            "hold_amount": hold.amount,
            "replaces": submission.replaces,
            "accepted_at": self._now,
            "next_sweep_at": self._now + timedelta(seconds=sweep_delay_s(0)),
            "sweep_count": 0,
            "correlation_id": submission.correlation_id,
        }

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write orders, holds, balances and counters in one statement, and the messages."""
        if not self._rows:
            return
        moved = postings.moves(effects(self._holds))
        holds = postings.rows_of(self._holds, self._now)
        counters = [self._counters[user].row(user) for user in sorted(self._changed)]
        statement = _writing(tuple(self._rows[0]), tuple(holds[0]), tuple(counters[0]))
        given_rows = {
            **given(self._rows, _ORDERS),
            **given(holds, _HOLDS),
            **given(counters, _COUNTERS),
            **given(moved, postings.CHANGES),
        }
        postings.require_all(moved, self._session.execute(statement, given_rows).scalar_one())
        outbox.record_many(self._session, self._events, source=NAME)
        log.info("order.accepted", orders=len(self._rows), order_id=self._rows[0]["order_id"])


_ORDERS, _HOLDS, _COUNTERS = "orders", "holds", "counters"


@cache
def _writing(orders: tuple[str, ...], holds: tuple[str, ...], counters: tuple[str, ...]) -> sa.Select[int]:
    """One statement for everything that acceptance writes of its own; answers how many balances it changed."""
    return all_at_once(
        insertion(cast(sa.Table, UserOrder.__table__), orders, _ORDERS),
        insertion(postings.TRANSFERS, holds, _HOLDS),
        updating(cast(sa.Table, Trader.__table__), "user_id", counters, _COUNTERS),
        postings.CHANGING.returning(postings.ACCOUNTS.c.id),
    )


_TRADERS = (
    sa.select(
        Trader.user_id,
        Trader.gross_on,
        Trader.gross_paise,
        Trader.rate_level,
        Trader.rate_at,
        Portfolio.portfolio_id,
        Portfolio.is_default,
        Portfolio.cash_opened,
    )
    .join(Portfolio, sa.and_(Portfolio.user_id == Trader.user_id, Portfolio.closed_at.is_(None)))
    .where(Trader.user_id == sa.any_(sa.bindparam("users", type_=sa.ARRAY(sa.Uuid))))
    .order_by(Trader.user_id)
    .with_for_update(key_share=True, of=Trader)
)
_SAME = ("user_id", "exchange", "tradingsymbol", "side", "quantity")


def _hold_charges(request: OrderRequest, terms: Terms) -> int:
    try:
        return charges.hold_estimate(
            exchange=request.exchange,
            side=request.side,
            product=request.product,
            quantity=request.quantity,
            worst_value_paise=terms.value_paise,
            trade_date=terms.trading_date,
        )
    except ChargeRowMissing as error:
        log.exception("charges.row_missing")
        raise Unavailable(
            "Charges for this trade can not be computed at the moment; the operator has been told.",
            code="charges_unavailable",
        ) from error
