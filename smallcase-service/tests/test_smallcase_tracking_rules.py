"""Index, returns, risk, label and XIRR against hand-computed values, other libraries, and the exchange's real prices."""

import csv
import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pytest
import pyxirr
from hypothesis import assume, given
from hypothesis import strategies as st

from common.market_data import History, Key
from smallcase_service.index_value import (
    Closes,
    Composition,
    NoCloses,
    common_closes,
    in_force_from,
    index_series,
)
from smallcase_service.money_weighted import Flow, xirr
from smallcase_service.returns import cagr, max_drawdown, months_before, period_returns, risk
from smallcase_service.volatility_label import (
    label_of_composition,
    label_of_ratio,
    rolling_deviation,
    volatility_label,
)

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FIRST = date(2026, 1, 5)
A, B, C = ("NSE", "A"), ("NSE", "B"), ("NSE", "C")


def closes_of(prices: dict[Key, list[float]]) -> Closes:
    count = len(next(iter(prices.values())))
    days = tuple(FIRST + timedelta(days=n) for n in range(count))
    return Closes(days, {key: np.array(values, dtype=float) for key, values in prices.items()})


# --- index ------------------------------------------------------------------------------------------------------------


def test_index_by_hand_with_a_rebalance_between() -> None:
    closes = closes_of({A: [100, 110, 121, 121], B: [50, 50, 40, 60]})
    series = index_series(
        closes,
        [Composition(FIRST, {A: 6_000, B: 4_000}), Composition(closes.days[2], {A: 5_000, B: 5_000})],
    )
    # 0.6 A and 0.8 B; on the third day 72.6 + 32 = 104.6 is split again: 0.43223 A and 1.3075 B.
    assert series.values == pytest.approx([100, 106, 104.6, 52.3 + 78.45])
    assert series.contributions[A] == pytest.approx(0.6 * 21)
    assert series.contributions[B] == pytest.approx(0.8 * -10 + 1.3075 * 20)
    assert sum(series.contributions.values()) == pytest.approx(series.values[-1] - 100)
    assert series.weights_now == pytest.approx({A: 52.3 / 130.75, B: 78.45 / 130.75})
    assert series.splits == (closes.days[0], closes.days[2])


def test_shares_that_leave_and_enter_count_only_while_they_are_in() -> None:
    closes = closes_of({A: [10, 20, 40], B: [10, 10, 10], C: [7, 7, 14]})
    series = index_series(closes, [Composition(FIRST, {A: 5_000, B: 5_000}), Composition(closes.days[1], {C: 10_000})])
    assert series.values == pytest.approx([100, 150, 300])
    assert series.contributions == pytest.approx({A: 50, B: 0, C: 150})
    assert series.weights_now == pytest.approx({C: 1})


def test_a_composition_of_a_holiday_starts_at_the_next_close_and_the_newest_of_a_day_counts() -> None:
    closes = closes_of({A: [10, 20], B: [10, 10]})
    early = FIRST - timedelta(days=2)
    series = index_series(closes, [Composition(early, {A: 10_000}), Composition(early, {B: 10_000})])
    assert series.values == pytest.approx([100, 100])
    assert index_series(closes, [Composition(FIRST + timedelta(days=9), {A: 10_000})]).days == ()


def test_a_share_without_a_close_can_not_be_bought() -> None:
    closes = closes_of({A: [10, 20], B: [float("nan"), 10]})
    with pytest.raises(NoCloses) as caught:
        index_series(closes, [Composition(FIRST, {A: 5_000, B: 5_000})])
    assert caught.value.keys == [B]
    with pytest.raises(ValueError, match="10,000"):
        index_series(closes, [Composition(FIRST, {A: 9_999})])


def test_version_made_after_the_close_is_split_at_the_next_days_close() -> None:
    assert in_force_from(datetime(2026, 11, 23, 9, 59, tzinfo=UTC)) == date(2026, 11, 23)
    assert in_force_from(datetime(2026, 11, 23, 10, 0, tzinfo=UTC)) == date(2026, 11, 24)
    assert in_force_from(datetime(2026, 11, 22, 20, 0, tzinfo=UTC)) == date(2026, 11, 23), "01:30 in India"


