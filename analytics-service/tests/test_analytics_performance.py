"""Performance routes over a real database: what they answer, in which form, and to whom."""

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from analytics_service import closes as closing
from analytics_service.analyses import Analyses
from analytics_service.closes import Answer, Close
from analytics_service.desk import Desk
from analytics_service.facts import Portfolio
from analytics_service.pictures import PARTS
from common.clock import FixedClock
from common.db import Database
from common.events import CashMoved, OrderUpdated
from common.money import parse_rupees

BASE = "/api/v1/analytics"
INDEX = ("NSE", "NIFTY 50")
FIRST = date(2026, 11, 2)
DAYS = [FIRST + timedelta(days=number) for number in range(22) if (FIRST + timedelta(days=number)).weekday() < 5]
VIEWS = (
    "", "/summary", "/returns", "/performance", "/risk", "/allocation", "/contribution", "/pnl", "/trades", "/benchmark",
    "/history", "/page",
)  # fmt: skip
Headers = Callable[..., dict[str, str]]
Consume = Callable[..., UUID]


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def portfolio_id(
    order_updated: Callable[..., OrderUpdated], consume: Consume, user_id: UUID, desk: Desk, closes: Any
) -> UUID:
    """1,00,000 put in; 10 RELIANCE at 1,000 and 5 M&M at 2,000, of which 2 sold at 2,500; closes of three weeks."""
    portfolio_id = uuid4()
    at = "2026-11-02T04:00:00Z"
    consume(
        CashMoved(
            user_id=user_id, portfolio_id=portfolio_id, kind="DEPOSIT", amount_paise=1_00_000_00, transfer_id=uuid4(),
            occurred_at=at,
        )
    )  # fmt: skip
    for on, side, symbol, quantity, amount in (
        (DAYS[0], "BUY", "RELIANCE", 10, 10_000_00),
        (DAYS[0], "BUY", "M&M", 5, 10_000_00),
        (DAYS[5], "SELL", "M&M", 2, 5_000_00),
    ):
        consume(
            order_updated(
                user_id=user_id, portfolio_id=portfolio_id, tradingsymbol=symbol, side=side, trading_date=on,
                last_fill_quantity=quantity, last_fill_amount_paise=amount, last_fill_charges_paise=10_00, occurred_at=at,
            )
        )  # fmt: skip
    for key, start, step in (
        (INDEX, 25_000_00, 100_00),
        (("NSE", "RELIANCE"), 1_000_00, 10_00),
        (("NSE", "M&M"), 2_000_00, -5_00),
    ):
        closes.known[key] = {day: start + at * step for at, day in enumerate([FIRST - timedelta(days=3), *DAYS])}
    closing.bring(desk.db, desk.closes, desk.settings.benchmark_key, desk.clock)
    return portfolio_id


@pytest.fixture
def get(client: TestClient, auth_headers: Headers, user_id: UUID, portfolio_id: UUID) -> Callable[..., Any]:
    return lambda path, **params: client.get(BASE + path, headers=auth_headers(user_id), params=params)


def test_returns_are_those_of_the_values(get: Callable[..., Any]) -> None:
    history = get("/history").json()["items"]
    assert [item["date"] for item in history] == [day.isoformat() for day in DAYS]
    values = [parse_rupees(item["value"]) for item in history]
    assert values[0] == 1_00_000_00 - 20_00 + 10 * 10_00 - 5 * 5_00
    found = get("/returns").json()
    expected = values[-1] / 1_00_000_00 - 1  # one deposit, before everything
    assert found["total_return"] == pytest.approx(expected)
    assert found["modified_dietz"] == pytest.approx(expected)
    assert (found["cagr"], found["first"], found["last"]) == (None, DAYS[0].isoformat(), DAYS[-1].isoformat())
    assert found["xirr"] == pytest.approx((1 + expected) ** (365 / (DAYS[-1] - DAYS[0]).days) - 1)
    assert [row["name"] for row in found["periods"]] == ["1d", "1w", "all"]
    assert found["periods"][-1]["benchmark_total"] == pytest.approx(len(DAYS) * 100_00 / 25_000_00)
    assert found == get("/performance").json()


