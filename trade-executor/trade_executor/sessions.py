"""The broker accounts and their daily sessions: who may speak to the broker, with which token, until when.

A dead session (BLIND) stops nothing but the calls: orders wait in the pool and go out after the next login. The API
secret and access tokens are sealed in the database and never logged.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from common import audit
from common.audit import Actor
from common.clock import Clock, trading_date
from common.config import InvalidSettings
from common.db import Database
from common.errors import Conflict, NotFound, Unavailable
from common.logging import get_logger
from common.sealing import Sealer
from trade_executor import control
from trade_executor.brokers.base import Broker, BrokerReadFailed, BrokerSessionExpired
from trade_executor.brokers.kite import KiteBroker
from trade_executor.brokers.session import exchange_request_token, login_url, simulator_request_token
from trade_executor.config import SERVICE, Settings
from trade_executor.models import BrokerAccount, BrokerSession

log = get_logger(__name__)

AUTO_LOGIN = "auto-login"
SYSTEM = Actor("system", SERVICE)
FRESH_S = 0.5
"""How long a process uses a session without looking at its row; a dead one is told by the broker anyway."""


class LoginRefused(Conflict):
    """The broker did not accept the request token: used, too old, or of another app. Log in again."""


class LiveTradingNotAllowed(Conflict):
    """Live trading needs ALLOW_LIVE_TRADING=true and the stored attestation of the account's owner."""


class BrokerUnreachable(Unavailable):
    """The broker did not answer; try again shortly."""


def sealer_from(settings: Settings) -> Sealer:
    """The sealer of a process; raises InvalidSettings when there is no usable master key."""
    keys = {version: key.get_secret_value() for version, key in settings.seal_keys.items()}
    if settings.seal_key_current not in keys:
        raise InvalidSettings(f"EXECUTOR_SEAL_KEYS has no key of version {settings.seal_key_current}")
    try:
        return Sealer.from_base64(keys, settings.seal_key_current)
    except ValueError as error:
        raise InvalidSettings(f"EXECUTOR_SEAL_KEYS: {error}") from None


@dataclass(frozen=True)
class LiveSession:
    """A usable session; `session_id` names it when the broker turns it down."""

    session_id: UUID
    broker: Broker


class BrokerAccess(Protocol):
    """What the flow needs of sessions."""

    def current(self, account: str) -> LiveSession:
        """The session in use; raises BrokerSessionExpired when somebody has to log in first."""
        ...

    def end(self, session_id: UUID, reason: str) -> None:
        """Stop using a session that the broker no longer accepts."""
        ...

    def keep(self, account: str) -> None:
        """Log in by itself where that is possible (simulator, development); otherwise do nothing."""
        ...


