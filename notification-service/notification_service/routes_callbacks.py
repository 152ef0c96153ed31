"""What providers tell about messages they have taken. Everything is signed; what is not is refused."""

from typing import Annotated
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request

from common.db import SessionDep
from common.dependencies import ClockDep
from common.errors import AppError, Forbidden
from common.logging import get_logger
from notification_service import deliveries
from notification_service.delivery_states import Status
from notification_service.dependencies import SettingsDep
from notification_service.providers.sms import CALLBACK_PATH, callback_url, is_authentic
from notification_service.schemas import CallbackAnswer

log = get_logger(__name__)

BODY_BYTES_MAX = 16 * 1024
FIELDS_MAX = 100
_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.DELIVERED,
    "undelivered": Status.FAILED,
    "failed": Status.FAILED,
}
"""Twilio's words that end something; queued, accepted and sending are steps before."""

router = APIRouter(tags=["callbacks"])


class CallbackTooLarge(AppError):
    """Larger than any callback; not read."""

    status = 413


class CallbackNotAuthentic(Forbidden):
    """The signature is not our account's."""


class CallbackNotUnderstood(AppError):
    """Signed, and yet not a status callback."""


async def _raw_body(request: Request) -> bytes:
    """The body as it came: the signature is over its fields. Reading stops at the limit."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise CallbackTooLarge(f"A callback has at most {BODY_BYTES_MAX} bytes.")
        parts.append(part)
    return b"".join(parts)


@router.post(CALLBACK_PATH)
def twilio_status(
    delivery: Annotated[UUID, Query(description="The delivery that the message was sent for.")],
    body: Annotated[bytes, Depends(_raw_body)],
    session: SessionDep,
    settings: SettingsDep,
    clock: ClockDep,
    x_twilio_signature: Annotated[str, Header(max_length=200)] = "",
) -> CallbackAnswer:
    """Twilio's status callback: form fields MessageSid and MessageStatus, signed with the account's token."""
    token = settings.twilio_auth_token.get_secret_value()
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=False, max_num_fields=FIELDS_MAX))
    except ValueError:
        fields = {}
    # Without a token of ours every signature is somebody else's.
    if not token or not is_authentic(token, callback_url(settings.public_url, delivery), fields, x_twilio_signature):
        log.warning("callback.forged", delivery_id=str(delivery))
        raise CallbackNotAuthentic("The signature is not valid.")
    sid, told = fields.get("MessageSid", ""), fields.get("MessageStatus", "")
    if not sid or not told:
        raise CallbackNotUnderstood("A status callback has MessageSid and MessageStatus.")
    target = _STATUSES.get(told)
    if target is not None:
        code = f"twilio_{fields['ErrorCode']}" if fields.get("ErrorCode", "").isdigit() else f"twilio_{told}"
        news = deliveries.reported(
            session, delivery, sid, target, clock.now(), code=code if target is Status.FAILED else None
        )
        log.info("callback.applied" if news else "callback.repeat", delivery_id=str(delivery), status=told)
    return CallbackAnswer()