def test_the_days_asked_for_are_all_that_counts(get: Callable[..., Any]) -> None:
    part = get("/returns", **{"from": DAYS[3].isoformat(), "to": DAYS[8].isoformat()}).json()
    history = get("/history").json()["items"]
    before, last = (parse_rupees(history[at]["value"]) for at in (2, 8))
    assert part["total_return"] == pytest.approx(last / before - 1)
    assert part["modified_dietz"] == pytest.approx(last / before - 1)
    page = get("/history", limit=4, **{"from": DAYS[3].isoformat()}).json()
    assert (len(page["items"]), page["next"]) == (4, DAYS[7].isoformat())
    assert page["items"][0]["index"] == pytest.approx(1 + page["items"][0]["daily_return"])
    refused = get("/returns", **{"from": "2026-11-10", "to": "2026-11-09"})
    assert (refused.status_code, refused.json()["code"]) == (422, "span_invalid")


def test_profit_is_the_value_less_what_was_put_in_and_its_parts_add_up(get: Callable[..., Any]) -> None:
    pnl, summary = get("/pnl").json(), get("/summary").json()["performance"]
    assert pnl["net"] == summary["profit"]
    assert parse_rupees(summary["value"]) - parse_rupees(summary["put_in"]) == parse_rupees(
        pnl["net"], allow_negative=True
    )
    assert pnl["realised"] == "1000.00"  # 2 of 5 cost 4,000, brought 5,000
    assert pnl["charges"] == "30.00"
    contribution = get("/contribution").json()
    assert sum(share["contribution"] for share in contribution["shares"]) == pytest.approx(
        contribution["modified_dietz"]
    )
    assert contribution["modified_dietz"] == pytest.approx(get("/returns").json()["modified_dietz"])


def test_allocation_adds_up_to_everything(get: Callable[..., Any]) -> None:
    found = get("/allocation").json()
    assert [part["name"] for part in found["by_share"]] == ["RELIANCE", "M&M"]
    assert {part["name"] for part in found["by_sector"]} == {
        "Oil Gas & Consumable Fuels",
        "Automobile and Auto Components",
    }
    parts = sum(parse_rupees(part["value"]) for part in found["by_share"])
    assert parts + parse_rupees(found["cash"]) == parse_rupees(found["value"])


def test_risk_trades_and_benchmark_are_there(get: Callable[..., Any]) -> None:
    risk, trades, beside = get("/risk").json(), get("/trades").json(), get("/benchmark").json()
    assert risk["volatility"] > 0
    assert risk["benchmark"] == "NIFTY 50"
    assert risk["against_benchmark"]["days"] == len(DAYS) - 1
    assert (trades["closed"], trades["wins"], trades["win_rate"], trades["expectancy"]) == (1, 1, 1.0, "986.00")
    assert beside["excess_return"] == pytest.approx(beside["total_return"] - beside["benchmark_total_return"])


@pytest.mark.parametrize("path", VIEWS)
def test_foreign_figures_look_absent(
    client: TestClient, auth_headers: Headers, user_id: UUID, portfolio_id: UUID, path: str
) -> None:
    stranger = auth_headers()
    by_user = client.get(BASE + path, headers=stranger, params={"user_id": str(user_id)})
    by_portfolio = client.get(BASE + path, headers=stranger, params={"portfolio_id": str(portfolio_id)})
    absent = client.get(BASE + path, headers=stranger, params={"portfolio_id": str(uuid4())})
    assert (by_user.status_code, by_user.json()["code"]) == (404, "user_not_found")
    assert by_portfolio.status_code == absent.status_code == 404
    assert by_portfolio.json()["detail"] == absent.json()["detail"]
    for role in ("ops", "admin"):
        seen = client.get(
            BASE + path,
            headers=auth_headers(roles=(role,)),
            params={"user_id": str(user_id), "portfolio_id": str(portfolio_id)},
        )
        assert seen.status_code == 200
        own = client.get(BASE + path, headers=auth_headers(user_id))
        assert own.status_code == 200
    assert client.get(BASE + path).status_code == 401


