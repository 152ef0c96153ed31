"""The rules of the ledger, without a database: accounts, transfers, holds and how a fill is settled.

Direction, chosen once: a transfer takes `amount` from its debit account and gives it to its credit account, so a credit
raises what the holder has. `posted` of an account is its credits minus its debits; the sum over all accounts of one asset
is therefore 0 by construction. A hold is a pending transfer: it raises `held` of the debit account and moves nothing; it
is resolved at most once, by a `post` (moves what was really used, the rest is free again) or by a `void`.

Assets are "INR", counted in paise, and instruments such as "NSE:INFY", counted in units. The id of a transfer is derived
from its cause, so writing the same cause twice changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from uuid import UUID, uuid5

NAMESPACE = UUID("6f0c1d0e-2a54-5c8f-9f6e-0d9a7b1c4e21")
"""Namespace of all ids derived from a cause; never change it: the ids in every ledger depend on it."""

INR = "INR"
ACCOUNT_IDS_CACHED_MAX = 65_536
TRANSFER_IDS_CACHED_MAX = 8_192
"""More than one transaction holds: an id is asked for when a row is made and when it is written."""


class AccountKind(StrEnum):
    """What an account is for; the first four belong to a portfolio, the others to the house or the outside world."""

    CASH = "cash"
    SHARES = "shares"
    INTRADAY = "intraday"
    DUE = "due"
    BANK = "bank"
    CLEARING = "clearing"
    CHARGES = "charges"
    ERROR = "error"


MAY_BE_NEGATIVE = frozenset(
    {AccountKind.DUE, AccountKind.BANK, AccountKind.CLEARING, AccountKind.CHARGES, AccountKind.ERROR}
)


class TransferKind(StrEnum):
    """posted moves at once; pending holds; post and void resolve a pending transfer."""

    POSTED = "posted"
    PENDING = "pending"
    POST = "post"
    VOID = "void"


class LedgerRuleBroken(Exception):
    """A caller asked for a posting that the rules exclude: a programming error, never a user's."""


@lru_cache(maxsize=TRANSFER_IDS_CACHED_MAX)
def transfer_id(cause: str) -> UUID:
    """The id of the transfer with this cause."""
    return uuid5(NAMESPACE, cause)


@lru_cache(maxsize=ACCOUNT_IDS_CACHED_MAX)
def _account_id(owner: str, kind: str, asset: str) -> UUID:
    return uuid5(NAMESPACE, f"account:{owner}:{kind}:{asset}")


@dataclass(frozen=True, slots=True, order=True)
class AccountKey:
    """Who holds what: owner (a portfolio id or a system owner), kind and asset name one account."""

    owner: str
    kind: AccountKind
    asset: str

    @property
    def id(self) -> UUID:
        """Derived, so an account can be named without a look-up."""
        return _account_id(self.owner, self.kind, self.asset)

    @property
    def allow_negative(self) -> bool:
        """Only dues and accounts that mirror the outside world or the house may go below zero."""
        return self.kind in MAY_BE_NEGATIVE


def asset_of(exchange: str, tradingsymbol: str) -> str:
    """The asset name of an instrument: `NSE:INFY`."""
    return f"{exchange}:{tradingsymbol}"


def cash_account(portfolio_id: UUID) -> AccountKey:
    """Paise a portfolio owns."""
    return AccountKey(str(portfolio_id), AccountKind.CASH, INR)


def due_account(portfolio_id: UUID) -> AccountKey:
    """What a portfolio owes (zero or negative): facts that cost more than the portfolio had."""
    return AccountKey(str(portfolio_id), AccountKind.DUE, INR)


def shares_account(portfolio_id: UUID, asset: str, product: str) -> AccountKey:
    """Units a portfolio owns. Intraday (MIS) units are apart from delivery (CNC): the broker nets them apart too."""
    kind = AccountKind.INTRADAY if product == "MIS" else AccountKind.SHARES
    return AccountKey(str(portfolio_id), kind, asset)


def bank_account() -> AccountKey:
    """The outside world money comes from and goes to."""
    return AccountKey("external", AccountKind.BANK, INR)


def clearing_account(asset: str) -> AccountKey:
    """The market side of every trade."""
    return AccountKey("market", AccountKind.CLEARING, asset)


def charges_account() -> AccountKey:
    """Estimated charges collected for the contract note."""
    return AccountKey("house", AccountKind.CHARGES, INR)


def error_account(asset: str) -> AccountKey:
    """Facts that belong to no user: kept by the house until somebody has looked at them."""
    return AccountKey("house", AccountKind.ERROR, asset)


@dataclass(slots=True)
class Balance:
    """What an account has (`posted`) and how much of it is reserved (`held`)."""

    posted: int = 0
    held: int = 0

    @property
    def free(self) -> int:
        """What may still be used."""
        return self.posted - self.held


