"""Splits and bonus issues taken out of candles: the rule by itself, and on prices that the exchange has seen."""

import csv
import gzip
from dataclasses import astuple
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_service.adjustment import Action, as_traded, held_in
from market_data_service.source import DayCandle, IntradayCandle

PRICES = Path(__file__).resolve().parents[3] / "shared" / "data" / "nse_daily.csv.gz"
DAY = timedelta(days=1)
EX = date(2024, 10, 28)
READ = date(2026, 11, 23)
BONUS = Action(EX, "BONUS", 2, 1)
SPLIT = Action(date(2025, 6, 16), "SPLIT", 5, 1)

days = st.dates(date(2020, 1, 1), date(2026, 12, 31))
parts = st.integers(1, 1_000)
ratios = st.tuples(parts, parts).filter(lambda pair: pair[0] != pair[1])
actions = st.builds(lambda on, kind, ratio: Action(on, kind, *ratio), days, st.sampled_from(["SPLIT", "BONUS"]), ratios)
prices = st.integers(1, 100_000_00)
candles = st.builds(
    lambda on, figures, volume: DayCandle(on, figures[1], figures[3], figures[0], figures[2], volume),
    days,
    st.lists(prices, min_size=4, max_size=4).map(sorted),
    st.integers(0, 10**10),
)


def figures(candle: DayCandle) -> tuple[int, ...]:
    return candle.open_paise, candle.high_paise, candle.low_paise, candle.close_paise


def traded(candle: DayCandle, *undo: Action, read_on: date = READ) -> DayCandle:
    return as_traded([candle], [read_on], undo).candles[0]


@given(st.lists(candles, max_size=5))
def test_without_an_action_candles_are_what_they_were(given_candles: list[DayCandle]) -> None:
    answer = as_traded(given_candles, [READ] * len(given_candles), ())
    assert (list(answer.candles), answer.undone) == (given_candles, ())


@given(candles, actions, days)
def test_only_days_before_the_ex_date_and_only_actions_the_broker_knew_are_changed(
    candle: DayCandle, action: Action, read_on: date
) -> None:
    answer = as_traded([candle], [read_on], [action])
    if candle.on < action.ex_date <= read_on:
        assert answer.undone == (action,)
    else:
        assert (answer.candles, answer.undone) == ((candle,), ())


@given(prices, ratios)
def test_a_traded_price_comes_back_within_a_paisa_of_the_brokers(raw_paise: int, ratio: tuple[int, int]) -> None:
    """A step of one paisa in the broker's price is worth the ratio in the traded one."""
    action = Action(EX, "SPLIT", *ratio)
    brokers = round(raw_paise / action.ratio)
    back = traded(DayCandle(EX - DAY, brokers, brokers, brokers, brokers, 1), action).close_paise
    assert abs(back - raw_paise) <= max(action.ratio, Fraction(1))
    if action.ratio >= 1:
        assert round(back / action.ratio) == brokers, "adjusted once more it is the broker's price"


@given(candles, st.lists(actions, max_size=4))
def test_actions_compose_and_are_rounded_once(candle: DayCandle, several: list[Action]) -> None:
    answer = traded(candle, *several)
    ratio = prod((action.ratio for action in held_in(several, candle.on, READ)), start=Fraction(1))
    assert figures(answer) == tuple(round(figure * ratio) for figure in figures(candle))
    assert answer.volume == round(candle.volume / ratio)
    assert answer == traded(candle, *reversed(several))


@given(candles, ratios, ratios)
def test_two_actions_are_one_of_their_product(
    candle: DayCandle, first: tuple[int, int], second: tuple[int, int]
) -> None:
    both = Action(date(2027, 1, 1), "SPLIT", *first), Action(date(2027, 1, 4), "BONUS", *second)
    one = Action(date(2027, 1, 4), "SPLIT", first[0] * second[0], first[1] * second[1])
    later = date(2027, 2, 1)
    assert traded(candle, *both, read_on=later) == traded(candle, one, read_on=later)


@given(candles, st.lists(actions, max_size=3))
def test_a_candle_stays_a_candle(candle: DayCandle, several: list[Action]) -> None:
    answer = traded(candle, *several)
    assert answer.low_paise <= min(answer.open_paise, answer.close_paise)
    assert max(answer.open_paise, answer.close_paise) <= answer.high_paise
    assert answer.on == candle.on
    assert all(type(figure) is int for figure in astuple(answer)[1:])


