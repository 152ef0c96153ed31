"""Suggestions by the real optimiser, rebalancing strategies and their application: over HTTP and a real database."""

import csv
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient

from common.clock import FixedClock
from common.market_data import History
from common.testing import StaticMarketData
from smallcase_service.optimiser import solve
from smallcase_service.optimising import NoSolution, Optimiser, SuggestionsBusy

PATH = "/api/v1/smallcases"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
Headers = Callable[..., dict[str, str]]
Created = Callable[..., dict[str, Any]]
WAIT_S = 150.0
SHARES = [{"tradingsymbol": symbol} for symbol in ("TCS", "ITC", "MARUTI")]


@pytest.fixture
def mine(auth_headers: Headers) -> dict[str, str]:
    return auth_headers(uuid4(), lifetime_s=30 * 86_400)


@pytest.fixture(scope="module")
def optimiser() -> Iterator[Optimiser]:
    """One process for all tests here; it may wait long, for other tests use the processors too."""
    optimiser = Optimiser(run_seconds=WAIT_S)
    yield optimiser
    optimiser.close()


@pytest.fixture
def client(client: TestClient, optimiser: Optimiser) -> TestClient:
    client.app.state.optimiser = optimiser  # type: ignore[attr-defined]
    return client


def keyed(headers: dict[str, str]) -> dict[str, str]:
    return {**headers, "Idempotency-Key": uuid4().hex}


def suggest(client: TestClient, headers: dict[str, str], **body: Any) -> Any:
    asked = {"shares": SHARES, "budget": "100000.00", **body}
    return client.post(f"{PATH}/suggestions", headers=headers, json=asked)


@pytest.mark.parametrize(
    ("risk", "method"),
    [("low", "minimum_variance"), ("medium", "hierarchical_risk_parity"), ("high", "maximum_sharpe")],
)
def test_a_suggestion_says_what_it_is_and_what_the_budget_buys(
    client: TestClient, mine: dict[str, str], charted: StaticMarketData, risk: str, method: str
) -> None:
    answer = suggest(client, mine, risk_level=risk, max_weight_bps=6_000)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["method"] == method
    weights = {row["tradingsymbol"]: row["weight_bps"] for row in body["constituents"]}
    assert sum(weights.values()) == 10_000
    assert max(weights.values()) <= 6_001
    assert (body["values"], body["offered"]) == (756, 3)
    words = " ".join(body["in_words"])
    assert "in-sample" in words
    assert "out of sample" in words
    assert "not advice" in words
    test = body["backtest"]
    assert test["refits"] == 8, "(756 - 252) / 63"
    assert test["benchmark_name"] == "NIFTY 50"
    first, last = test["points"][0], test["points"][-1]
    assert (last["date"], len(test["points"]) <= 200) == (body["last"], True)
    assert first["date"] < last["date"]
    assert test["suggestion"]["total"]["value"] == pytest.approx(
        (last["suggestion"] / 100)
        ** (365 / (date.fromisoformat(test["last"]) - date.fromisoformat(test["first"])).days)
        - 1,
        abs=1e-4,
    )
    volatilities = [point["volatility"] for point in body["frontier"]]
    assert 2 <= len(volatilities) <= 12
    assert volatilities == sorted(volatilities)
    plan = body["plan"]
    cost = sum(row["quantity"] * int(row["price"].replace(".", "")) for row in body["constituents"])
    assert plan["cost"] == f"{cost // 100}.{cost % 100:02d}"
    assert cost <= 100_000_00
    assert all(row["quantity"] >= 1 for row in body["constituents"])


def test_a_small_budget_has_no_plan_but_a_minimum(
    client: TestClient, mine: dict[str, str], charted: StaticMarketData
) -> None:
    body = suggest(client, mine, budget="100.00").json()
    assert body["plan"]["cost"] is None
    assert float(body["plan"]["minimum_investment"]) > 100
    assert "below" in body["plan"]["note"]
    assert all(row["quantity"] is None for row in body["constituents"])


