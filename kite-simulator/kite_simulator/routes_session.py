"""Login, token, profile (Kite docs, user)."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from kite_simulator.access import authorised
from kite_simulator.engine import Refused
from kite_simulator.engine.clock import ist_text
from kite_simulator.engine.rendering import USER_ID
from kite_simulator.wire import engine_of, form_of, settings_of, success

PROFILE: dict[str, Any] = {
    "user_id": USER_ID,
    "user_type": "individual",
    "email": "operator@simulator.invalid",
    "user_name": "Simulator Operator",
    "user_shortname": "Operator",
    "broker": "ZERODHA",
    "exchanges": ["NSE", "BSE"],
    "products": ["CNC", "MIS", "MTF", "CO"],
    "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
    "avatar_url": None,
    "meta": {"demat_consent": "consent"},
}


async def login(request: Request) -> Response:
    """GET /connect/login: no password is asked, the browser goes straight back with a request token."""
    settings = settings_of(request)
    if request.query_params.get("api_key") != settings.api_key:
        raise Refused("Invalid `api_key`.")
    engine = engine_of(request)
    with engine.command():
        token = engine.sessions.issue_request_token()
    query = {"action": "login", "type": "login", "status": "success", "request_token": token}
    query |= dict(parse_qsl(request.query_params.get("redirect_params", "")))
    joint = "&" if "?" in settings.redirect_url else "?"
    return RedirectResponse(settings.redirect_url + joint + urlencode(query), status_code=302)


async def create_session(request: Request) -> Response:
    """POST /session/token."""
    fields = await form_of(request)
    engine = engine_of(request)
    for name in ("api_key", "request_token", "checksum"):
        if not fields.get(name):
            raise Refused(f"Missing or empty field `{name}`")
    with engine.command():
        session = engine.sessions.open(fields["api_key"], fields["request_token"], fields["checksum"])
    return success(
        {
            **PROFILE,
            "api_key": fields["api_key"],
            "access_token": session.access_token,
            "public_token": session.public_token,
            "enctoken": "",
            "refresh_token": "",
            "silo": "",
            "login_time": ist_text(session.login_at),
        }
    )


async def end_session(request: Request) -> Response:
    """DELETE /session/token?api_key=&access_token=."""
    engine = engine_of(request)
    access_token = request.query_params.get("access_token", "")
    engine.sessions.check(request.query_params.get("api_key", ""), access_token)
    with engine.command():
        engine.sessions.close(access_token)
    return success(True)


async def refresh_session(request: Request) -> Response:
    """POST /session/refresh_token: approved platforms only."""
    raise Refused("Invalid `refresh_token`.", "TokenException", 403)


async def profile(request: Request) -> Response:
    """GET /user/profile."""
    return success(PROFILE)


async def full_profile(request: Request) -> Response:
    """GET /user/profile/full."""
    meta = {"poa": "physical", "silo": "", "account_blocks": []}
    extra = {"twofa_type": "totp", "phone": "", "bank_accounts": [], "dp_ids": [], "pan": "", "tags": []}
    return success({**PROFILE, **extra, "password_timestamp": None, "twofa_timestamp": None, "meta": meta})


async def margins(request: Request) -> Response:
    """GET /user/margins and /user/margins/{segment}."""
    engine = engine_of(request)
    engine.advance()
    data = engine.portfolio.margins()
    segment = request.path_params.get("segment")
    if segment is None:
        return success(data)
    if segment not in data:
        raise Refused("Invalid segment.")
    return success(data[segment])


ROUTES = [
    Route("/connect/login", login),
    Route("/session/token", create_session, methods=["POST"]),
    Route("/session/token", end_session, methods=["DELETE"]),
    Route("/session/refresh_token", refresh_session, methods=["POST"]),
    Route("/user/profile", authorised(profile)),
    Route("/user/profile/full", authorised(full_profile)),
    Route("/user/margins", authorised(margins)),
    Route("/user/margins/{segment}", authorised(margins)),
]
