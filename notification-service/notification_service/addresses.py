"""What users give as an address, checked and brought into one spelling: phones, devices, browsers, chats. Pure but for
Apprise's reading of chat addresses, which does no I/O."""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from notification_service import masking
from notification_service.kinds import Channel
from notification_service.providers.chat import ChatNotAllowed, parse_chat

ADDRESS_LENGTH_MAX = 2_000
_PHONE = re.compile(r"\+[1-9]\d{7,14}\Z")
_INDIAN_MOBILE = re.compile(r"[6-9]\d{9}\Z")
_DEVICE_TOKEN = re.compile(r"[A-Za-z0-9:_-]{20,1024}\Z")
_KEY = re.compile(r"[A-Za-z0-9_-]{16,128}={0,2}\Z")


class AddressNotUsable(ValueError):
    """Not an address of this channel; the text says what one looks like."""


def canonical(
    channel: Channel, address: str, *, push_hosts: Iterable[str], webhook_hosts: Iterable[str], plain_http: bool
) -> str:
    """The one spelling of an address; raises AddressNotUsable."""
    if channel is Channel.SMS:
        return _phone(address)
    if channel is Channel.PUSH:
        if not _DEVICE_TOKEN.match(address):
            raise AddressNotUsable("a device token is what Firebase Messaging gives the app")
        return address
    if channel is Channel.WEB_PUSH:
        return _subscription(address, push_hosts)
    if channel is Channel.CHAT:
        try:
            parse_chat(address, webhook_hosts=webhook_hosts, plain_http=plain_http)
        except ChatNotAllowed as error:
            raise AddressNotUsable(str(error)) from None
        return address
    raise AddressNotUsable("the e-mail address belongs to the account and is changed there")


def masked(channel: Channel, address: str) -> str:
    """What of an address is shown again."""
    if channel is Channel.SMS:
        return masking.phone(address)
    if channel is Channel.WEB_PUSH:
        return str(urlsplit(json.loads(address)["endpoint"]).hostname)
    return masking.url(address) if channel is Channel.CHAT else masking.ending(address)


def _phone(given: str) -> str:
    digits = re.sub(r"[ ().-]", "", given)
    if _INDIAN_MOBILE.match(digits):
        digits = f"+91{digits}"
    if not _PHONE.match(digits):
        raise AddressNotUsable("a phone number looks like +919876543210")
    return digits


def _subscription(given: str, hosts: Iterable[str]) -> str:
    wrong = AddressNotUsable("a subscription is the JSON of the browser's PushSubscription")
    try:
        read: Any = json.loads(given)
        endpoint, keys = read["endpoint"], {name: read["keys"][name] for name in ("p256dh", "auth")}
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise wrong from None
    if not all(isinstance(value, str) and _KEY.match(value) for value in keys.values()):
        raise wrong
    if parts.scheme != "https" or port not in (None, 443) or parts.username is not None or not _is_at(host, hosts):
        raise AddressNotUsable("the subscription is not at a push service that this platform sends to")
    return json.dumps({"endpoint": endpoint, "keys": keys}, sort_keys=True)


def _is_at(host: str | None, hosts: Iterable[str]) -> bool:
    return host is not None and any(host.endswith(one) if one.startswith(".") else host == one for one in hosts)
