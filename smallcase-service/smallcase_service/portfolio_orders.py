"""What this room asks of portfolio-service: what a basket would cost, its acceptance, and where its orders stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from common.config import ServiceSettings
from common.http import PeerRefused, PeerUnavailable, ServiceClient
from common.process import identity_from
from smallcase_service.plan import Trade

ORDERS_PER_READ = 100
TIMEOUT_S = 10.0
"""A basket of 100 orders is accepted in one transaction; under load it waits for its turn."""
RATE_STATUSES = frozenset({401, 403, 408, 429})
"""Statuses that say nothing about the basket itself: the same request may be answered later."""


@dataclass(frozen=True)
class Estimate:
    """A basket's charges and holds in paise, and the cash that is free in the portfolio it would be placed in."""

    portfolio_id: UUID
    charges_paise: tuple[int, ...]
    hold_paise: int
    available_paise: int


@dataclass(frozen=True)
class PlacedOrder:
    """One order of a submission under the id this room has given it."""

    order_id: UUID
    exchange: str
    tradingsymbol: str
    side: str
    quantity: int


@dataclass(frozen=True)
class Submission:
    """Orders that are accepted together or not at all; the same id is judged once."""

    submission_id: UUID
    user_id: UUID
    kyc: str
    portfolio_id: UUID
    queue_when_closed: bool
    counted: bool
    orders: Sequence[PlacedOrder]


@dataclass(frozen=True)
class Refusal:
    """Why the order at this place of the submission was not taken."""

    index: int
    code: str
    detail: str


@dataclass(frozen=True)
class OrderNews:
    """Where an order stands; figures are cumulative and grow with the version."""

    order_id: UUID
    state: str
    version: int
    filled_quantity: int
    amount_paise: int
    charges_paise: int
    reason_code: str | None
    reason: str | None


class PortfolioOrders(Protocol):
    """portfolio-service as this room needs it. Everything raises PeerUnavailable when it does not answer."""

    def estimate(self, user_id: UUID, portfolio_id: UUID | None, trades: Sequence[Trade]) -> Estimate:
        """Costs of a basket that might be placed; raises PeerRefused for a portfolio that is not the user's."""
        ...

    def accept(self, submission: Submission) -> list[Refusal]:
        """Have all orders accepted (an empty list) or none; asking again gets the same answer.

        After PeerUnavailable it is unknown what became of them: ask again.
        """
        ...

    def news(self, order_ids: Sequence[UUID]) -> list[OrderNews]:
        """Where orders stand; unknown ones are left out."""
        ...


class PortfolioClient:
    """PortfolioOrders over HTTP. Thread-safe."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def estimate(self, user_id: UUID, portfolio_id: UUID | None, trades: Sequence[Trade]) -> Estimate:
        orders = [
            {"exchange": trade.key[0], "side": trade.side, "quantity": trade.quantity, "price_paise": trade.price_paise}
            for trade in trades
        ]
        body = {"user_id": str(user_id), "portfolio_id": str(portfolio_id) if portfolio_id else None, "orders": orders}
        answer = self._client.post("/internal/v1/baskets/estimate", body)
        return Estimate(
            UUID(answer["portfolio_id"]),
            tuple(answer["charges_paise"]),
            answer["hold_paise"],
            answer["available_paise"],
        )

    def accept(self, submission: Submission) -> list[Refusal]:
        body = {
            "submission_id": str(submission.submission_id),
            "user_id": str(submission.user_id),
            "kyc": submission.kyc,
            "portfolio_id": str(submission.portfolio_id),
            "tag": "smallcase",
            "queue_when_closed": submission.queue_when_closed,
            "counted": submission.counted,
            "orders": [
                {
                    "order_id": str(order.order_id),
                    "exchange": order.exchange,
                    "tradingsymbol": order.tradingsymbol,
                    "side": order.side,
                    "quantity": order.quantity,
                }
                for order in submission.orders
            ],
        }
        try:
            answer = self._client.post("/internal/v1/baskets", body)
        except PeerRefused as error:
            if error.status in RATE_STATUSES:
                raise PeerUnavailable(error.detail, code=error.code) from error
            return [Refusal(0, error.code, error.detail)]
        return [Refusal(row["index"], row["code"], row["detail"]) for row in answer["refusals"]]

    def news(self, order_ids: Sequence[UUID]) -> list[OrderNews]:
        found: list[OrderNews] = []
        for start in range(0, len(order_ids), ORDERS_PER_READ):
            part = order_ids[start : start + ORDERS_PER_READ]
            answer = self._client.get("/internal/v1/orders", [("id", str(order_id)) for order_id in part])
            found += [_news(row) for row in answer["orders"]]
        return found


def portfolio_from(settings: ServiceSettings, name: str) -> PortfolioClient:
    """The client of portfolio-service, calling as this room."""
    identity = identity_from(settings, name)
    return PortfolioClient(
        ServiceClient(
            settings.portfolio_service_url, audience="portfolio-service", identity=identity, timeout_s=TIMEOUT_S
        )
    )


def _news(row: dict[str, Any]) -> OrderNews:
    return OrderNews(
        order_id=UUID(row["order_id"]),
        state=row["state"],
        version=row["version"],
        filled_quantity=row["filled_quantity"],
        amount_paise=row["amount_paise"],
        charges_paise=row["charges_paise"],
        reason_code=row["reason_code"],
        reason=row["reason"],
    )
