"""Facts of other rooms that people are told about."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from common.clock import Clock, SystemClock
from common.consumers import Handlers, Together
from common.events import (
    BasketUpdated,
    BreakOpened,
    CashMoved,
    EmailVerificationRequested,
    Envelope,
    Event,
    KycChanged,
    OrderUpdated,
    PasswordResetRequested,
    ReportReady,
    SipDue,
    TradingHalted,
)
from notification_service import facts
from notification_service.facts import Fact
from notification_service.telling import News, raise_alarm, tell, tell_all


def make_handlers(clock: Clock) -> Handlers:
    """The handlers of this room; `clock` decides whether it is a quiet hour."""

    def told(session: Session, user_id: UUID, fact: Fact | None, event: Event) -> None:
        if fact is not None:
            tell(session, user_id, fact, occurred_at=event.occurred_at, now=clock.now())

    def orders_updated(session: Session, messages: Sequence[tuple[OrderUpdated, Envelope]]) -> None:
        news = [
            News(event.user_id, fact, event.occurred_at, clock.now(), envelope.correlation_id)
            for event, envelope in messages
            if (fact := facts.order_fact(event)) is not None
        ]
        tell_all(session, news)

    def kyc_changed(session: Session, event: KycChanged, _: Envelope) -> None:
        told(session, event.user_id, facts.kyc_fact(event), event)

    def cash_moved(session: Session, event: CashMoved, _: Envelope) -> None:
        told(session, event.user_id, facts.cash_fact(event), event)

    def basket_updated(session: Session, event: BasketUpdated, _: Envelope) -> None:
        told(session, event.user_id, facts.basket_fact(event), event)

    def sip_due(session: Session, event: SipDue, _: Envelope) -> None:
        told(session, event.user_id, facts.sip_fact(event), event)

    def mail_token(session: Session, event: PasswordResetRequested | EmailVerificationRequested, _: Envelope) -> None:
        told(session, event.user_id, facts.mail_token_fact(event), event)

    def report_ready(session: Session, event: ReportReady, _: Envelope) -> None:
        told(session, event.user_id, facts.report_fact(event), event)

    def trading_halted(session: Session, event: TradingHalted, _: Envelope) -> None:
        raise_alarm(session, facts.trading_state_fact(event), occurred_at=event.occurred_at, now=clock.now())

    def break_opened(session: Session, event: BreakOpened, _: Envelope) -> None:
        raise_alarm(session, facts.break_fact(event), occurred_at=event.occurred_at, now=clock.now())

    return {
        OrderUpdated: Together(orders_updated),
        KycChanged: kyc_changed,
        CashMoved: cash_moved,
        BasketUpdated: basket_updated,
        SipDue: sip_due,
        PasswordResetRequested: mail_token,
        EmailVerificationRequested: mail_token,
        ReportReady: report_ready,
        TradingHalted: trading_halted,
        BreakOpened: break_opened,
    }


HANDLERS = make_handlers(SystemClock())
