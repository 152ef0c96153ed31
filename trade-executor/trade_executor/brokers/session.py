"""The daily login at Kite Connect: login page, exchange of the request token, end of the session.

The broker flushes every access token at 06:00 IST (kite-connect.md section 1); a login elsewhere may end one earlier.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final
from urllib.parse import urlencode

import requests

from common.clock import IST, Clock, SystemClock, to_ist
from trade_executor.brokers.base import BrokerReplyInvalid, BrokerUnavailable
from trade_executor.brokers.rows import utc_from_broker
from trade_executor.brokers.wire import PRODUCTION_ROOT, Endpoint, Timeouts, Wire, WireSession, check_read, json_object

PRODUCTION_LOGIN: Final = "https://kite.zerodha.com/connect/login"
KITE_VERSION: Final = "3"
SESSION_ENDS_AT: Final = time(6, 0)
"""IST."""


@dataclass(frozen=True, slots=True)
class BrokerSessionData:
    """A day's session; the token is kept out of `repr` and thereby out of logs and tracebacks."""

    access_token: str = field(repr=False)
    user_id: str
    login_at: datetime
    expires_at: datetime


def login_url(
    api_key: str,
    redirect_params: Mapping[str, str] | None = None,
    *,
    root: str = PRODUCTION_ROOT,
    simulator_hosts: Collection[str] = (),
) -> str:
    """Where the account's owner logs in; `redirect_params` come back on the registered redirect address.

    The client's own login_url() knows the production page only; another root serves `/connect/login` itself.
    """
    endpoint = Endpoint.checked(root, simulator_hosts)
    page = PRODUCTION_LOGIN if endpoint.root == PRODUCTION_ROOT else f"{endpoint.root}/connect/login"
    query = {"api_key": api_key, "v": KITE_VERSION}
    if redirect_params:
        query["redirect_params"] = urlencode(redirect_params)
    return f"{page}?{urlencode(query)}"


def session_end(login_at: datetime) -> datetime:
    """The next 06:00 IST after an aware instant, in UTC."""
    local = to_ist(login_at)
    end = datetime.combine(local.date(), SESSION_ENDS_AT, tzinfo=IST)
    return (end if local < end else end + timedelta(days=1)).astimezone(UTC)


def exchange_request_token(
    api_key: str,
    api_secret: str,
    request_token: str,
    *,
    root: str = PRODUCTION_ROOT,
    simulator_hosts: Collection[str] = (),
    timeouts: Timeouts | None = None,
    clock: Clock | None = None,
) -> BrokerSessionData:
    """Turn the single-use request token of a login into a session.

    Raises BrokerSessionExpired when the broker does not accept the request token (used, too old, wrong secret),
    BrokerUnavailable or BrokerReplyInvalid otherwise; after any of them the owner logs in again.
    """
    endpoint = Endpoint.checked(root, simulator_hosts)
    wire = Wire(api_key, None, endpoint, timeouts or Timeouts())
    try:
        data, reply = wire.call(lambda kite: kite.generate_session(request_token=request_token, api_secret=api_secret))
    finally:
        wire.session.close()
    check_read(reply)
    return _session_of(data, clock or SystemClock())


def _session_of(data: object, clock: Clock) -> BrokerSessionData:
    fields = data if isinstance(data, dict) else {}
    access_token, user_id, login_time = fields.get("access_token"), fields.get("user_id"), fields.get("login_time")
    if not isinstance(access_token, str) or not access_token or not isinstance(user_id, str) or not user_id:
        raise BrokerReplyInvalid("a session needs an access token and a user id")
    login_at = utc_from_broker(login_time) if isinstance(login_time, datetime) else clock.now()
    return BrokerSessionData(access_token, user_id, login_at, session_end(login_at))


def simulator_request_token(
    root: str, *, simulator_hosts: Collection[str] = (), timeouts: Timeouts | None = None
) -> str:
    """Development only: a login without a human at our own simulator.

    Raises ValueError for every root that is not this machine or a declared simulator host, BrokerUnavailable or
    BrokerReplyInvalid when no token comes.
    """
    endpoint = Endpoint.checked(root, simulator_hosts)
    if not endpoint.is_simulator_allowed:
        raise ValueError("automatic login exists at a local simulator only")
    with WireSession(endpoint, timeouts or Timeouts()) as session:
        try:
            response = session.post(f"{endpoint.root}/simulator/request_token")
        except requests.RequestException as failure:
            raise BrokerUnavailable(f"the simulator gave no request token: {type(failure).__name__}") from None
    body = json_object(response)
    data = body.get("data", body)
    token = data.get("request_token") if isinstance(data, dict) else None
    if response.status_code != 200 or not isinstance(token, str) or not token:
        raise BrokerReplyInvalid(f"the simulator gave no request token (HTTP {response.status_code})")
    return token
