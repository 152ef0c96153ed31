"""Metrics: published examples, the golden table of real prices, and two libraries beside each figure to 1e-9."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest
import quantstats_lumi as quantstats
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq

from analytics_service import returns, risk
from analytics_service.returns import Series, series_of, series_of_closes
from analytics_service.trade_statistics import ClosedTrades, statistics

PRICES = Path(__file__).resolve().parents[3] / "shared" / "data"
RF = 0.055
FIRST, LAST = "2021-02-01", "2025-12-31"
SHARES = ("RELIANCE", "TCS", "HDFCBANK", "ITC", "INFY")
TICKS = 10_000
"""Closes have up to four decimals: as ten-thousandths they are whole."""
# total, CAGR, volatility, Sharpe, Sortino, deepest fall, VaR 95, CVaR 95, beta
GOLDEN = {
    "NIFTY 50": (82.965, 13.079, 13.799, 0.5901, 0.8256, -17.230, 1.339, 2.003, 1.0),
    "RELIANCE": (79.540, 12.645, 22.487, 0.4144, 0.6121, -27.422, 2.090, 2.981, 1.1348),
    "TCS": (2.129, 0.430, 20.674, -0.1346, -0.1924, -36.571, 1.961, 2.888, 0.7931),
    "HDFCBANK": (34.240, 6.174, 21.066, 0.1413, 0.2000, -24.125, 1.964, 3.095, 1.0593),
    "ITC": (93.806, 14.411, 20.041, 0.5184, 0.7644, -21.557, 1.795, 2.771, 0.6668),
    "INFY": (28.115, 5.170, 23.992, 0.1113, 0.1567, -36.922, 2.380, 3.388, 0.9594),
    "Equal five": (47.566, 8.238, 14.274, 0.2621, 0.3727, -19.553, 1.461, 1.986, 0.9100),
}
FALLS = {
    "NIFTY 50": (date(2021, 10, 18), date(2022, 6, 17)),
    "RELIANCE": (date(2024, 7, 8), date(2025, 3, 4)),
    "TCS": (date(2024, 8, 30), date(2025, 9, 30)),
    "Equal five": (date(2024, 9, 27), date(2025, 4, 7)),
}


@pytest.fixture(scope="module")
def closes() -> pd.DataFrame:
    """Real closes of days that all of them traded on."""
    if not (PRICES / "nse_daily.csv.gz").exists():
        pytest.skip("the real prices are not beside this checkout (nse_daily.csv.gz, nse_indices.csv.gz)")
    shares = pd.read_csv(PRICES / "nse_daily.csv.gz").pivot_table(index="date", columns="symbol", values="close")
    indices = pd.read_csv(PRICES / "nse_indices.csv.gz")
    nifty = indices[indices["index"] == "NIFTY 50"].set_index("date")["close"].rename("NIFTY 50")
    table = pd.concat([nifty, shares[list(SHARES)]], axis=1).dropna().sort_index()
    table = table[(table.index >= FIRST) & (table.index <= LAST)]
    table["Equal five"] = sum(table[name] / table[name].iloc[0] for name in SHARES)
    return table


def series_from(closes: pd.Series) -> Series:
    days = np.array(list(closes.index), dtype="datetime64[D]")
    return series_of_closes(days, closes.to_numpy() * TICKS)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_table_of_real_prices(closes: pd.DataFrame, name: str) -> None:
    series, nifty = series_from(closes[name]), series_from(closes["NIFTY 50"])
    moves = series.returns[1:]
    assert len(moves) == 1_214
    value = risk.historical_var(moves)
    beside = risk.against(series, nifty, RF)
    growth, fall = returns.cagr_of(series), risk.max_drawdown(series)
    assert value is not None
    assert growth is not None
    assert fall is not None
    found = (
        returns.total_return(series) * 100, growth * 100, (risk.volatility(moves) or 0) * 100,
        risk.sharpe(moves, RF), risk.sortino(moves, RF), fall * 100, value.var_95 * 100, value.cvar_95 * 100, beside.beta,
    )  # fmt: skip
    decimals = (3, 3, 3, 4, 4, 3, 3, 3, 4)
    for got, wanted, places in zip(found, GOLDEN[name], decimals, strict=True):
        # The table is given to so many digits; its last one may have been rounded either way.
        assert got == pytest.approx(wanted, abs=0.51 * 10.0**-places + 1e-12)
    deepest = risk.drawdowns(series)[0]
    assert deepest.depth == pytest.approx(fall)
    if name in FALLS:
        assert (deepest.peak, deepest.trough) == FALLS[name]


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "NIFTY 50"])
def test_figures_are_those_of_two_libraries(closes: pd.DataFrame, name: str) -> None:
    """Ours, empyrical-reloaded or pandas, and quantstats."""
    series, nifty = series_from(closes[name]), series_from(closes["NIFTY 50"])
    index = pd.to_datetime(list(closes.index))[1:]
    own, other = pd.Series(series.returns[1:], index), pd.Series(nifty.returns[1:], index)
    rate = risk.daily_rate(RF)
    beside = risk.against(series, nifty, RF)
    value = risk.historical_var(own.to_numpy())
    assert value is not None
    pairs: list[tuple[Any, Any, Any]] = [
        (risk.volatility(own.to_numpy()), own.std(ddof=1) * np.sqrt(252), quantstats.stats.volatility(own, periods=252)),
        (risk.sharpe(own.to_numpy(), RF), empyrical.sharpe_ratio(own, rate), quantstats.stats.sharpe(own, rf=RF, periods=252)),
        (risk.sortino(own.to_numpy(), RF), empyrical.sortino_ratio(own, rate), quantstats.stats.sortino(own, rf=RF, periods=252)),
        (risk.max_drawdown(series), empyrical.max_drawdown(own), quantstats.stats.max_drawdown(own)),
        (returns.total_return(series), empyrical.cum_returns_final(own), quantstats.stats.comp(own)),
        (beside.beta, empyrical.beta(own, other), np.cov(own, other)[0, 1] / other.var()),
        (beside.tracking_error, (own - other).std() * np.sqrt(252), _quantstats_tracking_error(own, other)),
        (
            beside.information_ratio,
            empyrical.excess_sharpe(own, other) * np.sqrt(252),
            quantstats.stats.information_ratio(own, other, prepare_returns=False) * np.sqrt(252),
        ),
        (value.var_95, -empyrical.value_at_risk(own, 0.05), -own.quantile(0.05)),
        (value.cvar_95, -empyrical.conditional_value_at_risk(own, 0.05), -own[own <= own.quantile(0.05)].mean()),
    ]  # fmt: skip
    for ours, first, second in pairs:
        assert ours == pytest.approx(float(first), abs=1e-9)
        assert ours == pytest.approx(float(second), abs=1e-9)
    alpha = ((own.mean() - rate) - beside.beta * (other.mean() - rate)) * 252  # type: ignore[operator]
    slope, intercept = np.polyfit(other - rate, own - rate, 1)
    assert beside.alpha == pytest.approx(alpha, abs=1e-9)
    assert (beside.beta, beside.alpha) == (pytest.approx(slope, abs=1e-9), pytest.approx(intercept * 252, abs=1e-9))


def _quantstats_tracking_error(own: pd.Series, other: pd.Series) -> float:
    ratio = quantstats.stats.information_ratio(own, other, prepare_returns=False)
    return float((own - other).mean() / ratio * np.sqrt(252))


def test_the_published_xirr_example() -> None:
    flows = [
        (date(2008, 1, 1), -10_000), (date(2008, 3, 1), 2_750), (date(2008, 10, 30), 4_250), (date(2009, 2, 15), 3_250),
        (date(2009, 4, 1), 2_750),
    ]  # fmt: skip
    assert returns.xirr(flows) == pytest.approx(0.37336253, abs=5e-9)


def test_monthly_instalments_into_the_index(closes: pd.DataFrame) -> None:
    indices = pd.read_csv(PRICES / "nse_indices.csv.gz")
    nifty = indices[indices["index"] == "NIFTY 50"].set_index("date")["close"]
    nifty = nifty[(nifty.index >= FIRST) & (nifty.index <= LAST)]
    months = nifty.groupby(nifty.index.str[:7]).head(1).iloc[:58]  # February 2021 to November 2025
    units = sum(10_000 / price for price in months)
    end = units * nifty.iloc[-1]
    assert end == pytest.approx(783_004.03, abs=0.01)
    flows = [(date.fromisoformat(day), -10_000) for day in months.index]
    rate = returns.xirr([*flows, (date.fromisoformat(nifty.index[-1]), round(end * 100) / 100)])  # type: ignore[list-item]
    assert rate == pytest.approx(0.11983, abs=5e-6)


def test_money_can_be_lost_while_the_time_weighted_return_is_nearly_nothing() -> None:
    values = np.array([100_000_00, 110_000_00, 189_000_00], dtype=np.int64)
    flows = np.array([100_000_00, 0, 100_000_00], dtype=np.int64)
    days = np.array(["2026-01-05", "2026-01-06", "2026-01-07"], dtype="datetime64[D]")
    series = series_of(days, returns.daily_returns(values, flows))
    assert returns.total_return(series) == pytest.approx(-0.01, abs=1e-12)


flows_strategy = st.lists(
    st.tuples(st.dates(date(2015, 1, 1), date(2026, 1, 1)), st.integers(-(10**9), 10**9).filter(bool)),
    min_size=2,
    max_size=12,
)


@given(flows_strategy)
def test_xirr_is_a_root_and_the_one_that_bisection_finds(flows: list[tuple[date, int]]) -> None:
    # Put in first, taken out later: one change of sign has one root.
    flows = sorted(
        (on, -abs(amount) if number < len(flows) // 2 else abs(amount))
        for number, (on, amount) in enumerate(sorted(flows))
    )
    first = flows[0][0]

    def worth(rate: float) -> float:
        return sum(amount / (1 + rate) ** ((on - first).days / 365) for on, amount in flows)

    put_in = max(on for on, amount in flows if amount < 0)
    assume(put_in < min(on for on, amount in flows if amount > 0))
    assume(worth(-0.99) * worth(50) < 0)
    rate = returns.xirr(flows)
    assert rate == pytest.approx(brentq(worth, -0.99, 50, xtol=1e-13), abs=1e-7)


@pytest.mark.parametrize(
    "flows",
    [
        [],
        [(FIRST, 1)],
        [(date(2026, 1, 1), -5), (date(2026, 1, 1), 5)],
        [(date(2026, 1, 1), -5), (date(2026, 2, 1), -5)],
    ],
)
def test_no_solution_is_said(flows: list[tuple[date, int]]) -> None:
    assert returns.xirr(flows) is None


def test_modified_dietz_weights_flows_by_their_time() -> None:
    span = (date(2026, 1, 1), date(2026, 1, 31))
    assert returns.modified_dietz(1_000, 1_160, [(date(2026, 1, 16), 100)], span) == pytest.approx(60 / 1_050)


@given(
    arrays(np.int64, st.integers(2, 40), elements=st.integers(1, 10**9)),
    st.data(),
)
def test_time_weighted_return_is_that_of_units(values: Any, data: st.DataObject) -> None:
    """Money in or out buys units at the value of one before it: the price of a unit is the index."""
    flows = data.draw(arrays(np.int64, len(values), elements=st.integers(-(10**8), 10**8)))
    flows[0] = values[0]
    moves = returns.daily_returns(values, flows)
    units, price = 1.0, 1.0
    for at in range(1, len(values)):
        before = values[at - 1] + flows[at]
        if before <= 0:
            return  # nothing invested: units have no price
        units *= before / values[at - 1]
        price = float(values[at] / values[0] / units)
    days = np.arange(len(values)).astype("datetime64[D]")
    assert returns.total_return(series_of(days, moves)) == pytest.approx(price - 1, rel=1e-6, abs=1e-6)


def daily(first: date, moves: list[float]) -> Series:
    days = np.array([first + timedelta(days=number) for number in range(len(moves))], dtype="datetime64[D]")
    return series_of(days, np.array(moves))


def test_periods_reach_back_to_the_last_day_on_or_before() -> None:
    series = daily(date(2024, 1, 1), [0.001] * 800)  # to 10 March 2026
    rows = {row.name: row for row in returns.period_table(series)}
    assert list(rows) == ["1d", "1w", "1m", "3m", "6m", "ytd", "1y", "all"]
    assert (rows["1m"].since, rows["6m"].since, rows["ytd"].since) == (
        date(2026, 2, 10),
        date(2025, 9, 10),
        date(2025, 12, 31),
    )
    assert rows["1d"].total == pytest.approx(0.001)
    assert rows["1w"].total == pytest.approx(1.001**7 - 1)
    assert rows["1w"].annual is None  # under a year nothing is made a year's
    assert rows["1y"].annual == pytest.approx(rows["1y"].total)
    assert rows["all"].total == pytest.approx(1.001**800 - 1)


def test_months_are_calendar_months_and_multiply_to_the_whole() -> None:
    series = daily(date(2025, 11, 20), [0.01, -0.02] * 40)
    months = returns.months(series)
    assert [(row.year, row.month) for row in months] == [(2025, 11), (2025, 12), (2026, 1), (2026, 2)]
    assert np.prod([1 + row.total for row in months]) == pytest.approx(1 + returns.total_return(series))


@pytest.mark.parametrize(
    ("on", "count", "expected"),
    [
        (date(2026, 3, 31), 1, date(2026, 2, 28)),
        (date(2024, 2, 29), 12, date(2023, 2, 28)),
        (date(2026, 1, 15), 1, date(2025, 12, 15)),
        (date(2026, 12, 31), 60, date(2021, 12, 31)),
    ],
)
def test_months_before_keep_the_day_or_take_the_months_last(on: date, count: int, expected: date) -> None:
    assert returns.months_before(on, count) == expected


def test_rolling_figures_are_those_of_each_window() -> None:
    moves = list(np.random.default_rng(3).normal(0, 0.01, 60))
    series = daily(date(2026, 1, 1), moves)
    frame = pd.Series(moves)
    days, rolled = returns.rolling_return(series, 20)
    assert len(days) == 41
    assert rolled == pytest.approx((1 + frame).rolling(20).apply(np.prod).dropna().to_numpy() - 1)
    _, volatilities = risk.rolling_volatility(series, 20)
    assert volatilities == pytest.approx(frame.rolling(20).std().dropna().to_numpy() * np.sqrt(252))


def test_drawdowns_are_told_apart_with_their_dates() -> None:
    series = daily(date(2026, 1, 1), [0.0, 0.10, -0.05, -0.05, 0.20, -0.30, 0.10])
    falls = risk.drawdowns(series)
    assert [(fall.peak.day, fall.trough.day, fall.recovered.day if fall.recovered else None) for fall in falls] == [
        (5, 6, None), (2, 4, 5),
    ]  # fmt: skip
    assert falls[1].depth == pytest.approx(0.95 * 0.95 - 1)


def test_a_fall_that_begins_on_the_first_day_counts_from_what_was_put_in() -> None:
    series = daily(date(2026, 1, 1), [-0.10, 0.05])
    assert risk.max_drawdown(series) == pytest.approx(-0.10)
    assert risk.drawdowns(series)[0].depth == pytest.approx(-0.10)


def test_normal_value_at_risk_is_that_of_the_formula() -> None:
    moves = np.array([0.01, -0.02, 0.03, 0.0, -0.01])
    found = risk.normal_var(moves)
    assert found is not None
    assert found.var_95 == pytest.approx(-(moves.mean() - 1.644854 * moves.std(ddof=1)))
    assert found.cvar_95 == pytest.approx(-(moves.mean() - moves.std(ddof=1) * 0.103136 / 0.05))


@pytest.mark.parametrize(
    "measure",
    [
        risk.volatility,
        lambda moves: risk.sharpe(moves, RF),
        lambda moves: risk.sortino(moves, RF),
        risk.historical_var,
        risk.normal_var,
    ],
)
def test_too_few_days_have_no_figure(measure: Callable[[Any], Any]) -> None:
    assert measure(np.array([0.01])) is None


def test_a_benchmark_that_lacks_a_day_is_paired_over_it() -> None:
    own = daily(date(2026, 1, 1), [0.0, 0.01, 0.02, 0.03])
    other = series_of(own.days[[0, 1, 3]], np.array([0.0, 0.01, 0.0506]))
    mine, theirs = risk.paired(own, other)
    assert mine == pytest.approx([0.01, 1.02 * 1.03 - 1])
    assert theirs == pytest.approx([0.01, 0.0506])


def test_diversification_of_equal_parts_is_their_number() -> None:
    assert risk.diversification([5, 5, 5, 5]) == (pytest.approx(0.75), pytest.approx(4.0))
    assert risk.diversification([]) is None


def test_trade_statistics_count_wins_losses_and_means() -> None:
    closed = ClosedTrades(
        np.array(["2026-01-01"] * 5, dtype="datetime64[D]"),
        np.array([300, -100, 200, 0, -99], dtype=np.int64),
        np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    )
    found = statistics(closed)
    assert (found.closed_count, found.win_count, found.loss_count, found.win_rate) == (5, 2, 2, 0.4)
    assert (found.gross_win_paise, found.gross_loss_paise, found.profit_factor) == (500, 199, pytest.approx(500 / 199))
    assert (found.expectancy_paise, found.best_paise, found.worst_paise, found.average_days_held) == (
        60,
        300,
        -100,
        3.0,
    )
    empty = statistics(closed.between(date(2027, 1, 1), None))
    assert (empty.win_rate, empty.profit_factor, empty.expectancy_paise) == (None, None, None)