class KiteAccess:
    """Sessions of Kite Connect accounts, kept in the database and shared by all processes."""

    def __init__(self, db: Database, settings: Settings, sealer: Sealer, clock: Clock) -> None:
        self._db = db
        self._settings = settings
        self._sealer = sealer
        self._clock = clock
        self._live: dict[UUID, LiveSession] = {}
        self._fresh: dict[str, tuple[float, datetime, LiveSession]] = {}
        self._lock = threading.Lock()

    def ensure_account(self) -> None:
        """Make the configured account's rows exist, with the key, secret and limits of the settings."""
        name = self._settings.account
        secret = self._settings.kite_api_secret.get_secret_value()
        values = {
            "broker": "kite",
            "api_key": self._settings.kite_api_key,
            "api_secret_sealed": self._sealer.seal(secret, table="broker_account", row=name, column="api_secret"),
            "root_url": self._settings.kite_root,
        }
        with self._db.transaction() as session:
            statement = insert(BrokerAccount).values(account=name, **values)
            session.execute(statement.on_conflict_do_update(index_elements=[BrokerAccount.account], set_=values))
            control.ensure(session, name, self._settings)

    def current(self, account: str) -> LiveSession:
        with self._lock:
            fresh = self._fresh.get(account)
        if fresh is not None and time.monotonic() - fresh[0] < FRESH_S and self._clock.now() < fresh[1]:
            return fresh[2]
        with self._db.transaction() as session:
            row = session.execute(
                sa.select(
                    BrokerSession.session_id,
                    BrokerSession.access_token_sealed,
                    BrokerSession.expires_at,
                    BrokerAccount.api_key,
                    BrokerAccount.live_attested_at,
                )
                .join(BrokerAccount, BrokerAccount.account == BrokerSession.account)
                .where(BrokerSession.account == account, BrokerSession.ended_at.is_(None))
                .where(BrokerSession.expires_at > self._clock.now())
                .order_by(BrokerSession.started_at.desc())
                .limit(1)
            ).one_or_none()
        if row is None:
            raise BrokerSessionExpired(f"the account {account} has no broker session; log in")
        if not self._settings.is_paper and not (self._settings.allow_live_trading and row.live_attested_at):
            raise BrokerSessionExpired(LiveTradingNotAllowed.__doc__ or "")
        with self._lock:
            if row.session_id not in self._live:
                # One session a day: what came before it is not needed again.
                self._live.clear()
                broker = KiteBroker(
                    api_key=row.api_key,
                    access_token=self._open(row.session_id, row.access_token_sealed),
                    root=self._settings.kite_root,
                    simulator_hosts=self._settings.simulator_hosts,
                    clock=self._clock,
                )
                self._live[row.session_id] = LiveSession(row.session_id, broker)
            live = self._live[row.session_id]
            self._fresh[account] = (time.monotonic(), row.expires_at, live)
            return live

    def end(self, session_id: UUID, reason: str) -> None:
        with self._db.transaction() as session:
            ended = session.scalar(
                sa.update(BrokerSession)
                .where(BrokerSession.session_id == session_id, BrokerSession.ended_at.is_(None))
                .values(ended_at=sa.func.clock_timestamp(), ended_reason=reason)
                .returning(BrokerSession.account)
            )
            if ended is not None:
                target = f"account:{ended}"
                audit.record(
                    session, SYSTEM, "broker.session_ended", target=target, reason=reason, session_id=str(session_id)
                )
        with self._lock:
            self._fresh.clear()
        log.warning("broker.session_ended", session_id=str(session_id), reason=reason)

    def keep(self, account: str) -> None:
        if not self._settings.auto_login:
            return
        try:
            self.current(account)
        except BrokerSessionExpired:
            try:
                request_token = simulator_request_token(
                    self._settings.kite_root, simulator_hosts=self._settings.simulator_hosts
                )
                self.login(account, request_token, actor=AUTO_LOGIN)
            except (BrokerReadFailed, LoginRefused, BrokerUnreachable) as error:
                log.warning("broker.auto_login_failed", account=account, error=type(error).__name__, detail=str(error))

    def login(self, account: str, request_token: str, *, actor: str, address: str = "") -> BrokerSession:
        """Exchange a request token for the day's session; earlier ones end. Raises LoginRefused, BrokerUnreachable.

        `actor` is the operator's id and `address` where he called from, or AUTO_LOGIN.
        """
        api_key, secret = self.credentials(account)
        try:
            data = exchange_request_token(
                api_key,
                secret,
                request_token,
                root=self._settings.kite_root,
                simulator_hosts=self._settings.simulator_hosts,
                clock=self._clock,
            )
        except BrokerSessionExpired:
            raise LoginRefused("The broker did not accept this login; open the login page again.") from None
        except BrokerReadFailed as error:
            raise BrokerUnreachable(f"The broker gave no usable answer: {error}") from None
        session_id = uuid4()
        row = BrokerSession(
            session_id=session_id,
            account=account,
            trading_date=trading_date(data.login_at),
            access_token_sealed=self._sealer.seal(
                data.access_token, table="broker_session", row=str(session_id), column="access_token"
            ),
            broker_user_id=data.user_id,
            started_by=actor,
            expires_at=data.expires_at,
        )
        with self._db.transaction() as session:
            session.execute(
                sa.update(BrokerSession)
                .where(BrokerSession.account == account, BrokerSession.ended_at.is_(None))
                .values(ended_at=sa.func.clock_timestamp(), ended_reason="a newer login")
            )
            session.add(row)
            who = SYSTEM if actor == AUTO_LOGIN else Actor("operator", actor)
            audit.record(
                session, who, "broker.login", target=f"account:{account}", address=address, session_id=str(session_id)
            )
        with self._lock:
            self._fresh.clear()
        log.info("broker.session_started", account=account, session_id=str(session_id), actor=actor)
        return row

    def login_url(self, account: str, redirect_params: Mapping[str, str]) -> str:
        """The page on which the account's owner logs in; the parameters come back to the callback. Raises NotFound."""
        api_key, _ = self.credentials(account)
        return login_url(
            api_key,
            redirect_params,
            root=self._settings.kite_root,
            simulator_hosts=self._settings.simulator_hosts,
        )

    def credentials(self, account: str) -> tuple[str, str]:
        """(API key, API secret) of an account; raises NotFound."""
        with self._db.transaction() as session:
            row = session.get(BrokerAccount, account)
        if row is None:
            raise NotFound(f"There is no broker account {account!r}.", code="account_not_found")
        secret = self._sealer.open(row.api_secret_sealed, table="broker_account", row=account, column="api_secret")
        return row.api_key, secret

    def access_token(self, account: str) -> tuple[str, str]:
        """(API key, access token) in use, for the room that reads the market; raises BrokerSessionExpired."""
        live = self.current(account)
        with self._db.transaction() as session:
            row = session.get_one(BrokerSession, live.session_id)
            api_key = session.get_one(BrokerAccount, account).api_key
        return api_key, self._open(row.session_id, row.access_token_sealed)

    def _open(self, session_id: UUID, sealed: str) -> str:
        return self._sealer.open(sealed, table="broker_session", row=str(session_id), column="access_token")
