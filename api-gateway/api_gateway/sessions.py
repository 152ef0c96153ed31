"""Is a session still alive? An access token says so until it expires; user-service may have ended it meanwhile.

Each session is asked about at most once per window, so a logout reaches every gateway within that window without a
question per request. When user-service does not answer, the token stays good until its own expiry: the door would
otherwise close for everybody whenever one room restarts, and an access token lives minutes.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol
from uuid import UUID

from starlette.types import ASGIApp

from api_gateway.counters import session_checks
from api_gateway.upstream import get
from common.auth import ServiceIdentity
from common.clock import Clock
from common.errors import AppError
from common.logging import get_logger

log = get_logger(__name__)

SESSIONS_MAX = 50_000
CHECK_TIMEOUT_S = 1.0
AUDIENCE = "user-service"


class SessionCheck(Protocol):
    """Tells whether a session was ended."""

    async def active(self, session_id: UUID) -> bool:
        """False once the session was ended; True when it lives or nobody can tell."""
        ...


class UserServiceSessions:
    """Asks user-service, once per `ttl_s` seconds and session; simultaneous askers share the question."""

    def __init__(
        self,
        user_service: ASGIApp,
        identity: ServiceIdentity,
        clock: Clock,
        *,
        ttl_s: float,
        keys_max: int = SESSIONS_MAX,
    ) -> None:
        self._user_service = user_service
        self._identity = identity
        self._clock = clock
        self._ttl_s = ttl_s
        self._keys_max = keys_max
        self._known: OrderedDict[UUID, tuple[float, bool]] = OrderedDict()
        self._asking: dict[UUID, asyncio.Task[bool]] = {}

    async def active(self, session_id: UUID) -> bool:
        known = self._known.get(session_id)
        if known is not None:
            checked_at, active = known
            # An ended session never comes back, so it is not asked about again.
            if not active or self._clock.now().timestamp() < checked_at + self._ttl_s:
                return active
        question = self._asking.get(session_id)
        if question is None:
            question = self._asking[session_id] = asyncio.create_task(self._ask(session_id))
        return await asyncio.shield(question)

    async def _ask(self, session_id: UUID) -> bool:
        try:
            active = await self._answer(session_id)
            self._known[session_id] = (self._clock.now().timestamp(), active)
            self._known.move_to_end(session_id)
            if len(self._known) > self._keys_max:
                self._known.popitem(last=False)
            return active
        finally:
            del self._asking[session_id]

    async def _answer(self, session_id: UUID) -> bool:
        # Signing a fresh token takes tens of milliseconds of CPU, too long for the event loop.
        token = await asyncio.to_thread(self._identity.token, AUDIENCE)
        try:
            answer = await get(
                self._user_service,
                f"/internal/v1/sessions/{session_id}",
                headers=[(b"host", b"user-service"), (b"authorization", f"Bearer {token}".encode())],
                timeout_s=CHECK_TIMEOUT_S,
            )
        except AppError as error:
            return self._unknown(error.code)
        if answer.status == 404:
            session_checks.labels("api-gateway", "unknown_session").inc()
            return False
        if answer.status != 200:
            return self._unknown(f"status_{answer.status}")
        try:
            active = answer.json()["active"] is True
        except (ValueError, KeyError, TypeError):
            return self._unknown("not_understood")
        session_checks.labels("api-gateway", "active" if active else "ended").inc()
        return active

    def _unknown(self, reason: str) -> bool:
        session_checks.labels("api-gateway", "unanswered").inc()
        log.warning("session.check_unanswered", reason=reason)
        return True