def test_the_ex_date_itself_is_traded_in_new_shares() -> None:
    before, on = (DayCandle(day, 100_00, 110_00, 90_00, 105_00, 1_000) for day in (EX - DAY, EX))
    answer = as_traded([before, on], [READ, READ], [BONUS])
    assert answer.candles == (DayCandle(EX - DAY, 200_00, 220_00, 180_00, 210_00, 500), on)
    assert answer.undone == (BONUS,)


def test_halves_are_rounded_to_even() -> None:
    three_for_two = Action(EX, "BONUS", 3, 2)
    answer = traded(DayCandle(EX - DAY, 101, 103, 100, 103, 1), three_for_two)
    assert figures(answer) == (152, 154, 150, 154)
    assert traded(DayCandle(EX - DAY, 1, 1, 1, 1, 5), BONUS).volume == 2
    assert traded(DayCandle(EX - DAY, 1, 1, 1, 1, 7), BONUS).volume == 4


def test_minutes_belong_to_their_indian_day() -> None:
    evening = datetime(2024, 10, 27, 18, 29, tzinfo=UTC)  # 23:59 IST
    last, first = (IntradayCandle(at, 100, 100, 100, 100, 10) for at in (evening, evening + timedelta(minutes=1)))
    answer = as_traded([last, first], [READ, READ], [BONUS, SPLIT])
    assert answer.candles == (
        IntradayCandle(evening, 1_000, 1_000, 1_000, 1_000, 1),
        IntradayCandle(first.at, 500, 500, 500, 500, 2),
    )
    assert answer.undone == (BONUS, SPLIT)


def test_every_candle_needs_the_day_on_which_it_was_given() -> None:
    with pytest.raises(ValueError, match="shorter"):
        as_traded([DayCandle(EX, 1, 1, 1, 1, 1)], [], [BONUS])


# --- real prices ------------------------------------------------------------------------------------------------------------

REAL = {
    "RELIANCE": [Action(EX, "BONUS", 2, 1)],
    "HDFCBANK": [Action(date(2025, 8, 26), "BONUS", 2, 1)],
    "KOTAKBANK": [Action(date(2026, 1, 14), "SPLIT", 5, 1)],
    "NESTLEIND": [Action(date(2024, 1, 5), "SPLIT", 10, 1), Action(date(2025, 8, 8), "BONUS", 2, 1)],
}


@pytest.fixture(scope="module")
def collected() -> dict[str, list[DayCandle]]:
    """The collected candles of these shares, adjusted to the end of the file."""
    if not PRICES.exists():
        pytest.skip(f"the collected prices are not here: {PRICES.name} in ../shared/data")
    found: dict[str, list[DayCandle]] = {symbol: [] for symbol in REAL}
    with gzip.open(PRICES, "rt") as file:
        for row in csv.DictReader(file):
            if row["symbol"] in found:
                paise = [round(float(row[name]) * 100) for name in ("open", "high", "low", "close")]
                found[row["symbol"]].append(
                    DayCandle(date.fromisoformat(row["date"]), *paise, volume=round(float(row["volume"])))
                )
    return {symbol: sorted(rows, key=lambda row: row.on) for symbol, rows in found.items()}


@pytest.mark.parametrize("symbol", REAL)
def test_what_was_traded_jumps_by_the_ratio_on_the_ex_date(collected: dict[str, list[DayCandle]], symbol: str) -> None:
    adjusted, known = collected[symbol], REAL[symbol]
    raw = as_traded(adjusted, [READ] * len(adjusted), known)
    assert raw.undone == tuple(known)
    for action in known:
        first = next(place for place, row in enumerate(adjusted) if row.on == action.ex_date)
        before, on = raw.candles[first - 1], raw.candles[first]
        assert before.close_paise / on.open_paise == pytest.approx(float(action.ratio), rel=0.05)
        assert adjusted[first - 1].close_paise / adjusted[first].open_paise == pytest.approx(1, rel=0.05)
    newest = known[-1].ex_date
    assert [row for row in raw.candles if row.on >= newest] == [row for row in adjusted if row.on >= newest]
