"""What a batch of facts is booked with: everything read and locked by one statement each, everything written by one each.

Locks: the orders' rows, their users' trader rows, then accounts, each in the order of their ids and the same everywhere.
In between everything happens in memory, fact after fact: each reads what the one before it left.
"""

from collections.abc import Iterable, Sequence
from typing import cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.bulk import array_of, insert_rows, update_rows
from common.clock import Clock
from portfolio_service import ledger, postings
from portfolio_service.ledger import AccountKey, Balance, Transfer
from portfolio_service.models import OrderAllocation, OrderHistory, UserOrder
from portfolio_service.portfolios import lock_traders
from portfolio_service.tax_lots import OpenLots

_CHANGING = (
    "state", "version", "filled_quantity", "amount_paise", "charges_paise", "hold_transfer_id", "hold_amount",
    "closing_outcome", "closing_quantity", "closing_amount_paise", "closing_at", "closing_reason_code", "closing_reason",
    "reason_code", "reason", "closed_at", "next_sweep_at", "sweep_count",
)  # fmt: skip
"""What facts change in an order's row."""


class Booking:
    """One transaction's orders and accounts; `write` at the end. Not for two threads."""

    def __init__(self, session: Session, clock: Clock, order_ids: Iterable[UUID]) -> None:
        self.session = session
        self.now = clock.now()
        self._orders = {order.order_id: order for order in _locked(session, sorted(set(order_ids)))}
        self._changed: set[UUID] = set()
        self._balances: dict[AccountKey, Balance] = {}
        self._transfers: list[Transfer] = []
        self._allocations: dict[UUID, OrderAllocation] = {}
        self._new_allocations: list[OrderAllocation] = []
        self._history: list[dict[str, object]] = []
        self.lots = OpenLots(session, ())
        """Tax lots; those that may be sold from are there after `load_lots`."""

    # --- reading ---

    def order(self, order_id: UUID) -> UserOrder | None:
        """The locked row as the facts so far have left it; None: never accepted here."""
        return self._orders.get(order_id)

    def know_allocations(self, allocation_ids: Iterable[UUID]) -> None:
        """Read which of these are booked already."""
        found = self.session.scalars(
            sa.select(OrderAllocation).where(OrderAllocation.allocation_id == sa.any_(array_of(allocation_ids)))
        )
        self._allocations.update({row.allocation_id: row for row in found})

    def allocation(self, allocation_id: UUID) -> OrderAllocation | None:
        """What was booked under this id, None: nothing yet."""
        return self._allocations.get(allocation_id)

    def lock_money(self, orders: Iterable[UserOrder], keys: Iterable[AccountKey], *, make: bool = False) -> None:
        """Lock the orders' users, then accounts; `make` those that do not exist."""
        lock_traders(self.session, {order.user_id for order in orders})
        wanted = set(keys) - self._balances.keys()
        take = postings.open_accounts if make else postings.lock_accounts
        self._balances.update(take(self.session, wanted))

    def balance(self, key: AccountKey) -> Balance:
        """A locked account as the facts so far have left it."""
        return self._balances[key]

    def load_lots(self, orders: Iterable[UserOrder]) -> None:
        """Read the lots that these orders may sell; their accounts are locked, so nobody else sells them."""
        self.lots = OpenLots(self.session, orders)

    # --- changing ---

    def touch(self, order: UserOrder) -> None:
        """This order's row has changed."""
        self._changed.add(order.order_id)

    def move_money(self, transfers: Sequence[Transfer]) -> None:
        """Post these when all is written; accounts that nobody has opened yet are made and locked now."""
        changes = ledger.effects(transfers)
        self._balances.update(postings.open_accounts(self.session, changes.keys() - self._balances.keys()))
        for key, change in changes.items():
            balance = self._balances[key]
            balance.posted += change.posted
            balance.held += change.held
        self._transfers.extend(transfers)

    def allocate(self, row: OrderAllocation) -> None:
        """Remember a new allocation."""
        self._allocations[row.allocation_id] = row
        self._new_allocations.append(row)

    def tell_history(self, **values: object) -> None:
        """A row of the order's history."""
        self._history.append(values)

    # --- writing ---

    def write(self) -> None:
        """Write what has changed."""
        postings.post(self.session, self._transfers, self.now)
        insert_rows(self.session, OrderAllocation, [_values(row) for row in self._new_allocations])
        self.lots.write(self.session)
        insert_rows(self.session, OrderHistory, self._history)
        changed = [self._orders[order_id] for order_id in sorted(self._changed)]
        update_rows(
            self.session, UserOrder, "order_id",
            [{"order_id": order.order_id, **{name: getattr(order, name) for name in _CHANGING}} for order in changed],
        )  # fmt: skip


def _locked(session: Session, order_ids: Sequence[UUID]) -> Sequence[UserOrder]:
    orders = session.scalars(
        sa.select(UserOrder)
        .where(UserOrder.order_id == sa.any_(array_of(order_ids)))
        .order_by(UserOrder.order_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    for order in orders:
        # Written by `write`, all at once; the session would write each by itself.
        session.expunge(order)
    return orders


def _values(row: OrderAllocation) -> dict[str, object]:
    return {column.name: getattr(row, column.name) for column in cast(sa.Table, OrderAllocation.__table__).columns}
