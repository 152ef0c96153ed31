"""Control of the faults, and the truth a checker compares with; absent when `control_enabled` is false."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kite_simulator.control_body import body_of, number_of
from kite_simulator.engine import FaultKind, FaultRates, Refused
from kite_simulator.engine.faults import preset
from kite_simulator.engine.truth import fold
from kite_simulator.wire import engine_of, success

FORCED_MAX = 10_000
ORDERS_PAGE_MAX = 5_000


async def faults(request: Request) -> Response:
    """GET /simulator/faults: the rates in force, what was injected so far, what is forced or still to follow."""
    engine = engine_of(request)
    state = engine.kernel.state
    rates = engine.faults.rates
    return success(
        {
            "rates": {kind.value: rates.rate_of(kind) for kind in FaultKind},
            "sizes": rates.model_dump(mode="json", exclude={kind.value for kind in FaultKind}),
            "injected": state.faults_injected,
            "forced": state.faults_forced,
            "to_follow": len(state.promises),
        }
    )


async def set_faults(request: Request) -> Response:
    """POST /simulator/faults: `preset` and `rates` (over the preset) replace all rates, `off` ends, `once` forces."""
    body, engine = await body_of(request), engine_of(request)
    unknown = sorted(body.keys() - {"preset", "rates", "off", "once"})
    if unknown or not body:
        raise Refused(
            f"Invalid fields: {', '.join(unknown)}" if unknown else "Give `preset`, `rates`, `off` or `once`."
        )
    rates = _rates(body)
    forced = _forced(body.get("once", []))
    with engine.command():
        if body.get("off"):
            engine.faults.calm()
        if rates is not None:
            engine.faults.set_rates(rates)
        for kind, count in forced:
            engine.faults.force(kind, count)
    return await faults(request)


async def true_orders(request: Request) -> Response:
    """GET /simulator/truth/orders?after=N&limit=M: every order ever received with its fills, purged ones included."""
    truth = fold(engine_of(request).kernel.facts)
    after, limit = number_of(request, "after", 0), number_of(request, "limit", ORDERS_PAGE_MAX)
    page = list(truth.orders.values())[after : after + min(limit, ORDERS_PAGE_MAX)]
    return success(
        {
            "orders": [asdict(order) for order in page],
            "last": after + len(page),
            "total": len(truth.orders),
            "corrections": truth.corrections,
            "faults_injected": truth.injected,
            "to_follow": len(truth.promised),
            "self_trades_prevented": truth.self_trades_prevented,
            "refusals": truth.refusals,
        }
    )


def _rates(body: dict[str, Any]) -> FaultRates | None:
    if "preset" not in body and "rates" not in body:
        return None
    given = body.get("rates", {})
    if not isinstance(given, dict):
        raise Refused("`rates` is an object.")
    try:
        base = preset(str(body["preset"])) if "preset" in body else FaultRates()
        return FaultRates.read({**base.model_dump(), **given})
    except ValueError as error:
        raise Refused(str(error)) from error


def _forced(given: Any) -> list[tuple[FaultKind, int]]:
    if not isinstance(given, list):
        raise Refused("`once` is a list.")
    forced = []
    for item in given:
        kind, count = (item.get("kind"), item.get("count", 1)) if isinstance(item, dict) else (None, 0)
        if not isinstance(kind, str) or kind not in {known.value for known in FaultKind}:
            raise Refused(f"no such fault: {kind!r}")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= FORCED_MAX:
            raise Refused(f"`count` is a number from 1 to {FORCED_MAX}.")
        forced.append((FaultKind(kind), count))
    return forced


ROUTES = [
    Route("/simulator/faults", faults, methods=["GET"]),
    Route("/simulator/faults", set_faults, methods=["POST"]),
    Route("/simulator/truth/orders", true_orders),
]