def test_shares_that_did_not_trade_keep_their_close_and_days_still_being_read_end_the_series() -> None:
    days = [FIRST + timedelta(days=n) for n in range(4)]
    whole = History(days, [1, 2, 3, 4], [1] * 4, True)
    halted = History([days[0], days[3]], [10, 20], [1, 1], True)
    closes = common_closes({A: whole, B: halted})
    assert list(closes.of[B]) == [10, 10, 10, 20]
    partial = History(days[:2], [10, 11], [1, 1], False)
    assert common_closes({A: whole, B: partial}).days == tuple(days[:2])
    late = common_closes({A: whole}, {C: History(days[2:], [7, 8], [1, 1], True)})
    assert np.isnan(late.of[C][:2]).all()
    assert list(late.of[C][2:]) == [7, 8]
    assert common_closes({A: History((), (), (), False)}).days == ()


prices = st.lists(st.floats(1, 10_000), min_size=6, max_size=6)
weights = st.integers(1, 9_999)


@given(prices, prices, weights, st.floats(0.01, 1_000))
def test_index_does_not_depend_on_the_unit_of_a_price(
    a: list[float], b: list[float], weight: int, factor: float
) -> None:
    made = [Composition(FIRST, {A: weight, B: 10_000 - weight})]
    plain = index_series(closes_of({A: a, B: b}), made)
    scaled = index_series(closes_of({A: [value * factor for value in a], B: b}), made)
    assert scaled.values == pytest.approx(plain.values, rel=1e-9)


@given(prices, prices, weights, weights, st.integers(1, 4))
def test_index_is_continuous_where_it_is_split_again(
    a: list[float], b: list[float], before: int, after: int, place: int
) -> None:
    closes = closes_of({A: a, B: b})
    first = Composition(FIRST, {A: before, B: 10_000 - before})
    split = Composition(closes.days[place], {A: after, B: 10_000 - after})
    alone, changed = index_series(closes, [first]), index_series(closes, [first, split])
    assert changed.values[: place + 1] == pytest.approx(alone.values[: place + 1], rel=1e-9)
    # From there on it is an index of its own, scaled to that day's value.
    own = index_series(closes.since(closes.days[place]), [split])
    assert changed.values[place:] == pytest.approx(own.values * alone.values[place] / 100, rel=1e-9)
    assert sum(changed.contributions.values()) == pytest.approx(changed.values[-1] - 100, rel=1e-6, abs=1e-6)


@given(prices, weights)
def test_one_share_alone_is_its_own_index(a: list[float], weight: int) -> None:
    series = index_series(closes_of({A: a, B: a}), [Composition(FIRST, {A: weight, B: 10_000 - weight})])
    assert series.values == pytest.approx([value / a[0] * 100 for value in a], rel=1e-9)


# --- returns and risk ---------------------------------------------------------------------------------------------------


def test_periods_are_absolute_below_one_year_and_annual_from_there() -> None:
    days = [date(2022, 1, 3) + timedelta(days=n) for n in range(1_500)]
    values = np.array([100 * 1.1 ** (n / 365) for n in range(1_500)])
    found = period_returns(days, values)
    assert found["1d"].value == pytest.approx(1.1 ** (1 / 365) - 1)
    assert found["1w"].value == pytest.approx(1.1 ** (7 / 365) - 1)
    half = found["6m"]
    assert not half.is_annual
    assert half.value == pytest.approx(1.1 ** ((half.last - half.first).days / 365) - 1)
    for name in ("1y", "3y"):
        assert found[name].is_annual
        assert found[name].value == pytest.approx(0.1)
    assert found["5y"] is None


def test_a_series_that_is_too_short_has_no_return_of_that_period() -> None:
    days = [date(2026, 11, 2), date(2026, 11, 3)]
    found = period_returns(days, np.array([100.0, 90.0]))
    assert found["1d"].value == pytest.approx(-0.1)
    assert {name for name, value in found.items() if value is not None} == {"1d"}
    assert set(period_returns(days[:1], np.array([100.0])).values()) == {None}


@pytest.mark.parametrize(
    ("on", "months", "before"),
    [
        (date(2026, 3, 31), 1, date(2026, 2, 28)),
        (date(2028, 3, 31), 1, date(2028, 2, 29)),
        (date(2026, 1, 15), 12, date(2025, 1, 15)),
        (date(2026, 1, 15), 1, date(2025, 12, 15)),
    ],
)
def test_months_back_end_on_the_last_day_of_shorter_months(on: date, months: int, before: date) -> None:
    assert months_before(on, months) == before


def test_cagr_by_hand() -> None:
    assert cagr(100, 121, 730) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="positive"):
        cagr(0, 1, 10)