@dataclass(frozen=True, slots=True)
class Transfer:
    """One row of the ledger: one debit, one credit, one asset, a positive amount and the cause that makes it unique."""

    cause: str
    debit: AccountKey
    credit: AccountKey
    amount: int
    kind: TransferKind = TransferKind.POSTED
    pending_id: UUID | None = None
    released: int = 0
    order_id: UUID | None = None
    reason: str | None = None
    actor_id: UUID | None = None

    def __post_init__(self) -> None:
        resolves = self.kind in (TransferKind.POST, TransferKind.VOID)
        if self.amount <= 0:
            raise LedgerRuleBroken(f"a transfer moves a positive amount, was {self.amount}: {self.cause}")
        if self.debit.asset != self.credit.asset or self.debit == self.credit:
            raise LedgerRuleBroken(f"a transfer joins two accounts of one asset: {self.cause}")
        if resolves != (self.pending_id is not None) or resolves != (self.released > 0):
            raise LedgerRuleBroken(f"exactly a post or a void resolves a hold: {self.cause}")
        if resolves and self.amount > self.released:
            raise LedgerRuleBroken(f"a hold of {self.released} can not pay {self.amount}: {self.cause}")

    @property
    def id(self) -> UUID:
        """Derived from the cause: the same cause twice is the same row."""
        return transfer_id(self.cause)


@dataclass(frozen=True, slots=True)
class Hold:
    """An unresolved pending transfer and its amount (paise or units)."""

    transfer_id: UUID
    amount: int


@dataclass(frozen=True, slots=True)
class Fill:
    """One allocation to one order: `quantity` units for `amount_paise`, with the charges that came due by it."""

    allocation_id: UUID
    order_id: UUID
    portfolio_id: UUID
    asset: str
    product: str
    quantity: int
    amount_paise: int
    charges_paise: int


def effects(transfers: Iterable[Transfer]) -> dict[AccountKey, Balance]:
    """Net change of `posted` and `held` of every account touched."""
    changes: dict[AccountKey, Balance] = {}
    for transfer in transfers:
        debit = changes.setdefault(transfer.debit, Balance())
        if transfer.kind is TransferKind.PENDING:
            debit.held += transfer.amount
            continue
        debit.held -= transfer.released
        if transfer.kind is not TransferKind.VOID:
            debit.posted -= transfer.amount
            changes.setdefault(transfer.credit, Balance()).posted += transfer.amount
    return changes


def hold_cash(order_id: UUID, portfolio_id: UUID, amount_paise: int, *, step: str = "0") -> Transfer:
    """Reserve money for a buy; `step` tells the holds of one order apart."""
    return Transfer(
        cause=f"hold:{order_id}:{step}",
        debit=cash_account(portfolio_id),
        credit=clearing_account(INR),
        amount=amount_paise,
        kind=TransferKind.PENDING,
        order_id=order_id,
    )


def hold_shares(order_id: UUID, account: AccountKey, quantity: int, *, step: str = "0") -> Transfer:
    """Reserve units for a sale."""
    return Transfer(
        cause=f"hold:{order_id}:{step}",
        debit=account,
        credit=clearing_account(account.asset),
        amount=quantity,
        kind=TransferKind.PENDING,
        order_id=order_id,
    )


def release(order_id: UUID, account: AccountKey, hold: Hold) -> Transfer:
    """Give back what is left of a hold when its order is closed."""
    return Transfer(
        cause=f"close:{order_id}:void",
        debit=account,
        credit=clearing_account(account.asset),
        amount=hold.amount,
        kind=TransferKind.VOID,
        pending_id=hold.transfer_id,
        released=hold.amount,
        order_id=order_id,
    )


def settle_buy(fill: Fill, hold: Hold | None, cash: Balance, *, next_hold_paise: int) -> list[Transfer]:
    """Pay a bought fill out of its hold and reserve for the rest of the order.

    What the fill really cost comes from the hold, then from free cash, then from the due account: a fact is never refused
    and cash never goes below zero (execution.md 3.8). The next hold shrinks to what is left, if it has to.
    """
    cash_key, due_key = cash_account(fill.portfolio_id), due_account(fill.portfolio_id)
    transfers: list[Transfer] = []
    held = hold.amount if hold else 0
    from_hold = min(fill.amount_paise, held)
    if hold:
        transfers.append(_post(fill, hold, cash_key, from_hold) if from_hold else _unused(fill, hold, cash_key))
    left = cash.free + held - from_hold
    left -= _pay(transfers, fill, "cost", fill.amount_paise - from_hold, left, cash_key, due_key, clearing_account(INR))
    left -= _pay(transfers, fill, "charges", fill.charges_paise, left, cash_key, due_key, charges_account())
    transfers.append(
        Transfer(
            cause=f"fill:{fill.allocation_id}:shares",
            debit=clearing_account(fill.asset),
            credit=shares_account(fill.portfolio_id, fill.asset, fill.product),
            amount=fill.quantity,
            order_id=fill.order_id,
        )
    )
    if (again := min(next_hold_paise, left)) > 0:
        transfers.append(hold_cash(fill.order_id, fill.portfolio_id, again, step=str(fill.allocation_id)))
    return transfers


