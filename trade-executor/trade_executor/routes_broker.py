"""Doors for the broker (postback, login callback) and for those who log in."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request

from common import audit
from common.audit import Actor, CallerAddress
from common.auth import AdminUser, OpsUser, require_service
from common.clock import Clock
from common.db import Database, SessionDep
from common.errors import AppError, Forbidden, Unavailable
from common.logging import get_logger
from trade_executor import evidence, schemas
from trade_executor.brokers.base import BrokerSessionExpired
from trade_executor.config import Settings
from trade_executor.models import BrokerAccount
from trade_executor.postback import POSTBACK_BYTES_MAX, PostbackMalformed, is_authentic, read_postback
from trade_executor.sessions import KiteAccess
from trade_executor.wakeup import Wakeup

log = get_logger(__name__)

LOGIN_LIFETIME_S = 600
router = APIRouter(prefix="/api/v1/broker", tags=["broker"])
internal = APIRouter(prefix="/internal/v1", tags=["internal"], include_in_schema=False)


class PostbackTooLarge(AppError):
    """A postback has about one kilobyte; larger bodies are not read."""

    status = 413


class PostbackNotUnderstood(AppError):
    """The body is not a postback."""


class PostbackNotAuthentic(Forbidden):
    """The checksum does not belong to this app's secret."""


class LoginNotOurs(Forbidden):
    """The login was not started here, or too long ago; get a fresh login URL."""


class BrokerSessionMissing(Unavailable):
    """Nobody has logged in at the broker today."""


async def _raw_body(request: Request) -> bytes:
    """The body as it came: the checksum rule knows no parser. Reading stops at the limit."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > POSTBACK_BYTES_MAX:
            raise PostbackTooLarge(f"A postback has at most {POSTBACK_BYTES_MAX} bytes.")
        parts.append(part)
    return b"".join(parts)


@router.post("/postback", response_model=schemas.PostbackAnswer)
def postback(request: Request, body: Annotated[bytes, Depends(_raw_body)], session: SessionDep) -> Any:
    """The broker says that an order changed: kept as evidence, then the order book is read.

    Nothing in the body is believed: its checksum covers neither status nor quantity and can be replayed.
    """
    state = request.app.state
    settings: Settings = state.settings
    try:
        claimed = read_postback(body)
    except PostbackMalformed as error:
        raise PostbackNotUnderstood(f"{error}.") from None
    if not is_authentic(claimed, settings.kite_api_secret.get_secret_value()):
        log.warning("postback.forged", broker_order_id=claimed.broker_order_id)
        raise PostbackNotAuthentic("The checksum is not valid.")
    evidence.keep_postback(session, settings.account, body, state.clock)
    wakeup: Wakeup = state.wakeup
    wakeup.observe(settings.account)
    return schemas.PostbackAnswer()


@router.get("/login-url", response_model=schemas.LoginUrlOut)
def get_login_url(request: Request, user: OpsUser) -> Any:
    """Where the owner logs in. The address carries a mark of this platform that the callback asks for."""
    state = request.app.state
    mark = login_mark(state.settings, state.clock, str(user.user_id))
    access: KiteAccess = state.access
    return {"login_url": access.login_url(state.settings.account, {"state": mark})}


@router.get("/callback", response_model=schemas.LoggedInOut)
def callback(
    request: Request,
    address: CallerAddress,
    request_token: Annotated[str, Query(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")],
    state: Annotated[str, Query(max_length=256)] = "",
) -> Any:
    """The broker's login page sends the owner's browser here with a request token.

    Without the mark of a login that was started here, somebody could attach an account of his own to this platform.
    """
    app_state = request.app.state
    actor = actor_of_mark(app_state.settings, app_state.clock, state)
    return _logged_in(app_state, request_token, actor, address)


@router.post("/session", response_model=schemas.LoggedInOut, status_code=201)
def post_session(request: Request, body: schemas.SessionRequest, user: OpsUser, address: CallerAddress) -> Any:
    """Start the day's session with a request token obtained by hand."""
    return _logged_in(request.app.state, body.request_token, str(user.user_id), address)


@router.post("/attestation", response_model=schemas.AccountOut)
def post_attestation(
    request: Request, body: schemas.AttestationRequest, user: AdminUser, session: SessionDep, address: CallerAddress
) -> Any:
    """Store the owner's attestation; without it no order goes to a live broker."""
    settings: Settings = request.app.state.settings
    row = session.get_one(BrokerAccount, settings.account)
    row.live_attested_at, row.live_attested_by = request.app.state.clock.now(), str(user.user_id)
    session.flush()
    actor = audit.operator(user.user_id)
    audit.record(
        session,
        actor,
        "broker.attested",
        target=f"account:{settings.account}",
        address=address,
        statement=body.statement,
    )
    log.warning("broker.live_attested", account=settings.account, actor=str(user.user_id))
    return {**_columns(row), "paper": settings.is_paper, "session": None}


@internal.get("/market-data-session", response_model=schemas.MarketDataSession)
def market_data_session(
    request: Request, caller: Annotated[str, Depends(require_service("market-data-service"))]
) -> Any:
    """The day's token for the room that reads quotes; orders stay here."""
    state = request.app.state
    access: KiteAccess = state.access
    try:
        api_key, access_token = access.access_token(state.settings.account)
    except BrokerSessionExpired:
        raise BrokerSessionMissing("There is no broker session; log in first.") from None
    return {"api_key": api_key, "access_token": access_token, "root_url": state.settings.kite_root}


def login_mark(settings: Settings, clock: Clock, actor: str) -> str:
    """`actor.expiry.mac`: proves at the callback that the login was started by this person, not long ago."""
    body = f"{actor}.{int(clock.now().timestamp()) + LOGIN_LIFETIME_S}"
    return f"{body}.{_mac(settings, body)}"


def actor_of_mark(settings: Settings, clock: Clock, mark: str) -> str:
    """Who started the login; raises LoginNotOurs."""
    body, _, mac = mark.rpartition(".")
    actor, _, expires = body.rpartition(".")
    genuine = hmac.compare_digest(_mac(settings, body).encode(), mac.encode())
    if not genuine or not actor or int(expires) < clock.now().timestamp():
        raise LoginNotOurs("This login was not started here or is too old; get a fresh login URL.")
    return actor


def _mac(settings: Settings, body: str) -> str:
    key = settings.tag_key.get_secret_value().encode()
    return hmac.new(key, f"login|{settings.account}|{body}".encode(), hashlib.sha256).hexdigest()


def _logged_in(state: Any, request_token: str, actor: str, address: str) -> dict[str, Any]:
    access: KiteAccess = state.access
    account = state.settings.account
    _record_asked(state.db, actor, account, address)
    row = access.login(account, request_token, actor=actor, address=address)
    state.wakeup.pump(account)
    return {"account": account, "session": row}


def _record_asked(db: Database, actor: str, account: str, address: str) -> None:
    # Before the broker is asked: no attempt is without a row, whatever dies in between. The login writes its own.
    with db.transaction() as session:
        audit.record(
            session, Actor("operator", actor), "broker.login_asked", target=f"account:{account}", address=address
        )


def _columns(row: Any) -> Mapping[str, Any]:
    return {column.key: getattr(row, column.key) for column in sa.inspect(type(row)).columns}
