"""The door of every Kite route: token, rate limit, then whatever the wire does to the answer."""

from starlette.requests import Request
from starlette.responses import Response

from kite_simulator import wire_faults
from kite_simulator.engine import FaultKind
from kite_simulator.engine.errors import token_error
from kite_simulator.ratelimit import RateLimiter
from kite_simulator.wire import Endpoint, engine_of

ORDER_PREFIX = "/orders/"


def authorised(endpoint: Endpoint) -> Endpoint:
    """Demand `Authorization: token <api_key>:<access_token>`, then take from the rate limit."""

    async def guarded(request: Request) -> Response:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        api_key, _, access_token = credentials.partition(":")
        if scheme.lower() != "token":
            raise token_error()
        engine = engine_of(request)
        path = request.url.path
        if engine.faults.draws(FaultKind.TOKEN_KILLED):
            with engine.command():
                engine.sessions.kill(access_token, f"{request.method} {path}")
        engine.sessions.check(api_key, access_token)
        limiter: RateLimiter | None = request.app.state.limiter
        if limiter is not None:
            now = engine.kernel.clock.now().timestamp()
            if request.method != "GET" and path.startswith(ORDER_PREFIX):
                used = engine.kernel.state.order_requests
                limiter.take_order(now, used, is_cancel=request.method == "DELETE")
            else:
                limiter.take_read(now, path)
        return await wire_faults.answer(request, endpoint)

    return guarded
