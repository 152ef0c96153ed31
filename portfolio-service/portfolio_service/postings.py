"""The ledger in SQL: accounts made and locked in one order, transfers written once, balances kept by the same rows.

Locks are taken with FOR NO KEY UPDATE in the order of account ids: every writer of the ledger takes them in that order, so
two of them never wait for each other in a circle. Under READ COMMITTED a lock on a row that does not exist locks nothing,
therefore accounts are inserted (with zero) before they are locked.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.orm import Session

from common.bulk import given, insertion, recordset
from portfolio_service.ledger import AccountKey, AccountKind, Balance, Transfer, effects
from portfolio_service.models import Account, TransferRow

ACCOUNTS = cast(sa.Table, Account.__table__)
TRANSFERS = cast(sa.Table, TransferRow.__table__)
_LOCK = text("SELECT id, posted, held FROM account WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE")
CHANGES = "changes"


def _changing() -> sa.Update:
    change = recordset(ACCOUNTS, ("id", "posted", "held"), under=CHANGES)
    return (
        sa.update(ACCOUNTS)
        .where(ACCOUNTS.c.id == change.c.id)
        .values(posted=ACCOUNTS.c.posted + change.c.posted, held=ACCOUNTS.c.held + change.c.held)
    )


CHANGING = _changing()
"""Adds the rows given as CHANGES to locked accounts."""


class AccountMissing(Exception):
    """Balances of an account that was never made would change: a programming error."""


def ensure_accounts(session: Session, keys: Iterable[AccountKey]) -> None:
    """Make the accounts that do not exist yet, with zero balances."""
    rows = [
        {
            "id": key.id,
            "owner": key.owner,
            "kind": key.kind.value,
            "asset": key.asset,
            "allow_negative": key.allow_negative,
        }
        for key in sorted(set(keys), key=lambda key: key.id)
    ]
    if rows:
        session.execute(insertion(ACCOUNTS, tuple(rows[0])).on_conflict_do_nothing(), given(rows))


def lock_accounts(session: Session, keys: Iterable[AccountKey]) -> dict[AccountKey, Balance]:
    """Lock the accounts until the end of the transaction; one that does not exist answers zero and is not locked."""
    by_id = {key.id: key for key in keys}
    balances = {key: Balance() for key in by_id.values()}
    if by_id:
        for row in session.execute(_LOCK, {"ids": [str(account_id) for account_id in by_id]}):
            balances[by_id[row.id]] = Balance(row.posted, row.held)
    return balances


def open_accounts(session: Session, keys: Iterable[AccountKey]) -> dict[AccountKey, Balance]:
    """Make and lock accounts."""
    wanted = list(keys)
    ensure_accounts(session, wanted)
    return lock_accounts(session, wanted)


def post(session: Session, transfers: Sequence[Transfer], at: datetime) -> list[Transfer]:
    """Write transfers whose accounts are locked and apply them to the balances; answers those that are new.

    A transfer that was written before (same cause) changes nothing. A second resolution of one hold violates a unique
    index, a user's balance below zero violates a check: both end the transaction.
    """
    if not transfers:
        return []
    rows = rows_of(transfers, at)
    statement = insertion(TRANSFERS, tuple(rows[0])).on_conflict_do_nothing(index_elements=["id"])
    written = set(session.scalars(statement.returning(TRANSFERS.c.id), given(rows)))
    new = [transfer for transfer in transfers if transfer.id in written]
    change_balances(session, effects(new))
    return new


def change_balances(session: Session, changes: Mapping[AccountKey, Balance]) -> None:
    """Add net changes to locked accounts in one statement; raises AccountMissing."""
    moved = moves(changes)
    if moved:
        result = session.execute(CHANGING, given(moved, CHANGES))
        require_all(moved, result.rowcount)  # type: ignore[attr-defined]


def moves(changes: Mapping[AccountKey, Balance]) -> list[dict[str, object]]:
    """The rows of CHANGES: accounts whose balance becomes another."""
    return [
        {"id": key.id, "posted": change.posted, "held": change.held}
        for key, change in changes.items()
        if change.posted or change.held
    ]


def require_all(moved: Sequence[object], changed: int) -> None:
    """Raise AccountMissing when fewer accounts were changed than were to move."""
    if changed != len(moved):
        raise AccountMissing(f"{len(moved)} accounts to change, {changed} exist")


def rows_of(transfers: Iterable[Transfer], at: datetime) -> list[dict[str, object]]:
    """The rows of transfers; a caller that writes them itself has transfers whose ids are fresh."""
    return [_row(transfer, at) for transfer in transfers]


def balances_of(session: Session, owners: Iterable[UUID]) -> dict[AccountKey, Balance]:
    """All accounts of portfolios, not locked: for reading."""
    rows = session.execute(sa.select(Account).where(Account.owner.in_([str(owner) for owner in owners]))).scalars()
    return {AccountKey(row.owner, AccountKind(row.kind), row.asset): Balance(row.posted, row.held) for row in rows}


def _row(transfer: Transfer, at: datetime) -> dict[str, object]:
    return {
        "id": transfer.id,
        "debit_account": transfer.debit.id,
        "credit_account": transfer.credit.id,
        "asset": transfer.debit.asset,
        "amount": transfer.amount,
        "kind": transfer.kind.value,
        "pending_id": transfer.pending_id,
        "cause": transfer.cause,
        "order_id": transfer.order_id,
        "reason": transfer.reason,
        "actor_id": transfer.actor_id,
        "created_at": at,
    }
