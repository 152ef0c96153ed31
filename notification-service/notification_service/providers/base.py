"""A message to hand over, and what can become of it.

The difference that matters is whether the provider may have taken a message. Only `Refused`, `Busy` and `Unreachable` say
that it has not; everything else that goes wrong after the request was written is `OutcomeUnknown`.
"""

import re
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from notification_service.wording import Mail

DETAIL_LENGTH_MAX = 300
_SECRETS = re.compile(r"(?i)\b(bearer|basic|bot\d+:)\s*\S+|[A-Za-z0-9_-]{24,}")


@dataclass(frozen=True)
class Message:
    """What goes to one place. `delivery_id` is the same in every attempt: providers that can, know a repeat by it."""

    delivery_id: UUID
    to: str
    title: str
    text: str
    mail: Mail | None = None
    subject: tuple[tuple[str, str], ...] = ()


class ProviderFailure(Exception):
    """A message was not handed over; `code` is stable, the text is for operators and holds no secret."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = _SECRETS.sub("[redacted]", detail)[:DETAIL_LENGTH_MAX]


class Refused(ProviderFailure):
    """The provider will never take this message; `gone`: nor any other for this address."""

    def __init__(self, code: str, detail: str, *, gone: bool = False) -> None:
        super().__init__(code, detail)
        self.gone = gone


class NotSendable(Refused):
    """The message cannot go out, which is known without asking the provider."""


class Busy(ProviderFailure):
    """The provider answered that it does not take it now."""


class Unreachable(ProviderFailure):
    """The provider was not reached: nothing was sent."""


class OutcomeUnknown(ProviderFailure):
    """The request went out and no answer came back: it may have been taken."""


class Provider(Protocol):
    """One way out."""

    def send(self, message: Message) -> str | None:
        """Hand a message over, in bounded time; answers the provider's id of it.

        Raises a ProviderFailure.
        """
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def judge_status(status: int, code: str, detail: str) -> ProviderFailure:
    """What an HTTP status other than 2xx means for a message."""
    if status in (404, 410):
        return Refused(code, detail, gone=True)
    # Our own credentials are wrong: people have to act, but the message is good.
    if status in (401, 403, 408, 425, 429) or status >= 500:
        return Busy(code, detail)
    return Refused(code, detail)