@pytest.mark.parametrize("path", ["", "/returns", "/risk", "/allocation", "/contribution", "/pnl", "/benchmark"])
def test_every_view_comes_as_figures_page_and_picture(get: Callable[..., Any], path: str) -> None:
    figures = json.loads(get(path, format="figure").content)["figures"]
    assert figures
    for figure in figures.values():
        assert figure["data"][0]["type"] in ("scatter", "bar", "heatmap")
        assert figure["layout"]["title"]["text"]
    picture = get(path, format="png", chart=next(iter(figures)))
    assert (picture.headers["content-type"], picture.content[:8]) == ("image/png", b"\x89PNG\r\n\x1a\n")
    page = get(path, format="html")
    assert page.headers["content-type"].startswith("text/html")
    for key in figures:
        assert f'id="t-{key}"' in page.text
        assert "The numbers as a table" in page.text


def test_an_unknown_picture_is_refused(get: Callable[..., Any]) -> None:
    answer = get("/returns", format="png", chart="weather")
    assert (answer.status_code, answer.json()["code"]) == (422, "chart_unknown")


def test_the_page_fetches_nothing_and_runs_its_own_script_alone(get: Callable[..., Any]) -> None:
    page = get("/page")
    [nonce] = set(re.findall(r'nonce="([\w-]+)"', page.text))
    policy = page.headers["content-security-policy"]
    assert f"script-src 'nonce-{nonce}'" in policy
    assert policy.startswith("default-src 'none'")
    head = page.text.partition("<script")[0]
    assert not re.search(r"(src|href)=|url\(|@import", head)
    assert {f'id="t-{key}"' for key in PARTS} <= set(re.findall(r'id="t-\w+"', page.text))
    assert get("/page").text != page.text  # a nonce is used once


def test_a_hostile_name_stays_text(
    client: TestClient, auth_headers: Headers, order_updated: Callable[..., OrderUpdated], consume: Consume
) -> None:
    user_id = uuid4()
    consume(order_updated(user_id=user_id, tradingsymbol="</script><script>alert(1)</script>"))
    text = client.get(f"{BASE}/page", headers=auth_headers(user_id)).text
    assert "<script>alert" not in text


def test_nobody_who_has_done_nothing_gets_an_error(client: TestClient, auth_headers: Headers) -> None:
    for path in VIEWS:
        assert client.get(BASE + path, headers=auth_headers()).status_code == 200, path
    for form in ("figure", "html"):
        assert client.get(BASE, headers=auth_headers(), params={"format": form}).status_code == 200
    assert client.get(BASE, headers=auth_headers(), params={"format": "png"}).json()["code"] == "chart_unknown"


def test_an_analysis_is_kept_until_a_fact_or_close_changes(
    db: Database, desk: Desk, user_id: UUID, portfolio_id: UUID, consume: Consume, closes: Any, clock: FixedClock
) -> None:
    kept, portfolio = Analyses(kept_max=1), Portfolio(portfolio_id, user_id)

    def look() -> Any:
        with db.transaction() as session:
            return kept.of(session, [portfolio], INDEX)

    first = look()
    assert look() is first
    consume(
        CashMoved(
            user_id=user_id,
            portfolio_id=portfolio_id,
            kind="DEPOSIT",
            amount_paise=1_00,
            transfer_id=uuid4(),
            occurred_at=clock.now(),
        )
    )
    second = look()
    assert second.put_in_paise == first.put_in_paise + 1_00
    closes.known["NSE", "RELIANCE"][DAYS[-1]] += 5_00
    clock.advance(closing.REFRESH_S + 1)
    closing.bring(desk.db, desk.closes, desk.settings.benchmark_key, desk.clock)
    assert look().value_paise == second.value_paise + 10 * 5_00


def test_closes_come_from_market_data_over_the_wire() -> None:
    class Client:
        """Answers as market-data-service does."""

        asked: list[Any] = []  # noqa: RUF012

        def get(self, path: str, params: Any) -> Any:
            self.asked.append((path, params))
            return {"is_complete": True, "candles": [{"date": params["from"], "close_paise": 1_50_00, "volume": 3}]}

    source = closing.MarketCloses(Client())  # type: ignore[arg-type]
    first, last = date(2010, 1, 1), date(2026, 1, 1)
    found = source.closes(("NSE", "M&M"), first, last)
    second = first + timedelta(days=closing.SPAN_DAYS_MAX)
    assert found == Answer([Close(first, 1_50_00), Close(second, 1_50_00)], True)
    assert Client.asked[0][1]["i"] == "NSE:M&M"
