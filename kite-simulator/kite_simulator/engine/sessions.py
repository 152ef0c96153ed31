"""Login and tokens (Kite docs, user)."""

import hashlib
import hmac
from datetime import timedelta

from kite_simulator.engine.clock import token_expiry
from kite_simulator.engine.dice import FaultDice
from kite_simulator.engine.errors import REQUEST_TOKEN_INVALID, Refused, token_error
from kite_simulator.engine.faults import FaultKind
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.state import Session
from kite_simulator.engine.streams import stream

TOKEN_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"  # noqa: S105 - an alphabet


def checksum(*parts: str) -> str:
    """hex(SHA256) of the plain concatenation, UTF-8."""
    return hashlib.sha256("".join(parts).encode()).hexdigest()


class Sessions:
    """Request tokens and access tokens; several access tokens may live at once."""

    def __init__(self, kernel: Kernel, dice: FaultDice) -> None:
        self._kernel = kernel
        self._dice = dice

    def issue_request_token(self) -> str:
        """A single-use token that lives a few minutes."""
        kernel = self._kernel
        token = self._new_token("request")
        expires_at = kernel.time + timedelta(seconds=kernel.settings.request_token_ttl_s)
        kernel.record("request_token_issued", request_token=token, expires_at=expires_at.isoformat())
        return token

    def open(self, api_key: str, request_token: str, given_checksum: str) -> Session:
        """Exchange a request token; raises Refused (TokenException) for anything stale or forged."""
        kernel = self._kernel
        settings = kernel.settings
        expires_at = kernel.state.request_tokens.get(request_token)
        expected = checksum(settings.api_key, request_token, settings.api_secret)
        if api_key != settings.api_key:
            raise Refused("Invalid `api_key`.", "InputException", 400)
        if expires_at is None or expires_at <= kernel.time:
            raise Refused(REQUEST_TOKEN_INVALID, "TokenException", 403)
        if not hmac.compare_digest(expected, given_checksum):
            raise Refused("Invalid `checksum`.", "TokenException", 403)
        access_token = self._new_token("access")
        kernel.record(
            "session_opened",
            request_token=request_token,
            access_token=access_token,
            public_token=self._new_token("public"),
            expires_at=token_expiry(kernel.time).isoformat(),
        )
        return kernel.state.sessions[access_token]

    def check(self, api_key: str, access_token: str) -> Session:
        """The live session; raises Refused (TokenException 403)."""
        session = self._kernel.state.sessions.get(access_token)
        if (
            session is None
            or api_key != self._kernel.settings.api_key
            or session.expires_at <= self._kernel.clock.now()
        ):
            raise token_error()
        return session

    def close(self, access_token: str) -> None:
        """End a session; an unknown token is no error."""
        if access_token in self._kernel.state.sessions:
            self._kernel.record("session_closed", access_token=access_token)

    def kill(self, access_token: str, endpoint: str) -> None:
        """A login elsewhere ends this session in the middle of the day; an unknown token is no error."""
        kernel = self._kernel
        if access_token in kernel.state.sessions:
            self._dice.note(FaultKind.TOKEN_KILLED, endpoint=endpoint)
            self.close(access_token)

    def adopt(self, access_token: str) -> None:
        """Make a token of the caller's choice valid (for clients that are configured with a fixed token)."""
        kernel = self._kernel
        if access_token not in kernel.state.sessions:
            kernel.record(
                "session_opened",
                request_token="",
                access_token=access_token,
                public_token=self._new_token("public"),
                expires_at=token_expiry(kernel.time).isoformat(),
            )

    def _new_token(self, purpose: str) -> str:
        settings, state = self._kernel.settings, self._kernel.state
        rng = stream(settings.seed, f"token/{purpose}/{state.tokens_ever}/{self._kernel.time.isoformat()}")
        return "".join(rng.choices(TOKEN_ALPHABET, k=32))
