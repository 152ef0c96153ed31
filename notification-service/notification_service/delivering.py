"""Sending what is due through one channel: claim, write the message, hand it over, record, one delivery at a time.

No transaction is open while another room or a provider is asked. One attempt at most is under way per worker, so a
worker that dies leaves at most one attempt whose outcome is unknown.
"""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from common import metrics
from common.errors import AppError
from common.logging import get_logger
from notification_service import contact_points, deliveries
from notification_service.config import NAME
from notification_service.deliveries import Claim
from notification_service.delivery_states import Status
from notification_service.desk import Desk
from notification_service.kinds import OUTSIDE, TO_ANY_ADDRESS, Channel, Kind
from notification_service.models import NOBODY, Delivery
from notification_service.providers.base import Message, NotSendable, ProviderFailure, Unreachable
from notification_service.wording import Words, mail_of, words_of

log = get_logger(__name__)

BUDGET_S = 5.0
"""How long one look at a channel may take before it is somebody else's turn; calls under way are finished."""
NEAR = 50
"""How many addresses are asked for together."""
_ACTIONS = {
    Kind.PASSWORD_RESET: ("Set a new password", "reset-password"),
    Kind.EMAIL_VERIFICATION: ("Verify this address", "verify-email"),
}
_NEVER = threading.Event()


def due_channels(desk: Desk) -> Sequence[Channel]:
    """Channels that have something to send now."""
    statement = (
        sa.select(Delivery.channel)
        .where(Delivery.status == Status.QUEUED, ~Delivery.digest, Delivery.due_at <= desk.clock.now())
        .distinct()
    )
    with desk.db.transaction() as session:
        found = set(session.scalars(statement))
    return [channel for channel in OUTSIDE if channel in found]


def deliver(desk: Desk, channel: Channel, *, stop: threading.Event = _NEVER, budget_s: float = BUDGET_S) -> int:
    """Send what is due through a channel, within the budget of time; answers how many attempts were made.

    A provider's failure is recorded, not raised. Raises SQLAlchemyError when the database is away.
    """
    ends = time.monotonic() + budget_s
    attempts = 0
    while not stop.is_set() and time.monotonic() < ends:
        with desk.db.transaction() as session:
            claimed = deliveries.claim(session, channel, desk.settings, desk.clock.now())
        if claimed is None:
            break
        _attempt(desk, claimed)
        attempts += 1
    return attempts


def _attempt(desk: Desk, claimed: Claim) -> None:
    try:
        provider_id = _send(desk, claimed)
    except ProviderFailure as failure:
        outcome = deliveries.OUTCOMES[type(failure)]
        log.warning(
            "delivery.not_sent",
            delivery_id=str(claimed.delivery_id),
            channel=claimed.channel,
            outcome=outcome,
            code=failure.code,
        )
        with desk.db.transaction() as session:
            deliveries.record_failed(session, claimed, failure, desk.settings, desk.clock.now())
    else:
        outcome = "sent"
        with desk.db.transaction() as session:
            deliveries.record_sent(session, claimed, provider_id, desk.clock.now())
    metrics.deliveries.labels(NAME, claimed.channel, outcome).inc()


def _send(desk: Desk, claimed: Claim) -> str | None:
    provider = desk.providers.get(claimed.channel)
    if provider is None:
        raise NotSendable("channel_not_set_up", "this installation does not send through this channel")
    message = _message(desk, claimed)
    return provider.send(message)


def _message(desk: Desk, claimed: Claim) -> Message:
    """The message of a delivery. Raises ProviderFailure when there is no address, or no telling of it now."""
    try:
        if claimed.channel is Channel.EMAIL:
            return _mail(desk, claimed)
    except AppError as error:
        # Another room is away: nothing was sent, and nothing is wrong with the message.
        raise Unreachable(f"peer_{error.code}", error.detail) from None
    address, said = _address(desk, claimed), _words(desk, claimed)
    subject = tuple(sorted(claimed.subject.items()))
    return Message(claimed.delivery_id, address, said.title, said.text, subject=subject)


def _address(desk: Desk, claimed: Claim) -> str:
    if claimed.channel is Channel.CHAT and claimed.contact_id == NOBODY:
        address: str | None = desk.settings.operators_chat.get_secret_value() or None
    else:
        with desk.db.transaction() as session:
            address = contact_points.opened(session, desk.sealer, claimed.contact_id)
    if address is None:
        raise NotSendable("no_address", "the contact point is gone")
    return address


def _words(desk: Desk, claimed: Claim) -> Words:
    data = claimed.data
    if claimed.kind is Kind.CONTACT_VERIFICATION and desk.sealer is not None:
        data = {**data, "code": contact_points.code_of(desk.sealer, claimed.contact_id, data["number"])}
    return words_of(claimed.kind, data)


def _mail(desk: Desk, claimed: Claim) -> Message:
    contact = desk.directory.contact(claimed.user_id, _next_in_line(desk))
    if contact is None:
        raise NotSendable("no_account", "there is no active account")
    if not contact.is_verified and claimed.kind not in TO_ANY_ADDRESS:
        raise NotSendable("address_not_verified", "the user has not verified the address")
    action = None
    if claimed.kind in _ACTIONS:
        token = desk.directory.mail_token(UUID(claimed.data["mail_token_id"]))
        if token is None:
            raise NotSendable("token_gone", "the token was used or is too old")
        label, page = _ACTIONS[claimed.kind]
        # After the #: a browser does not send it, so it is in no server's log.
        action = (label, f"{desk.settings.web_url}/{page}#token={token}")
    mail = mail_of(claimed.kind, claimed.data, name=contact.full_name, web_url=desk.settings.web_url, action=action)
    return Message(claimed.delivery_id, contact.email, mail.subject, mail.text, mail)


def _next_in_line(desk: Desk) -> list[UUID]:
    statement = (
        sa.select(Delivery.user_id)
        .where(
            Delivery.channel == Channel.EMAIL,
            Delivery.status == Status.QUEUED,
            ~Delivery.digest,
            Delivery.due_at <= desk.clock.now() + timedelta(seconds=1),
        )
        .order_by(Delivery.due_at)
        .limit(NEAR)
    )
    with desk.db.transaction() as session:
        return list(session.scalars(statement))
