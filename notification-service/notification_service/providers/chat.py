"""Telegram, Slack, Discord and webhooks by Apprise, which already speaks to them.

Addresses come from users, so only services with a fixed host are taken, and webhooks only for hosts that the operator has
named; parameters and redirects are refused, because either could point somewhere else.
"""

import logging
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import apprise
from apprise.plugins.base import NotifyBase

from notification_service.providers.base import Message, OutcomeUnknown, ProviderFailure, Unreachable, judge_status

FIXED_HOSTS = frozenset({"tgram", "slack", "discord"})
"""Schemas whose messages go to one host that the address cannot change."""
WEBHOOKS = frozenset({"json", "jsons"})
ADDRESS_LENGTH_MAX = 500
_STATUS = re.compile(r"error=(\d{3})\b")
_NEVER_SENT = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError")
# Its lines tell why a message was not sent, and can hold addresses with secrets: they come back with the result and go
# nowhere else.
_LOGGER = logging.getLogger("apprise")
_LOGGER.setLevel(logging.DEBUG)
_LOGGER.propagate = False
_LOGGER.addHandler(logging.NullHandler())


class ChatNotAllowed(ValueError):
    """The address is not of a service that messages may go to."""


def _asset() -> apprise.AppriseAsset:
    return apprise.AppriseAsset(http_redirects=False, async_mode=False, plugin_paths=[], secure_logging=True)


def parse_chat(address: str, *, webhook_hosts: Iterable[str] = (), plain_http: bool = False) -> NotifyBase:
    """Apprise's service of an address; raises ChatNotAllowed with the reason for people.

    `plain_http` permits `json://` (without TLS) for the named webhook hosts: development only.
    """
    if len(address) > ADDRESS_LENGTH_MAX or not address.isascii() or any(c.isspace() for c in address):
        raise ChatNotAllowed(f"an address has at most {ADDRESS_LENGTH_MAX} ASCII characters and no spaces")
    if "?" in address:
        raise ChatNotAllowed("an address has no parameters")
    parts = urlsplit(address)
    if parts.scheme in WEBHOOKS:
        if parts.hostname not in set(webhook_hosts):
            raise ChatNotAllowed("webhooks go only to hosts that the operator has named")
        if parts.scheme == "json" and not plain_http:
            raise ChatNotAllowed("a webhook needs TLS: jsons://")
    elif parts.scheme not in FIXED_HOSTS:
        raise ChatNotAllowed(f"use one of: {', '.join(sorted(FIXED_HOSTS))}, jsons")
    service = apprise.Apprise.instantiate(address, asset=_asset(), suppress_exceptions=True)
    if not isinstance(service, NotifyBase):
        raise ChatNotAllowed("the address is not complete; see the service's page at github.com/caronc/apprise/wiki")
    # Two readers of one address could see two hosts in it; what counts is where Apprise would send.
    if parts.scheme in WEBHOOKS and (service.host or "").lower() != parts.hostname:
        raise ChatNotAllowed("webhooks go only to hosts that the operator has named")
    return service


class ChatMessages:
    """Sends to chats and webhooks."""

    def __init__(self, *, webhook_hosts: Iterable[str], plain_http: bool, timeout_s: float) -> None:
        self._webhook_hosts = tuple(webhook_hosts)
        self._plain_http = plain_http
        self._timeout_s = timeout_s

    def send(self, message: Message) -> str | None:
        try:
            # Judged again with every message: the operator may have taken a host away.
            service = parse_chat(message.to, webhook_hosts=self._webhook_hosts, plain_http=self._plain_http)
        except ChatNotAllowed as error:
            raise judge_status(410, "chat_not_allowed", str(error)) from None
        service.socket_connect_timeout = service.socket_read_timeout = self._timeout_s
        sender = apprise.Apprise(asset=_asset())
        sender.add(service)
        result = sender.notify(
            body=message.text,
            title=message.title,
            body_format=apprise.NotifyFormat.TEXT,
            log_level=logging.DEBUG,
        )
        if not result:
            raise _judged([str(entry.message) for entry in result.logs()])
        return None

    def close(self) -> None:
        """Nothing is kept open."""


def _judged(lines: list[str]) -> ProviderFailure:
    """What went wrong, from the only place where Apprise says so."""
    text = "\n".join(lines)
    status = _STATUS.search(text)
    if status is not None:
        return judge_status(int(status[1]), f"chat_{status[1]}", f"the chat service answered {status[1]}")
    if any(sign in text for sign in _NEVER_SENT):
        return Unreachable("not_connected", "the chat service was not reached")
    return OutcomeUnknown("no_answer", "the chat service did not answer")
