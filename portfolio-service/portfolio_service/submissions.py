"""A request of one user as acceptance sees it, and what becomes of each order in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

from common.errors import AppError, Conflict, Forbidden, NotFound, TooManyRequests, Unprocessable
from common.events import OrderAccepted
from common.logging import current_correlation_id
from portfolio_service.models import UserOrder
from portfolio_service.orders import OrderRequest
from portfolio_service.risk import Refusal

NOT_ATTEMPTED = Refusal("not_attempted", "Another order of the list was refused, so none was taken.")
PORTFOLIO_NOT_FOUND = Refusal("portfolio_not_found", "There is no such portfolio among yours.")
"""The same for an absent and a foreign portfolio."""

_ERRORS: dict[str, type[AppError]] = {
    "kyc_required": Forbidden,
    "portfolio_not_found": NotFound,
    "duplicate_order": Conflict,
    "order_rate": TooManyRequests,
}


@dataclass(frozen=True)
class Submission:
    """One request of one user: a list of orders judged together under one idempotency key."""

    user_id: UUID
    kyc: str
    requests: Sequence[OrderRequest]
    key: str
    atomic: bool = True
    counted: bool = True
    """Whether it takes a token of the user's rate; the platform's own follow-ups do not."""
    order_ids: Sequence[UUID] | None = None
    replaces: UUID | None = None
    submission_id: UUID = field(default_factory=uuid4)
    correlation_id: str | None = field(default_factory=current_correlation_id)


_BLANK = dict.fromkeys(column.key for column in UserOrder.__mapper__.column_attrs)


@dataclass(frozen=True)
class Accepted:
    """An order that was taken: the columns written."""

    index: int
    row: Mapping[str, Any]

    @property
    def order(self) -> UserOrder:
        """The order for reading. Not an object of the session: making a thousand of those costs more than the batch."""
        return cast(UserOrder, SimpleNamespace(**{**_BLANK, **self.row}))


@dataclass(frozen=True)
class Refused:
    """Why the order at this place of the list was not taken."""

    index: int
    refusal: Refusal

    def error(self) -> AppError:
        """The refusal as an HTTP problem."""
        kind = _ERRORS.get(self.refusal.code, Unprocessable)
        return kind(self.refusal.detail, code=self.refusal.code, **self.refusal.facts)


Outcome = Accepted | Refused


def all_refused(results: Sequence[object]) -> list[Outcome]:
    """A list none of which is taken: refusals as they are, the rest was not attempted."""
    return [
        Refused(index, result if isinstance(result, Refusal) else NOT_ATTEMPTED) for index, result in enumerate(results)
    ]


_TOLD = (
    "order_id",
    "user_id",
    "portfolio_id",
    "exchange",
    "tradingsymbol",
    "side",
    "product",
    "order_type",
    "quantity",
    "price_paise",
    "trigger_price_paise",
    "validity",
    "ttl_minutes",
    "accepted_at",
    "trading_date",
)


def accepted_event(row: Mapping[str, Any]) -> OrderAccepted:
    """What the executor is told about an order, at acceptance and again by the sweep."""
    return OrderAccepted.model_validate({name: row[name] for name in _TOLD} | {"occurred_at": row["accepted_at"]})


def accepted_event_of(order: UserOrder) -> OrderAccepted:
    """The same for an order read from the database."""
    return accepted_event({name: getattr(order, name) for name in _TOLD})
