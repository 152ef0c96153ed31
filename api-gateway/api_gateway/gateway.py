"""The door itself: one raw ASGI app that decides for every request whether and where it goes on.

The order is cheap before dear and public before private: shape of the request, route, allowance of the caller, token,
session, body, room.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_gateway.body import ClientGone, read_body
from api_gateway.counters import rate_limited
from api_gateway.edge import Exchange
from api_gateway.headers import address_key, check_size, forwarded_request, forwarded_response
from api_gateway.limiter import Limiter
from api_gateway.routing import METHODS, UPLOAD_PATHS, InvalidPath, Limit, Target, canonical_path, resolve
from api_gateway.sessions import SessionCheck
from api_gateway.tokens import TokenCheck
from api_gateway.upstream import UpstreamUnavailable, body_then, upstream_scope
from api_gateway.windows import Rule
from common.errors import AppError, NotFound, TooManyRequests, Unauthorized, send_problem

QUERY_LENGTH_MAX = 8 * 1024


class RouteNotFound(NotFound):
    """No room answers this path."""

    default_code = "not_found"


class MalformedPath(AppError):
    """The path can be read in more than one way (400)."""

    default_code = "invalid_path"


class QueryTooLong(AppError):
    """The query string is longer than QUERY_LENGTH_MAX (414)."""

    status = 414


class MethodNotAllowed(AppError):
    """An HTTP method that no room uses (405)."""

    status = 405


class SessionRevoked(Unauthorized):
    """The session of the token was ended (logout, password change, operator)."""


class RateLimited(TooManyRequests):
    """The caller's allowance for this minute is used up."""


@dataclass(frozen=True)
class Rules:
    """The allowance behind each Limit."""

    by_limit: Mapping[Limit, Rule]

    @classmethod
    def per_minute(cls, *, general: int, orders: int, credentials: int, anonymous: int, postback: int) -> "Rules":
        """Allowances in requests per minute."""
        amounts = {
            Limit.GENERAL: general,
            Limit.ORDERS: orders,
            Limit.CREDENTIALS: credentials,
            Limit.ANONYMOUS: anonymous,
            Limit.POSTBACK: postback,
        }
        return cls({limit: Rule(limit.value, amount) for limit, amount in amounts.items()})


class Gateway:
    """Routes requests to rooms; `own` answers the gateway's own paths and everything that is not HTTP."""

    def __init__(
        self,
        *,
        own: ASGIApp,
        upstreams: Mapping[str, ASGIApp],
        tokens: TokenCheck,
        sessions: SessionCheck,
        limiter: Limiter,
        rules: Rules,
        body_limit_bytes: int,
        upload_limit_bytes: int,
    ) -> None:
        self._own = own
        self._upstreams = upstreams
        self._tokens = tokens
        self._sessions = sessions
        self._limiter = limiter
        self._rules = rules
        self._body_limit_bytes = body_limit_bytes
        self._upload_limit_bytes = upload_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._own(scope, receive, send)
            return
        exchange: Exchange = scope["gateway.exchange"]
        try:
            target = await self._target(scope, exchange)
            if target.room is None:
                await self._own({**scope, "path": unquote(target.path)}, receive, send)
            else:
                await self._forward(target.room, target.path, exchange, scope, receive, send)
        except AppError as error:
            await send_problem(error, scope, receive, send)
        except ClientGone:
            return

    async def _target(self, scope: Scope, exchange: Exchange) -> Target:
        """Where an admitted request goes; raises an AppError for a refused one."""
        headers = scope["headers"]
        check_size(headers)
        if len(scope["query_string"]) > QUERY_LENGTH_MAX:
            raise QueryTooLong(f"The query string may have at most {QUERY_LENGTH_MAX} bytes.")
        method = scope["method"]
        if method not in METHODS:
            raise MethodNotAllowed("This method is not used here.", headers={"Allow": ", ".join(sorted(METHODS))})
        try:
            target = resolve(method, canonical_path(scope["raw_path"]))
        except InvalidPath as error:
            await self._count(Limit.ANONYMOUS, exchange)
            raise MalformedPath(f"The path is not accepted: {error}.") from None
        if target is None:
            await self._count(Limit.ANONYMOUS, exchange)
            raise RouteNotFound("There is nothing at this path.")
        exchange.route = target.prefix
        if target.public:
            await self._count(target.limit, exchange)
        else:
            await self._authenticate(target, scope, exchange)
        return target

    async def _authenticate(self, target: Target, scope: Scope, exchange: Exchange) -> None:
        try:
            user = await self._tokens.user(scope["headers"])
        except Unauthorized:
            # Whoever tries tokens uses up the allowance of the address.
            await self._count(Limit.ANONYMOUS, exchange)
            raise
        exchange.user_id = str(user.user_id)
        await self._count(target.limit, exchange)
        if not await self._sessions.active(user.session_id):
            raise SessionRevoked("This session was ended; sign in again.")

    async def _count(self, limit: Limit, exchange: Exchange) -> None:
        rule = self._rules.by_limit.get(limit)
        if rule is None:
            return
        key = f"user:{exchange.user_id}" if exchange.user_id is not None else f"address:{address_key(exchange.client)}"
        verdict = exchange.verdict = await self._limiter.hit(rule, key)
        if not verdict.allowed:
            rate_limited.labels("api-gateway", rule.name).inc()
            raise RateLimited(
                f"At most {rule.requests} requests in {rule.period_s} seconds; wait {verdict.reset_s} s.",
                retry_after=verdict.reset_s,
                limit=rule.requests,
            )

    async def _forward(
        self, room: str, path: str, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        upstream = self._upstreams.get(room)
        if upstream is None:
            raise UpstreamUnavailable(f"{room} is not part of this installation.")
        limit = self._upload_limit_bytes if path in UPLOAD_PATHS else self._body_limit_bytes
        body = await read_body(scope, receive, limit)
        headers = forwarded_request(
            scope["headers"],
            room=room,
            client=exchange.client,
            scheme=exchange.scheme,
            request_id=exchange.request_id,
        )
        if body or scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers.append((b"content-length", str(len(body)).encode()))
        forwarded = upstream_scope(
            scope, path=path, decoded_path=unquote(path), headers=headers, client=exchange.client
        )

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": forwarded_response(message.get("headers", ()), room=room)}
            await send(message)

        await upstream(forwarded, body_then(body, receive), answer)
