"""How an account stands at user-service: asked when somebody other than its owner acts for it.

The owner's own requests carry their standing in the token; an administrator's token says nothing about the user.
"""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from common.errors import NotFound
from common.http import PeerRefused, ServiceClient


class UserNotFound(NotFound):
    """There is no account with this id."""


@dataclass(frozen=True)
class Standing:
    """The state of an account (`active`, `suspended`, `closed`) and of its KYC."""

    status: str
    kyc: str


class Standings(Protocol):
    """Whoever knows accounts."""

    def of(self, user_id: UUID) -> Standing:
        """The account's standing now; raises UserNotFound."""
        ...


class StandingClient:
    """Asks user-service, anew every time: an administrator's act is rare and must see what holds now."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def of(self, user_id: UUID) -> Standing:
        """The account's standing now; raises UserNotFound and what ServiceClient raises."""
        try:
            answer = self._client.get(f"/internal/v1/standing/{user_id}")
        except PeerRefused as refused:
            if refused.status == UserNotFound.status:
                raise UserNotFound("There is no user with this id.") from None
            raise
        return Standing(answer["status"], answer["kyc"])
