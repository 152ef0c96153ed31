"""The collaborators of this room's use cases, made once per process by `create_app`."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from common.auth import AccessTokens
from common.clock import Clock
from common.db import Database
from user_service.account_states import needs_second_factor
from user_service.config import Settings
from user_service.hashing import PasswordHashing
from user_service.keys import SigningKeys
from user_service.sealing import Sealer
from user_service.sessions import Opened
from user_service.tokens import TokenPair, issue_access_token


@dataclass(frozen=True)
class Room:
    """Lives on `app.state.room`."""

    settings: Settings
    db: Database
    clock: Clock
    keys: SigningKeys
    sealer: Sealer
    hashing: PasswordHashing
    access_tokens: AccessTokens

    def now(self) -> datetime:
        """The current instant."""
        return self.clock.now()

    @property
    def refresh_lifetime(self) -> timedelta:
        """How long a refresh token may wait to be used."""
        return timedelta(days=self.settings.refresh_token_days)

    def must_enrol(self, roles: frozenset[str], mfa: bool) -> bool:
        """Whether a session may do nothing but set up its second factor."""
        return not mfa and needs_second_factor(roles, mandatory=self.settings.admin_needs_totp)

    def token_pair(self, opened: Opened) -> TokenPair:
        """Sign the access token of an opened or refreshed session (after its transaction has committed)."""
        lifetime = timedelta(minutes=self.settings.access_token_minutes)
        return TokenPair(
            access_token=issue_access_token(self.keys, opened.identity, now=self.now(), lifetime=lifetime),
            refresh_token=opened.refresh_token,
            expires_in=int(lifetime.total_seconds()),
            totp_setup_required=self.must_enrol(frozenset(opened.identity.roles), opened.identity.mfa),
        )