def test_exclusions_leave(client: TestClient, mine: dict[str, str], charted: StaticMarketData) -> None:
    body = suggest(client, mine, exclusions=[{"tradingsymbol": "ITC"}], max_weight_bps=10_000).json()
    assert body["offered"] == 2
    assert "ITC" not in {row["tradingsymbol"] for row in body["constituents"]}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"shares": None, "universe": "moon"}, "unknown_universe"),
        ({"universe": "banking"}, "invalid_request"),
        ({"shares": SHARES[:1]}, "universe_size"),
        ({"exclusions": SHARES}, "universe_size"),
        ({"shares": [*SHARES, {"tradingsymbol": "NOSUCH"}]}, "unknown_instrument"),
        ({"shares": [{"tradingsymbol": f"S{n}"} for n in range(101)]}, "invalid_request"),
        ({"budget": "-1.00"}, "invalid_request"),
        ({"luck": True}, "invalid_request"),
    ],
)
def test_impossible_questions_say_what_is_wrong(
    client: TestClient, mine: dict[str, str], charted: StaticMarketData, fields: dict[str, Any], code: str
) -> None:
    answer = suggest(client, mine, **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


def test_young_shares_are_named(
    client: TestClient, mine: dict[str, str], charted: StaticMarketData, walked: Callable[..., History]
) -> None:
    charted.candles["NSE", "ITC"] = walked(1, count=315)
    answer = suggest(client, mine)
    assert (answer.status_code, answer.json()["code"]) == (422, "too_little_history")
    assert answer.json()["instruments"] == ["NSE:ITC"]
    charted.candles["NSE", "ITC"] = walked(1, count=316)
    assert suggest(client, mine).json()["values"] == 315


def test_candles_that_still_arrive_are_waited_for(client: TestClient, mine: dict[str, str]) -> None:
    answer = suggest(client, mine)
    assert (answer.status_code, answer.json()["code"]) == (503, "history_incomplete")


# --- the optimiser ------------------------------------------------------------------------------------------------------


def task(closes: list[list[float]], **fields: Any) -> Any:
    base = {"method": "minimum_variance", "max_weight": 1.0, "risk_free": 0.0, "train": 252, "test": 63}
    return {**base, "closes": closes, "with_frontier": False, **fields}


def test_minimum_variance_of_two_shares_is_the_textbook_answer() -> None:
    rng = np.random.default_rng(3)
    returns = np.vstack([rng.normal(0, 0.01, 600), rng.normal(0, 0.02, 600)])
    closes = (100 * np.cumprod(np.hstack([np.ones((2, 1)), 1 + returns]), axis=1)).tolist()
    [calm, wild] = solve(task(closes))["weights"]
    # Without correlation: weights as 1 / variance, here 4 to 1; shrinking moves them a little to the middle.
    assert calm == pytest.approx(0.8, abs=0.05)
    assert calm + wild == pytest.approx(1)


def test_weights_of_the_test_know_nothing_of_what_comes_after() -> None:
    rng = np.random.default_rng(4)
    closes = 100 * np.cumprod(1 + rng.normal(0.0003, 0.01, (4, 600)), axis=1)
    changed = closes.copy()
    changed[:, 400:] = changed[:, 400:] * np.linspace(1, 3, 200) * np.array([[1.0], [0.5], [2.0], [1.5]])
    for method in ("minimum_variance", "hierarchical_risk_parity", "maximum_sharpe"):
        before = solve(task(closes.tolist(), method=method))["walked"]
        after = solve(task(changed.tolist(), method=method))["walked"]
        # Returns 252 to 398 come from closes before the change.
        assert before[:147] == pytest.approx(after[:147], abs=1e-9)
        assert before[150:] != pytest.approx(after[150:], abs=1e-6)


def test_nothing_beats_the_risk_free_rate_falls_back_and_says_so() -> None:
    falling = [[100 * 0.999**n * (1 + 0.001 * ((n * k) % 3)) for n in range(400)] for k in (1, 2)]
    result = solve(task(falling, method="maximum_sharpe", risk_free=0.1))
    assert result["fell_back"]
    assert sum(result["weights"]) == pytest.approx(1)


CLOSES = [[100 + n % 7 for n in range(400)], [200 + n % 5 for n in range(400)]]


def test_optimiser_lives_through_bad_tasks_and_its_own_end(optimiser: Optimiser) -> None:
    result = optimiser.solve(task(CLOSES, with_frontier=True))
    assert json.dumps(result)
    assert len(result["walked"]) == len(result["walked_equal"]) == 399 - 252
    process = optimiser._process
    with pytest.raises(NoSolution):
        optimiser.solve(task([[1.0]]))
    assert optimiser.solve(task(CLOSES))["weights"] == pytest.approx(result["weights"])
    assert optimiser._process is process, "it stays warm"
    assert process is not None
    process.kill()
    process.wait()
    assert optimiser.solve(task(CLOSES))["weights"] == pytest.approx(result["weights"])
    assert optimiser._process is not process


def test_optimiser_is_bounded_in_time_and_callers() -> None:
    hasty = Optimiser(run_seconds=0.01, turn_seconds=0.01)
    try:
        with pytest.raises(SuggestionsBusy, match="being started"):
            hasty.solve(task(CLOSES))
        starting = hasty._process
        hasty._run_seconds = WAIT_S
        hasty.solve(task(CLOSES))
        assert hasty._process is starting, "a start is not thrown away"
        hasty._run_seconds = 0.0
        with pytest.raises(SuggestionsBusy, match="too long"):
            hasty.solve(task(CLOSES))
        assert hasty._process is None, "what does not answer is ended"
        with hasty._turn, pytest.raises(SuggestionsBusy, match="being computed"):
            hasty.solve(task(CLOSES))
    finally:
        hasty.close()


def test_the_child_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALLCASE_DATABASE_URL", "postgresql://secret")
    seen: dict[str, Any] = {}

    def record(*_: Any, **given: Any) -> Any:
        seen.update(given["env"])
        raise FileNotFoundError

    monkeypatch.setattr("subprocess.Popen", record)
    with pytest.raises(FileNotFoundError):
        Optimiser().solve(task(CLOSES))
    assert seen
    assert not [name for name in seen if name.startswith("SMALLCASE")]


def test_real_prices_give_a_suggestion_that_moved_less_than_equal_weights(
    client: TestClient, mine: dict[str, str], market: StaticMarketData, clock: FixedClock
) -> None:
    path = DATA / "nse_daily.csv.gz"
    if not path.exists():
        pytest.skip(f"the collected prices are not here: {path.name} in ../shared/data")
    symbols = ("RELIANCE", "TCS", "HDFCBANK", "ITC", "INFY", "SUNPHARMA", "TATASTEEL", "MARUTI")
    closes: dict[str, dict[date, int]] = {symbol: {} for symbol in symbols}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            if row["symbol"] in closes and date(2021, 10, 1) <= date.fromisoformat(row["date"]) <= date(2025, 12, 31):
                closes[row["symbol"]][date.fromisoformat(row["date"])] = round(float(row["close"]) * 100)
    for symbol, by_day in closes.items():
        days = sorted(by_day)
        market.shares["NSE", symbol] = by_day[days[-1]]
        market.candles["NSE", symbol] = History(days, [by_day[day] for day in days], [1] * len(days), True)
    market.candles["NSE", "NIFTY 50"] = History((), (), (), True)
    body = suggest(client, mine, shares=[{"tradingsymbol": one} for one in symbols], risk_level="low").json()
    test = body["backtest"]
    assert test["suggestion"]["risk"]["volatility"] < test["equal_weight"]["risk"]["volatility"]
    assert body["expected_returns"]["volatility"] < 0.25
    assert test["benchmark_name"] is None


# --- rebalancing ------------------------------------------------------------------------------------------------------------


def ask(client: TestClient, headers: dict[str, str], path: str, **body: Any) -> Any:
    return client.post(f"{path}/rebalance/suggestions", headers=headers, json=body)


@pytest.fixture
def path(mine: dict[str, str], created: Created, charted: StaticMarketData) -> str:
    return f"{PATH}/{created(mine)['smallcase_id']}"


def test_strategies_suggest_and_change_nothing(client: TestClient, mine: dict[str, str], path: str) -> None:
    body = ask(client, mine, path, strategy="equal").json()
    rows = {row["tradingsymbol"]: row for row in body["changes"]}
    assert {
        name: rows["TCS"][name] for name in ("exchange", "current_weight", "suggested_weight", "weight_change")
    } == {
        "exchange": "NSE",
        "current_weight": 5_000,
        "suggested_weight": 3_334,
        "weight_change": -1_666,
    }
    assert {symbol: row["action"] for symbol, row in rows.items()} == {
        "TCS": "decrease",
        "ITC": "increase",
        "MARUTI": "increase",
    }
    assert client.get(path, headers=mine).json()["version"] == 1
    for strategy in ("inverse_volatility", "momentum", "minimum_variance", "hierarchical_risk_parity"):
        answer = ask(client, mine, path, strategy=strategy)
        assert answer.status_code == 200, answer.text
        changes = answer.json()["changes"]
        assert sum(row["suggested_weight"] for row in changes) == 10_000
        assert all(row["reason"] and row["suggested_weight"] >= 1 for row in changes)
    assert ask(client, mine, path, strategy="market_cap").json()["code"] == "market_values_missing"
    values = [{"tradingsymbol": symbol, "market_value": "10.00"} for symbol in ("TCS", "ITC", "MARUTI")]
    low = ask(client, mine, path, strategy="market_cap", market_values=values)
    assert low.json()["code"] == "weight_cap_too_low"
    capped = ask(client, mine, path, strategy="market_cap", market_values=values, cap_bps=4_000).json()
    assert [row["suggested_weight"] for row in capped["changes"]] == [3_334, 3_333, 3_333]


def test_weights_drift_with_the_prices(
    client: TestClient, mine: dict[str, str], path: str, charted: StaticMarketData, clock: FixedClock
) -> None:
    clock.advance(3 * 86_400)
    days = [date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25)]
    for symbol, closes in (("TCS", [100, 100, 200]), ("ITC", [10, 10, 10]), ("MARUTI", [5, 5, 5])):
        charted.candles["NSE", symbol] = History(days, closes, [1] * 3, True)
    rows = {row["tradingsymbol"]: row for row in ask(client, mine, path, strategy="equal").json()["changes"]}
    assert [rows[one]["current_weight"] for one in ("TCS", "ITC", "MARUTI")] == [6_667, 2_000, 1_333]
    assert "moved by +1667" in rows["TCS"]["reason"]


