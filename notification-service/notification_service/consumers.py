"""Facts of other rooms that users are told about."""

from uuid import UUID

from sqlalchemy.orm import Session

from common.consumers import Handlers
from common.events import CashMoved, Envelope, Event, KycChanged, OrderUpdated
from common.logging import get_logger
from notification_service import service, texts

log = get_logger(__name__)


def tell_order(session: Session, event: OrderUpdated, _: Envelope) -> None:
    """Tell the owner of an order about a fill or the order's end."""
    subject = {"order_id": str(event.order_id), "portfolio_id": str(event.portfolio_id)}
    _tell(session, event.user_id, texts.order_notice(event), subject, event)


def tell_kyc(session: Session, event: KycChanged, _: Envelope) -> None:
    """Tell a user where the KYC stands."""
    _tell(session, event.user_id, texts.kyc_notice(event), {}, event)


def tell_cash(session: Session, event: CashMoved, _: Envelope) -> None:
    """Tell the owner of a portfolio about money in or out."""
    subject = {"transfer_id": str(event.transfer_id), "portfolio_id": str(event.portfolio_id)}
    _tell(session, event.user_id, texts.cash_notice(event), subject, event)


def _tell(session: Session, user_id: UUID, notice: texts.Notice | None, subject: dict[str, str], event: Event) -> None:
    if notice is None:
        return
    if service.tell(session, user_id, notice, subject=subject, occurred_at=event.occurred_at):
        log.info("notification.told", user_id=str(user_id), kind=notice.kind, cause=notice.cause)


HANDLERS: Handlers = {OrderUpdated: tell_order, KycChanged: tell_kyc, CashMoved: tell_cash}