def test_deepest_fall_has_its_days() -> None:
    days = [FIRST + timedelta(days=n) for n in range(6)]
    fall = max_drawdown(days, np.array([100, 120, 90, 130, 110, 125.0]))
    assert fall.value == pytest.approx(-0.25)
    assert (fall.peak, fall.trough) == (days[1], days[2])


# --- label --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "label"), [(1.3, "high"), (1.2999, "medium"), (0.8, "medium"), (0.7999, "low"), (3, "high")]
)
def test_label_of_a_ratio(ratio: float, label: str) -> None:
    assert label_of_ratio(ratio) == label


@pytest.mark.parametrize(
    ("equity", "large", "label"),
    [
        (3_999, 0, "low"),
        (4_000, 0, "medium"),
        (7_000, 0, "medium"),
        (7_001, 7_000, "high"),
        (10_000, 7_001, "medium"),
    ],
)
def test_label_of_a_young_basket(equity: int, large: int, label: str) -> None:
    assert label_of_composition(equity, large) == label


def test_label_needs_a_year_of_values() -> None:
    rng = np.random.default_rng(1)
    market = 100 * np.cumprod(1 + rng.normal(0, 0.01, 300))
    wild = 100 * np.cumprod(1 + rng.normal(0, 0.02, 300))
    assert volatility_label(wild, market, equity_bps=10_000, large_cap_bps=0).label == "high"
    young = volatility_label(wild[:250], market[:250], equity_bps=10_000, large_cap_bps=8_000)
    assert (young.label, young.ratio) == ("medium", None)
    same = volatility_label(market, market, equity_bps=10_000, large_cap_bps=0)
    assert (same.label, same.ratio) == ("medium", pytest.approx(1))


def test_rolling_deviation_is_the_mean_of_population_deviations() -> None:
    rng = np.random.default_rng(2)
    values = 100 * np.cumprod(1 + rng.normal(0, 0.01, 260))
    returns = values[1:] / values[:-1] - 1
    by_hand = [
        (sum((r - sum(window) / 250) ** 2 for r in window) / 250) ** 0.5
        for start in range(len(returns) - 249)
        if (window := list(returns[start : start + 250]))
    ]
    assert rolling_deviation(values) == pytest.approx(sum(by_hand) / len(by_hand))


# --- XIRR -----------------------------------------------------------------------------------------------------------------


def test_xirr_of_the_documented_spreadsheet_example() -> None:
    flows = [
        Flow(date(2008, 1, 1), 10_000_00),
        Flow(date(2008, 3, 1), -2_750_00),
        Flow(date(2008, 10, 30), -4_250_00),
        Flow(date(2009, 2, 15), -3_250_00),
    ]
    assert xirr(flows, 2_750_00, date(2009, 4, 1)) == pytest.approx(0.37336253, abs=1e-8)


@pytest.mark.parametrize(
    ("flows", "value"),
    [
        ([], 0),
        ([Flow(FIRST, 100)], 0),
        ([Flow(FIRST, -100)], 100),
        ([Flow(FIRST + timedelta(days=30), 100)], 120),
    ],
)
def test_flows_without_a_solution_say_so(flows: list[Flow], value: int) -> None:
    assert xirr(flows, value, FIRST + timedelta(days=30)) is None


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(1, 10**9)), min_size=1, max_size=8), st.integers(1, 10**10))
def test_xirr_makes_all_flows_worth_nothing(given_flows: list[tuple[int, int]], value: int) -> None:
    flows = [Flow(FIRST + timedelta(days=days), amount) for days, amount in given_flows]
    rate = xirr(flows, value, FIRST + timedelta(days=730))
    assume(rate is not None and -0.99 < rate < 100)
    end = value / (1 + rate) ** (730 / 365)
    paid = sum(flow.amount_paise / (1 + rate) ** ((flow.on - FIRST).days / 365) for flow in flows)
    assert paid == pytest.approx(end, rel=1e-4)


# --- real prices ------------------------------------------------------------------------------------------------------------


