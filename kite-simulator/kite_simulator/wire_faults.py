"""Faults between the broker and its client: the one place every Kite route passes (execution design 4.2).

A request meets at most one of them. What was taken by the broker and what was not differs; what the client sees often
does not, and that is the point.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from kite_simulator.connection import BrokenConnection, NoAnswer, connection_of
from kite_simulator.engine import FaultKind, Refused
from kite_simulator.engine.errors import ORDER_TIMED_OUT, TOO_MANY_REQUESTS, rms_margin_exceeds
from kite_simulator.wire import Endpoint, engine_of, failure, form_of, success

Where = dict[str, Any]
Act = Callable[[Request, Endpoint, Where], Awaitable[Response]]

BAD_GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
UNAVAILABLE_PAGE = b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"


def faults_of(method: str, path: str) -> tuple[FaultKind, ...]:
    """The kinds a request can meet."""
    if method == "GET":
        return READ_FAULTS
    if not path.startswith("/orders/"):
        return ()
    return PLACE_FAULTS if method == "POST" else CHANGE_FAULTS


async def answer(request: Request, endpoint: Endpoint) -> Response:
    """The endpoint's answer, or what becomes of it."""
    kinds = faults_of(request.method, request.url.path)
    kind = engine_of(request).faults.first_of(kinds)
    if kind is None:
        return await endpoint(request)
    where: Where = {"endpoint": f"{request.method} {request.url.path}"}
    if kind not in READ_FAULTS or request.method != "GET":
        where |= await _named(request)
    return await ACTS[kind](request, endpoint, where)


async def _named(request: Request) -> Where:
    """Which order a write is about, for the reader of the truth log."""
    order_id = request.path_params.get("order_id")
    if order_id is None:
        return {"tag": (await form_of(request)).get("tag")}
    order = engine_of(request).kernel.state.orders.get(order_id)
    return {"order_id": order_id, "tag": order.tag if order is not None else None}


def _note(request: Request, kind: FaultKind, where: Where) -> None:
    engine = engine_of(request)
    with engine.command():
        engine.faults.note(kind, **where)


def _untaken(kind: FaultKind, respond: Callable[[], Response]) -> Act:
    """The broker never sees the request."""

    async def act(request: Request, endpoint: Endpoint, where: Where) -> Response:
        _note(request, kind, where)
        return respond()

    return act


def _taken(kind: FaultKind, respond: Callable[[], Response]) -> Act:
    """The broker does what was asked; its answer is replaced."""

    async def act(request: Request, endpoint: Endpoint, where: Where) -> Response:
        real = await _answered(request, endpoint)
        _note(request, kind, {**where, **_outcome(real)})
        return respond()

    return act


def _held(kind: FaultKind, respond: Callable[[], Response]) -> Act:
    """An order is put aside and reaches the desk later; a change of one is made at once."""
    at_once = _taken(kind, respond)

    async def act(request: Request, endpoint: Endpoint, where: Where) -> Response:
        if "order_id" in request.path_params:
            return await at_once(request, endpoint, where)
        await _hold(request, kind, where)
        return respond()

    return act


async def _hold(request: Request, kind: FaultKind, where: Where) -> tuple[int, float]:
    fields = await form_of(request)
    engine = engine_of(request)
    with engine.command():
        return engine.aftermath.hold(kind, request.path_params["variety"], fields, **where)


async def _accept_late(request: Request, endpoint: Endpoint, where: Where) -> Response:
    """The order waits before the desk, and the client for its answer as long as its patience lasts."""
    engine = engine_of(request)
    number, delay_s = await _hold(request, FaultKind.ACCEPT_DELAYED, where)
    started = engine.kernel.clock.now()
    connection = connection_of(request.scope)
    while number in engine.kernel.state.promises:
        waited_s = (engine.kernel.clock.now() - started).total_seconds()
        if not await connection.pause(delay_s - waited_s):
            return NoAnswer()
        engine.advance()
    late = engine.aftermath.answer_of(number)
    if late is None:
        return NoAnswer()
    return _refusal(late) if isinstance(late, Refused) else success(late)


async def _without_order_id(request: Request, endpoint: Endpoint, where: Where) -> Response:
    real = await _answered(request, endpoint)
    if real.status_code != 200:
        return real
    _note(request, FaultKind.ORDER_ID_MISSING, {**where, **_outcome(real)})
    return success({})


