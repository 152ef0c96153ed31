"""Statements: the running balance closes, and the CSV is safe to open."""

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_service.statement import CSV_HEADER, Entry, Statement, build, safe_cell, to_csv

EVENING = datetime(2026, 11, 20, 18, 45, 9, tzinfo=UTC)


def entry(amount_paise: int, particulars: str = "Top-up", reference: str = "T-1") -> Entry:
    return Entry(EVENING, "CASH", particulars, reference, amount_paise)


def rows_of(statement: Statement) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(statement), newline="")))


def test_running_balance_leads_from_opening_to_closing() -> None:
    statement = build(1_000_00, [entry(500_00), entry(-200_50), entry(-49)])
    assert [line.balance_paise for line in statement.lines] == [1_500_00, 1_299_50, 1_299_01]
    assert (statement.opening_paise, statement.closing_paise) == (1_000_00, 1_299_01)
    assert (statement.credits_paise, statement.debits_paise) == (500_00, 200_99)


def test_statement_without_entries_closes_as_it_opened() -> None:
    assert build(77, []) == Statement(opening_paise=77, lines=(), credits_paise=0, debits_paise=0, closing_paise=77)


def test_csv_shows_indian_dates_and_plain_rupees() -> None:
    rows = rows_of(build(1_00_000_00, [entry(12_34_567_05, "Top-up, second"), entry(-99, "Charges", "C-1")]))
    assert rows == [
        list(CSV_HEADER),
        ["", "", "", "Opening balance", "", "", "", "100000.00"],
        ["21-11-2026", "00:15:09", "CASH", "Top-up, second", "T-1", "", "1234567.05", "1334567.05"],
        ["21-11-2026", "00:15:09", "CASH", "Charges", "C-1", "0.99", "", "1334566.06"],
        ["", "", "", "Closing balance", "", "0.99", "1234567.05", "1334566.06"],
    ]


@pytest.mark.parametrize(
    "text", ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "  =1+1", "\t=1", "\r=1", "\n=1", "＝1+1"]
)
def test_text_that_looks_like_a_formula_is_disarmed(text: str) -> None:
    [_, _, row, _] = rows_of(build(0, [entry(100, particulars=text, reference=text)]))
    assert row[3] == row[4] == f"'{text}"


@pytest.mark.parametrize("text", ["", "Sale of 10 RELIANCE", "1-2", "a=b", "'quoted'", 'say "x", then\ny'])
def test_harmless_text_is_left_alone(text: str) -> None:
    assert safe_cell(text) == text
    assert rows_of(build(0, [entry(100, particulars=text)]))[2][3] == text


def test_entry_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        Entry(datetime(2026, 11, 20), "CASH", "", "", 1)  # noqa: DTZ001 - the naive instant is the point


@given(
    opening=st.integers(0, 10**12),
    amounts=st.lists(st.integers(-(10**9), 10**9), max_size=30),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20),
)
def test_statement_closes_and_its_csv_reads_back(opening: int, amounts: list[int], text: str) -> None:
    statement = build(opening, [entry(amount, particulars=text) for amount in amounts])
    assert statement.closing_paise == opening + sum(amounts)
    assert statement.opening_paise + statement.credits_paise - statement.debits_paise == statement.closing_paise
    rows = rows_of(statement)
    assert len(rows) == len(amounts) + 3
    assert {len(row) for row in rows} == {len(CSV_HEADER)}
    for row in rows[2:-1]:
        assert row[3] == safe_cell(text)
        assert row[3].lstrip()[:1] not in {"=", "+", "-", "@"}
