"""Prices: the seeded walk and the replay of recorded bars."""

import csv
import gzip
from datetime import date
from pathlib import Path

import pytest

from kite_simulator.engine.instruments import load_instruments

REAL_BARS = Path(__file__).resolve().parents[3] / "shared" / "data" / "nse_daily.csv.gz"


def test_walk_stays_on_the_grid_inside_the_band_and_near_the_close(make_market):
    market = make_market(frozen=False)
    lines = market.engine.kernel.board.lines
    for _ in range(5):
        market.pass_time(120)
        for line in lines.values():
            assert line.last_paise % line.instrument.tick_paise == 0
            assert line.lower_paise <= line.last_paise <= line.upper_paise
            assert line.low_paise <= line.last_paise <= line.high_paise
    moves = [abs(line.last_paise - line.close_paise) / line.close_paise for line in lines.values()]
    assert 0 < max(moves) < 0.03


def test_same_seed_same_prices_other_seed_other_prices(make_market):
    boards = []
    for seed in (1, 1, 2):
        market = make_market(frozen=False, seed=seed)
        market.pass_time(300)
        boards.append({key: line.last_paise for key, line in market.engine.kernel.board.lines.items()})
    assert boards[0] == boards[1] != boards[2]


def test_shipped_facts_are_complete():
    book = load_instruments()
    shares = [row for row in book.all if row.segment == "NSE"]
    assert len(shares) == 50
    assert all(row.token == row.exchange_token * 256 + 1 for row in shares)
    assert all(len(row.isin) == 12 and row.ref_close_paise > 0 and row.tick_paise > 0 for row in shares)
    assert len({row.token for row in book.all}) == len(book.all)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_recorded_bar_is_walked_open_high_low_close(make_market, tmp_path, packed):
    text = (
        "date,symbol,open,high,low,close,volume\n"
        "2026-01-02,INFY,1000,1030,990,1010,3750\n"
        "2026-01-05,INFY,1020,1050.5,1015,1040,7500\n"
    )
    path = tmp_path / ("bars.csv.gz" if packed else "bars.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    market = make_market(frozen=False, replay_csv=path, replay_seconds_per_bar=30.0)
    line = market.engine.kernel.board.lines["NSE:INFY"]
    assert line.last_paise == 1000_00
    seen = []
    for _ in range(70):
        market.pass_time(1)
        seen.append(line.last_paise)
    assert seen[0] == 1000_00
    assert seen[10] == 1030_00
    assert seen[20] == 990_00
    assert seen[30] == 1020_00
    assert (seen[40], seen[50], seen[-1]) == (1050_50, 1015_00, 1040_00)
    bars = market.engine.candles._days(
        line.instrument, market.clock.now().replace(month=1, day=1), market.clock.now().replace(month=1, day=31)
    )
    assert [moment.date() for moment, _ in bars] == [date(2026, 1, 2), date(2026, 1, 5)]


def test_real_bars_replay(make_market):
    if not REAL_BARS.exists():
        pytest.skip(f"no recorded bars at {REAL_BARS}: the data folder beside the repository is missing")
    with gzip.open(REAL_BARS, "rt", encoding="utf-8") as source:
        first = next(row for row in csv.DictReader(source) if row["symbol"] == "RELIANCE")
    market = make_market(frozen=False, replay_csv=REAL_BARS, replay_seconds_per_bar=10.0)
    line = market.engine.kernel.board.lines["NSE:RELIANCE"]
    assert line.last_paise == pytest.approx(float(first["open"]) * 100, abs=10)
    market.pass_time(100)
    assert line.lower_paise <= line.last_paise <= line.upper_paise
    assert line.volume > 0