async def _without_content_type(request: Request, endpoint: Endpoint, where: Where) -> Response:
    real = await _answered(request, endpoint)
    if real.status_code != 200:
        return real
    _note(request, FaultKind.CONTENT_TYPE_MISSING, {**where, **_outcome(real)})
    del real.headers["content-type"]
    return real


async def _garbled(request: Request, endpoint: Endpoint, where: Where) -> Response:
    """The first half of the body under a good status."""
    real = await _answered(request, endpoint)
    if real.status_code != 200:
        return real
    _note(request, FaultKind.READ_GARBLED, where)
    body = bytes(real.body)
    return Response(body[: len(body) // 2], media_type=real.headers.get("content-type"))


async def _refused_at_front(request: Request, endpoint: Endpoint, where: Where) -> Response:
    """Risk management refuses before the order gets an id: it never appears in the book."""
    engine, fields = engine_of(request), await form_of(request)
    refusal = rms_margin_exceeds()
    with engine.command():
        engine.faults.note(FaultKind.REFUSED_AT_FRONT, **where)
        engine.kernel.record(
            "order_refused",
            variety=request.path_params["variety"],
            request=fields,
            message=refusal.message,
            error_type=refusal.error_type,
            status=refusal.status,
        )
    return _refusal(refusal)


async def _answered(request: Request, endpoint: Endpoint) -> Response:
    try:
        return await endpoint(request)
    except Refused as refusal:
        return _refusal(refusal)


def _outcome(real: Response) -> Where:
    """What the client will not learn: the order's id, or that the request was refused."""
    if real.status_code != 200:
        return {"http_status": real.status_code}
    data = orjson.loads(real.body)["data"] if real.media_type == "application/json" else None
    return {"order_id": data["order_id"]} if isinstance(data, dict) and "order_id" in data else {}


def _refusal(refusal: Refused) -> Response:
    return failure(refusal.message, refusal.error_type, refusal.status)


def _bad_gateway() -> Response:
    return Response(BAD_GATEWAY_PAGE, status_code=502, media_type="text/html")


def _unavailable() -> Response:
    return Response(UNAVAILABLE_PAGE, status_code=503, media_type="text/html")


def _timed_out() -> Response:
    return failure(ORDER_TIMED_OUT, "OrderException", 400)


def _too_many() -> Response:
    return failure(TOO_MANY_REQUESTS, "NetworkException", 429)


K = FaultKind
ACTS: dict[FaultKind, Act] = {
    K.REQUEST_LOST: _untaken(K.REQUEST_LOST, NoAnswer),
    K.RESET_BEFORE_BODY: _untaken(K.RESET_BEFORE_BODY, BrokenConnection),
    K.BAD_GATEWAY: _untaken(K.BAD_GATEWAY, _bad_gateway),
    K.TIMED_OUT_400: _untaken(K.TIMED_OUT_400, _timed_out),
    K.TOO_MANY_REQUESTS: _untaken(K.TOO_MANY_REQUESTS, _too_many),
    K.REFUSED_AT_FRONT: _refused_at_front,
    K.RESPONSE_LOST: _taken(K.RESPONSE_LOST, NoAnswer),
    K.RESET_AFTER_BODY: _taken(K.RESET_AFTER_BODY, BrokenConnection),
    K.BAD_GATEWAY_ACCEPTED: _taken(K.BAD_GATEWAY_ACCEPTED, _bad_gateway),
    K.TIMED_OUT_400_ACCEPTED: _held(K.TIMED_OUT_400_ACCEPTED, _timed_out),
    K.ACCEPT_DELAYED: _accept_late,
    K.GHOST: _held(K.GHOST, NoAnswer),
    K.ORDER_ID_MISSING: _without_order_id,
    K.CONTENT_TYPE_MISSING: _without_content_type,
    K.READ_UNAVAILABLE: _untaken(K.READ_UNAVAILABLE, _unavailable),
    K.READ_GARBLED: _garbled,
    K.READ_RESET: _untaken(K.READ_RESET, BrokenConnection),
    K.READ_LOST: _untaken(K.READ_LOST, NoAnswer),
}
PLACE_FAULTS = tuple(kind for kind in ACTS if not kind.startswith("read_"))
CHANGE_FAULTS = tuple(
    kind for kind in PLACE_FAULTS if kind not in (K.REFUSED_AT_FRONT, K.ACCEPT_DELAYED, K.GHOST, K.ORDER_ID_MISSING)
)
READ_FAULTS = (K.READ_UNAVAILABLE, K.READ_GARBLED, K.READ_RESET, K.READ_LOST, K.CONTENT_TYPE_MISSING)
