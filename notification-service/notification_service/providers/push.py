"""Push to phones by FCM (HTTP v1 with a service account), and to browsers by Web Push (RFC 8030, VAPID).

Both name a message by its delivery: a phone or browser that gets a repeat shows it in the place of the first one.
"""

import json
from collections.abc import Mapping
from typing import Any

import google.auth.exceptions
import google.auth.transport.requests
import httpx
import pywebpush
import requests
from google.oauth2 import service_account

from notification_service.providers.base import (
    Message,
    OutcomeUnknown,
    ProviderFailure,
    Refused,
    Unreachable,
    judge_status,
)
from notification_service.providers.sms import connection_failure

FCM_URL = "https://fcm.googleapis.com"
FCM_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
TEXT_LENGTH_MAX = 1_000
"""FCM takes 4,096 bytes of payload, a push service must take 4,096 (RFC 8030, 7.2)."""
TTL_S = 24 * 3600


class _Session(requests.Session):
    """Requests with a bound on waiting, for the library that fetches access tokens."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self.trust_env = False
        self.max_redirects = 0

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = self._timeout_s
        return super().request(*args, **kwargs)


class FcmPush:
    """Sends to device tokens of Android and iOS apps."""

    def __init__(self, credentials: Mapping[str, Any], *, base_url: str, timeout_s: float) -> None:
        """`credentials`: the JSON of a service account. Raises ValueError when it is none."""
        self._credentials = service_account.Credentials.from_service_account_info(credentials, scopes=[FCM_SCOPE])
        self._path = f"/v1/projects/{self._credentials.project_id}/messages:send"
        self._client = httpx.Client(base_url=base_url, timeout=timeout_s, follow_redirects=False, trust_env=False)
        self._token_session = _Session(timeout_s)

    def send(self, message: Message) -> str | None:
        headers = {"Authorization": f"Bearer {self._access_token()}"}
        try:
            answer = self._client.post(self._path, json={"message": fcm_message(message)}, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreachable("not_connected", type(error).__name__) from None
        except httpx.TransportError as error:
            raise OutcomeUnknown("no_answer", type(error).__name__) from None
        if answer.is_success:
            return _name_of(answer)
        raise _fcm_judged(answer)

    def close(self) -> None:
        self._client.close()
        self._token_session.close()

    def _access_token(self) -> str:
        if not self._credentials.valid:
            try:
                self._credentials.refresh(google.auth.transport.requests.Request(session=self._token_session))
            except google.auth.exceptions.GoogleAuthError as error:
                raise Unreachable("no_access_token", type(error).__name__) from None
        return str(self._credentials.token)


def fcm_message(message: Message) -> dict[str, Any]:
    """The body of FCM's HTTP v1 `messages:send`."""
    name = str(message.delivery_id)
    return {
        "token": message.to,
        "notification": {"title": message.title, "body": message.text[:TEXT_LENGTH_MAX]},
        "data": {"delivery_id": name, **dict(message.subject)},
        "android": {"collapse_key": name, "notification": {"tag": name}},
        "apns": {"headers": {"apns-collapse-id": name}},
    }


def _name_of(answer: httpx.Response) -> str | None:
    try:
        return str(answer.json()["name"])
    except (ValueError, KeyError, TypeError):
        return None


def _fcm_judged(answer: httpx.Response) -> ProviderFailure:
    try:
        error = answer.json()["error"]
        details = [one.get("errorCode") for one in error.get("details", ()) if one.get("errorCode")]
        reason = str(details[0] if details else error.get("status", "UNKNOWN"))
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = "UNKNOWN"
    code, detail = f"fcm_{reason.lower()}", f"FCM answered {answer.status_code}"
    if reason == "UNREGISTERED":
        return Refused(code, detail, gone=True)
    return Refused(code, detail) if answer.status_code == 404 else judge_status(answer.status_code, code, detail)


class WebPush:
    """Sends to subscriptions of browsers."""

    def __init__(self, *, private_key: str, subject: str, timeout_s: float) -> None:
        """`private_key`: of the VAPID pair, base64url or PEM; `subject`: a mailto: or https: address of the operator."""
        self._private_key = private_key
        self._subject = subject
        self._session = _Session(timeout_s)

    def send(self, message: Message) -> str | None:
        payload = {
            "title": message.title,
            "body": message.text[:TEXT_LENGTH_MAX],
            "tag": str(message.delivery_id),
            "data": dict(message.subject),
        }
        try:
            answer = pywebpush.webpush(
                json.loads(message.to),
                data=json.dumps(payload),
                vapid_private_key=self._private_key,
                vapid_claims={"sub": self._subject},
                ttl=TTL_S,
                # RFC 8030, 5.4: a repeat replaces what has not been fetched yet. At most 32 characters.
                headers={"Topic": message.delivery_id.hex},
                requests_session=self._session,
            )
        except pywebpush.WebPushException as error:
            raise _web_push_judged(error) from None
        except requests.ConnectTimeout as error:
            raise Unreachable("not_connected", type(error).__name__) from None
        except requests.TooManyRedirects:
            raise Refused("redirected", "a push service must not redirect", gone=True) from None
        except requests.ConnectionError as error:
            raise connection_failure(error) from None
        except requests.RequestException as error:
            raise OutcomeUnknown("no_answer", type(error).__name__) from None
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("subscription_invalid", type(error).__name__, gone=True) from None
        return answer.headers.get("Location") if isinstance(answer, requests.Response) else None

    def close(self) -> None:
        self._session.close()


def _web_push_judged(error: pywebpush.WebPushException) -> ProviderFailure:
    if error.response is None:
        return Refused("subscription_invalid", "the subscription cannot be used", gone=True)
    status = error.response.status_code
    return judge_status(status, f"web_push_{status}", f"the push service answered {status}")