def settle_sell(fill: Fill, hold: Hold | None, cash: Balance, due: Balance, *, next_hold_units: int) -> list[Transfer]:
    """Deliver a sold fill out of its hold, book the proceeds less charges, pay what the portfolio owes.

    Raises LedgerRuleBroken when the hold does not cover the fill: the caller books such an excess to the house first.
    """
    if hold is None or hold.amount < fill.quantity:
        raise LedgerRuleBroken(f"order {fill.order_id} holds fewer units than the fill of {fill.quantity}")
    cash_key, due_key = cash_account(fill.portfolio_id), due_account(fill.portfolio_id)
    shares_key = shares_account(fill.portfolio_id, fill.asset, fill.product)
    transfers = [_post(fill, hold, shares_key, fill.quantity)]
    if fill.amount_paise > 0:
        transfers.append(
            Transfer(
                cause=f"fill:{fill.allocation_id}:proceeds",
                debit=clearing_account(INR),
                credit=cash_key,
                amount=fill.amount_paise,
                order_id=fill.order_id,
            )
        )
    left = cash.free + fill.amount_paise
    left -= _pay(transfers, fill, "charges", fill.charges_paise, left, cash_key, due_key, charges_account())
    transfers.extend(pay_due(f"fill:{fill.allocation_id}", fill.portfolio_id, left, due, order_id=fill.order_id))
    if next_hold_units > 0:
        transfers.append(hold_shares(fill.order_id, shares_key, next_hold_units, step=str(fill.allocation_id)))
    return transfers


def pay_due(
    cause: str, portfolio_id: UUID, free_paise: int, due: Balance, *, order_id: UUID | None = None
) -> Sequence[Transfer]:
    """Money that became free first pays what the portfolio owes."""
    amount = min(free_paise, -due.posted)
    if amount <= 0:
        return ()
    return (
        Transfer(
            cause=f"{cause}:repay",
            debit=cash_account(portfolio_id),
            credit=due_account(portfolio_id),
            amount=amount,
            order_id=order_id,
        ),
    )


def book_to_house(
    allocation_id: UUID, order_id: UUID | None, side: str, asset: str, quantity: int, amount_paise: int
) -> list[Transfer]:
    """A fact no user may be given: the house takes the shares and the money side of it."""
    bought = side == "BUY"
    house_units, house_cash = error_account(asset), error_account(INR)
    market_units, market_cash = clearing_account(asset), clearing_account(INR)
    transfers = [
        Transfer(
            cause=f"house:{allocation_id}:shares",
            debit=market_units if bought else house_units,
            credit=house_units if bought else market_units,
            amount=quantity,
            order_id=order_id,
        )
    ]
    if amount_paise > 0:
        transfers.append(
            Transfer(
                cause=f"house:{allocation_id}:cash",
                debit=house_cash if bought else market_cash,
                credit=market_cash if bought else house_cash,
                amount=amount_paise,
                order_id=order_id,
            )
        )
    return transfers


def _post(fill: Fill, hold: Hold, debit: AccountKey, amount: int) -> Transfer:
    return Transfer(
        cause=f"fill:{fill.allocation_id}:post",
        debit=debit,
        credit=clearing_account(debit.asset),
        amount=amount,
        kind=TransferKind.POST,
        pending_id=hold.transfer_id,
        released=hold.amount,
        order_id=fill.order_id,
    )


def _unused(fill: Fill, hold: Hold, debit: AccountKey) -> Transfer:
    """A fill that cost nothing: its hold is given back whole before the next one is made."""
    return Transfer(
        cause=f"fill:{fill.allocation_id}:void",
        debit=debit,
        credit=clearing_account(debit.asset),
        amount=hold.amount,
        kind=TransferKind.VOID,
        pending_id=hold.transfer_id,
        released=hold.amount,
        order_id=fill.order_id,
    )


def _pay(
    transfers: list[Transfer],
    fill: Fill,
    what: str,
    amount: int,
    available: int,
    cash: AccountKey,
    due: AccountKey,
    receiver: AccountKey,
) -> int:
    """Add the payment of `amount`, from cash as far as it goes, then as a due; answers what cash paid."""
    from_cash = max(0, min(amount, available))
    for suffix, payer, part in (("", cash, from_cash), ("-due", due, amount - from_cash)):
        if part > 0:
            transfers.append(
                Transfer(
                    cause=f"fill:{fill.allocation_id}:{what}{suffix}",
                    debit=payer,
                    credit=receiver,
                    amount=part,
                    order_id=fill.order_id,
                )
            )
    return from_cash
