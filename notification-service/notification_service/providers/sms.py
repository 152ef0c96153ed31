"""SMS by Twilio: sending through its library, and the check of what calls back in its name.

Twilio knows no idempotency key. Every message carries its delivery in the address of the status callback, so a message
whose answer was lost is found again by its first callback.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import requests
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from notification_service.providers.base import (
    Message,
    OutcomeUnknown,
    ProviderFailure,
    Refused,
    Unreachable,
    judge_status,
)

TWILIO_URL = "https://api.twilio.com"
CALLBACK_PATH = "/api/v1/notifications/callbacks/twilio"
TEXT_LENGTH_MAX = 480
"""Three segments of an SMS in Unicode are 201 characters; this bounds what one message may cost."""
BAD_NUMBERS = frozenset({21211, 21214, 21217, 21219, 21610, 21612, 21614})
"""Twilio's codes of a number that cannot be sent to (invalid, not a mobile, opted out): www.twilio.com/docs/api/errors."""


class _Http(TwilioHttpClient):
    """Twilio's client with our waits, and at another address where one is set."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s)
        self._base_url = base_url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:
        return super().request(method, url.replace(TWILIO_URL, self._base_url, 1), *args, **kwargs)


def callback_url(public_url: str, delivery_id: UUID) -> str:
    """Where Twilio tells what became of a delivery."""
    return f"{public_url}{CALLBACK_PATH}?{urlencode({'delivery': str(delivery_id)})}"


class TwilioSms:
    """Sends SMS."""

    def __init__(
        self, *, account_sid: str, auth_token: str, sender: str, public_url: str, base_url: str, timeout_s: float
    ) -> None:
        http = _Http(base_url, timeout_s)
        self._client = Client(account_sid, auth_token, http_client=http)
        self._session = http.session
        self._sender = sender
        self._public_url = public_url

    def send(self, message: Message) -> str | None:
        text = message.text if message.title in message.text else f"{message.title}. {message.text}"
        try:
            sent = self._client.messages.create(
                to=message.to,
                from_=self._sender,
                body=text[:TEXT_LENGTH_MAX],
                status_callback=callback_url(self._public_url, message.delivery_id),
            )
        except TwilioRestException as error:
            raise _judged(error) from None
        except (requests.ConnectTimeout, requests.exceptions.InvalidURL) as error:
            raise Unreachable("not_connected", type(error).__name__) from None
        except requests.ConnectionError as error:
            raise connection_failure(error) from None
        except (requests.RequestException, TwilioException, ValueError) as error:
            raise OutcomeUnknown("no_answer", type(error).__name__) from None
        return sent.sid

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def _judged(error: TwilioRestException) -> ProviderFailure:
    code, detail = f"twilio_{error.code or error.status}", f"Twilio answered {error.status} with code {error.code}"
    if error.code in BAD_NUMBERS:
        return Refused(code, detail, gone=True)
    return Refused(code, detail) if error.status == 404 else judge_status(error.status, code, detail)


def connection_failure(error: requests.ConnectionError) -> ProviderFailure:
    """Whether a broken connection was never made (nothing was sent) or broke later."""
    if "NewConnectionError" in repr(error) or "Failed to establish" in str(error) or "NameResolution" in repr(error):
        return Unreachable("not_connected", type(error).__name__)
    return OutcomeUnknown("no_answer", type(error).__name__)


def is_authentic(auth_token: str, url: str, params: Mapping[str, str], signature: str) -> bool:
    """Whether a callback was signed with our account's token (X-Twilio-Signature)."""
    return bool(RequestValidator(auth_token).validate(url, dict(params), signature))
