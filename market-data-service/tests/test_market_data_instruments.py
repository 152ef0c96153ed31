"""Instrument rows, implausible files, keys, and the order of search results."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_service.instrument_file import InstrumentFile, implausible, parse_rows
from market_data_service.instruments import InstrumentBook, Listing, MalformedKey, format_key, parse_key

TODAY = date(2026, 11, 23)
RowFactory = Callable[..., dict[str, Any]]


def listing(symbol: str, name: str, exchange: str = "NSE", **changes: Any) -> Listing:
    fields = {"instrument_token": 1, "exchange_token": "1", "tick_paise": 5, "lot_size": 1, "segment": exchange}
    return Listing(exchange, symbol, name, **{**fields, "instrument_type": "EQ", "last_seen_on": TODAY, **changes})


def test_rows_become_listings_in_paise_and_units(row: RowFactory) -> None:
    file = parse_rows(
        "NSE", [row("INFY", tick_size=0.1), row("MARUTI", tick_size=1.0), row("WIPRO", tick_size=0.01)], TODAY
    )
    assert [(item.tradingsymbol, item.tick_paise, item.lot_size) for item in file.listings] == [
        ("INFY", 10, 1),
        ("MARUTI", 100, 1),
        ("WIPRO", 1, 1),
    ]
    assert all(item.last_seen_on == TODAY and item.is_equity for item in file.listings)


@pytest.mark.parametrize(
    "changes",
    [
        {"tradingsymbol": ""},
        {"tradingsymbol": "X" * 65},
        {"tick_size": 0.0},
        {"tick_size": float("nan")},
        {"tick_size": "cheap"},
        {"lot_size": 0},
        {"lot_size": -1},
        {"exchange": "BSE"},
        {"instrument_token": None},
    ],
)
def test_unusable_rows_are_skipped_and_counted(row: RowFactory, changes: dict[str, Any]) -> None:
    file = parse_rows("NSE", [row("GOOD"), {**row("BAD"), **changes}], TODAY)
    assert [item.tradingsymbol for item in file.listings] == ["GOOD"]
    assert file.skipped == 1


def test_a_row_without_a_column_or_said_twice_is_skipped(row: RowFactory) -> None:
    broken = row("BAD")
    del broken["segment"]
    file = parse_rows("NSE", [row("GOOD", name="first"), row("GOOD", name="second"), broken], TODAY)
    assert [item.name for item in file.listings] == ["first"]
    assert file.skipped == 2


def test_an_index_has_no_lot_and_is_not_tradable(row: RowFactory) -> None:
    [index] = parse_rows("NSE", [row("NIFTY 50", segment="INDICES", lot_size=0, tick_size=0.0)], TODAY).listings
    assert not index.is_tradable
    assert not index.is_equity


@pytest.mark.parametrize(
    ("count", "active_before", "is_refused"),
    [(0, 0, True), (0, 10, True), (1, 0, False), (5, 10, False), (4, 10, True), (100, 10, False), (1, 3, True)],
)
def test_a_file_with_less_than_half_of_the_instruments_is_implausible(
    row: RowFactory, count: int, active_before: int, is_refused: bool
) -> None:
    file = InstrumentFile("NSE", parse_rows("NSE", [row(f"S{number}") for number in range(count)], TODAY).listings, 0)
    reason = implausible(file, active_before)
    assert (reason is not None) is is_refused
    if reason is not None:
        assert str(count) in reason or "no usable row" in reason


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("NSE:INFY", ("NSE", "INFY")),
        (" nse:m&m ", ("NSE", "M&M")),
        ("BSE:BAJAJ-AUTO", ("BSE", "BAJAJ-AUTO")),
        ("NSE:NIFTY 50", ("NSE", "NIFTY 50")),
    ],
)
def test_keys_are_read(text: str, key: tuple[str, str]) -> None:
    assert parse_key(text) == key
    assert parse_key(format_key(key)) == key


@pytest.mark.parametrize(
    "text", ["", ":", "INFY", "NSE:", "NFO:NIFTY26DECFUT", "NSE:" + "A" * 65, "NSE:A\x00B", "NSE:A\nB"]
)
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(MalformedKey):
        parse_key(text)


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        key = parse_key(text)
    except MalformedKey:
        return
    assert parse_key(format_key(key)) == key


BOOK = [
    listing("INFY", "INFOSYS"),
    listing("INFY", "INFOSYS", "BSE"),
    listing("INFIBEAM", "INFIBEAM AVENUES"),
    listing("INFINGEN", "INFINITY GENETICS"),
    listing("NAUKRI", "INFO EDGE (INDIA)"),
    listing("RELINFRA", "RELIANCE INFRASTRUCTURE"),
    listing("TCS", "TATA CONSULTANCY SERVICES"),
    listing("TATASTEEL", "TATA STEEL"),
    listing("M&M", "MAHINDRA & MAHINDRA"),
    listing("INFGONE", "INFLATION GONE", is_active=False),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INFY", ["NSE:INFY", "BSE:INFY"]),
        ("inf", ["NSE:INFY", "BSE:INFY", "NSE:INFIBEAM", "NSE:INFINGEN", "NSE:NAUKRI", "NSE:RELINFRA"]),
        ("infosys", ["NSE:INFY", "BSE:INFY"]),
        ("tata", ["NSE:TATASTEEL", "NSE:TCS"]),
        ("consul", ["NSE:TCS"]),
        ("sultancy  services", ["NSE:TCS"]),
        ("m&m", ["NSE:M&M"]),
        ("  ", []),
        ("zzz", []),
        ("gone", []),
    ],
)
def test_search_puts_symbols_before_names(text: str, expected: list[str]) -> None:
    book = InstrumentBook()
    book.replace(BOOK)
    assert [format_key(found.key) for found in book.search(text, 20)] == expected
    assert [format_key(found.key) for found in book.search(text, 1)] == expected[:1]


@given(st.text(min_size=1, max_size=12), st.integers(1, 10))
def test_search_never_fails_and_keeps_its_limit(text: str, limit: int) -> None:
    book = InstrumentBook()
    book.replace(BOOK)
    found = book.search(text, limit)
    assert len(found) <= limit
    assert all(item.is_active for item in found)
    wanted = " ".join(text.casefold().split())
    assert all(wanted in f"{item.tradingsymbol} {item.name}".casefold() for item in found)


def test_a_load_replaces_the_whole_book() -> None:
    book = InstrumentBook()
    book.replace(BOOK)
    assert [item.key for item in book.active_equities()] == sorted(item.key for item in BOOK if item.is_active)
    book.replace([listing("ONLY", "ONLY ONE")])
    assert len(book) == 1
    assert book.get(("NSE", "INFY")) is None