def real(name: str, symbols: set[str]) -> dict[str, dict[date, float]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the collected prices are not here: {name} in ../shared/data")
    found: dict[str, dict[date, float]] = {symbol: {} for symbol in symbols}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            symbol = row.get("symbol") or row.get("index") or ""
            if symbol in symbols:
                found[symbol][date.fromisoformat(row["date"])] = float(row["close"])
    return found


@pytest.fixture(scope="module")
def window() -> Callable[[dict[date, float]], tuple[list[date], np.ndarray]]:
    """1 Feb 2021 to 31 Dec 2025: the window of the collected golden figures."""

    def cut(closes: dict[date, float]) -> tuple[list[date], np.ndarray]:
        days = sorted(day for day in closes if date(2021, 2, 1) <= day <= date(2025, 12, 31))
        return days, np.array([closes[day] for day in days])

    return cut


GOLDEN = {
    "RELIANCE": (0.79540, 0.12645, 0.22487, 0.4144, -0.27422, 1.1348),
    "TCS": (0.02129, 0.00430, 0.20674, -0.1346, -0.36571, 0.7931),
    "ITC": (0.93806, 0.14411, 0.20041, 0.5184, -0.21557, 0.6668),
}


def test_real_shares_have_the_collected_figures(window: Any) -> None:
    shares = real("nse_daily.csv.gz", set(GOLDEN))
    days, nifty = window(real("nse_indices.csv.gz", {"NIFTY 50"})["NIFTY 50"])
    place = {day: index for index, day in enumerate(days)}
    for symbol, (total, growth, volatility, sharpe, fall, beta) in GOLDEN.items():
        own_days, values = window(shares[symbol])
        keep = [index for index, day in enumerate(own_days) if day in place]
        own_days, values = [own_days[index] for index in keep], values[keep]
        market = nifty[[place[day] for day in own_days]]
        series = index_series(Closes(tuple(own_days), {A: values}), [Composition(own_days[0], {A: 10_000})])
        assert series.values[-1] / 100 - 1 == pytest.approx(total, abs=1e-5)
        assert cagr(100, series.values[-1], (own_days[-1] - own_days[0]).days) == pytest.approx(growth, abs=1e-4)
        figures = risk(own_days, series.values, 0.055, market)
        assert figures is not None
        assert figures.volatility == pytest.approx(volatility, abs=1e-4)
        assert figures.sharpe == pytest.approx(sharpe, abs=2e-3)
        assert figures.max_drawdown.value == pytest.approx(fall, abs=1e-5)
        # Days on which only one of the two has a price are paired differently there.
        assert figures.beta == pytest.approx(beta, abs=5e-3)


def test_an_equal_basket_of_real_shares_agrees_with_another_library(window: Any) -> None:
    symbols = ["RELIANCE", "TCS", "HDFCBANK", "ITC", "INFY"]
    shares = real("nse_daily.csv.gz", set(symbols))
    columns = {symbol: window(shares[symbol]) for symbol in symbols}
    days = sorted(set.intersection(*(set(days) for days, _ in columns.values())))
    aligned = {
        ("NSE", symbol): np.array([values[index] for index, day in enumerate(own) if day in set(days)])
        for symbol, (own, values) in columns.items()
    }
    series = index_series(Closes(tuple(days), aligned), [Composition(days[0], dict.fromkeys(aligned, 2_000))])
    assert series.values[-1] / 100 - 1 == pytest.approx(0.47566, abs=1e-4)
    figures = risk(days, series.values, 0.055)
    assert figures is not None
    assert figures.volatility == pytest.approx(0.14274, abs=1e-4)
    assert (figures.max_drawdown.peak, figures.max_drawdown.trough) == (date(2024, 9, 27), date(2025, 4, 7))
    returns = series.values[1:] / series.values[:-1] - 1
    daily_free = 1.055 ** (1 / 252) - 1
    assert figures.volatility == pytest.approx(empyrical.annual_volatility(returns))
    assert figures.sharpe == pytest.approx(empyrical.sharpe_ratio(returns, risk_free=daily_free))
    assert figures.max_drawdown.value == pytest.approx(empyrical.max_drawdown(returns))


def test_monthly_instalments_into_the_index_have_the_collected_xirr(window: Any) -> None:
    days, nifty = window(real("nse_indices.csv.gz", {"NIFTY 50"})["NIFTY 50"])
    firsts = [index for index, day in enumerate(days) if index == 0 or day.month != days[index - 1].month]
    paid = firsts[:58]
    value = sum(10_000 / nifty[index] for index in paid) * nifty[-1]
    assert value == pytest.approx(783_004.03, abs=0.01)
    rate = xirr([Flow(days[index], 10_000_00) for index in paid], round(value * 100), days[-1])
    assert rate == pytest.approx(0.11983, abs=1e-5)
    assert rate == pytest.approx(pyxirr.xirr([*(days[index] for index in paid), days[-1]], [-10_000.0] * 58 + [value]))
