"""What this room asks user-service: addresses, administrators, and the single-use tokens that mails carry."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from common.http import PeerRefused, ServiceClient

CONTACT_CACHE_S = 30.0
CONTACTS_KEPT_MAX = 5_000
IDS_PER_REQUEST_MAX = 100


@dataclass(frozen=True)
class Contact:
    """Where a user's mail goes."""

    user_id: UUID
    email: str
    is_verified: bool
    full_name: str


class Directory(Protocol):
    """Who users are. Every call may raise PeerUnavailable."""

    def contact(self, user_id: UUID, near: Iterable[UUID] = ()) -> Contact | None:
        """A user's address, None without an active account; those of `near` may be fetched with it."""
        ...

    def admins(self) -> list[UUID]:
        """Who holds the role admin now."""
        ...

    def mail_token(self, token_id: UUID) -> str | None:
        """The token a mail carries; None when it was used or is too old."""
        ...


class UserDirectory:
    """Directory over HTTP; verified addresses are remembered for a moment. Thread-safe."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._contacts: OrderedDict[UUID, tuple[float, Contact]] = OrderedDict()

    def contact(self, user_id: UUID, near: Iterable[UUID] = ()) -> Contact | None:
        known = self._fresh(user_id)
        if known is not None:
            return known
        others = (one for one in near if self._fresh(one) is None)
        wanted = list(dict.fromkeys([user_id, *others]))[:IDS_PER_REQUEST_MAX]
        found = self._ask(wanted)
        now = time.monotonic()
        with self._lock:
            for one in found.values():
                # Whoever has just verified an address must not be told that it is not.
                if one.is_verified:
                    self._contacts.pop(one.user_id, None)
                    self._contacts[one.user_id] = (now, one)
            while len(self._contacts) > CONTACTS_KEPT_MAX:
                self._contacts.popitem(last=False)
        return found.get(user_id)

    def admins(self) -> list[UUID]:
        answer = self._client.get("/internal/v1/role-holders", params={"role": "admin"})
        return [UUID(one) for one in answer["user_ids"]]

    def mail_token(self, token_id: UUID) -> str | None:
        try:
            return str(self._client.get(f"/internal/v1/mail-tokens/{token_id}")["token"])
        except PeerRefused as error:
            if error.status == 404:
                return None
            raise

    def _fresh(self, user_id: UUID) -> Contact | None:
        with self._lock:
            known = self._contacts.get(user_id)
        if known is None or time.monotonic() - known[0] > CONTACT_CACHE_S:
            return None
        return known[1]

    def _ask(self, user_ids: list[UUID]) -> Mapping[UUID, Contact]:
        answer = self._client.get("/internal/v1/contacts", params=[("user_id", str(one)) for one in user_ids])
        contacts = [
            Contact(UUID(row["user_id"]), row["email"], row["email_verified"], row["full_name"])
            for row in answer["contacts"]
        ]
        return {contact.user_id: contact for contact in contacts}