def apply(client: TestClient, headers: dict[str, str], path: str, weights: dict[str, int], version: int = 1) -> Any:
    rows = [{"tradingsymbol": symbol, "weight_bps": weight} for symbol, weight in weights.items()]
    body = {"version": version, "strategy": "equal", "constituents": rows, "reason": "quarterly"}
    return client.post(f"{path}/rebalance/apply", headers=headers, json=body)


THIRDS = {"TCS": 3_334, "ITC": 3_333, "MARUTI": 3_333}


def test_applying_makes_a_version_once(client: TestClient, mine: dict[str, str], path: str) -> None:
    headers = keyed(mine)
    first = apply(client, headers, path, THIRDS)
    assert first.status_code == 201, first.text
    assert (first.json()["version"], first.json()["attributes"]["weighting"]) == (2, "equal")
    assert apply(client, headers, path, THIRDS).content == first.content
    late = apply(client, keyed(mine), path, THIRDS)
    assert (late.status_code, late.json()["code"]) == (409, "smallcase_changed")
    assert client.get(path, headers=mine).json()["version"] == 2


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ({"TCS": 5_000, "ITC": 5_000}, "other_shares"),
        ({**THIRDS, "INFY": 1}, "other_shares"),
        ({"TCS": 1, "ITC": 1, "MARUTI": 1}, "weights_not_whole"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    client: TestClient, mine: dict[str, str], path: str, weights: dict[str, int], code: str
) -> None:
    answer = apply(client, keyed(mine), path, weights)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_of_two_that_apply_at_the_same_moment_one_is_refused(
    client: TestClient, mine: dict[str, str], path: str
) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(apply(client, keyed(mine), path, THIRDS).status_code))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [201, 409]


def test_strangers_can_not_ask_or_apply(
    client: TestClient, mine: dict[str, str], path: str, auth_headers: Headers, created: Created
) -> None:
    stranger = auth_headers(uuid4())
    assert ask(client, stranger, path, strategy="equal").status_code == 404
    assert apply(client, keyed(stranger), path, THIRDS).status_code == 404
    shown = created(auth_headers(roles=("admin",)), visibility="published")
    public = f"{PATH}/{shown['smallcase_id']}"
    assert ask(client, stranger, public, strategy="equal").status_code == 200
    assert apply(client, keyed(stranger), public, THIRDS).json()["code"] == "not_your_smallcase"
