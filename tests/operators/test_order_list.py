"""Orders from CSV files: every bad row is named, every row has a key of its own, the same file has the same keys."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.saras_cli.broker import request_token
from scripts.saras_cli.order_list import BYTES_MAX, ROWS_MAX, parse
from scripts.saras_cli.output import Refusal

HEADER = "user,side,symbol,quantity,price\n"


def test_rows_become_orders() -> None:
    someone = uuid4()
    found = parse(f"\ufeff{HEADER}Asha@Example.com,buy,infy,10,\n\n{someone},SELL,M&M,3,1450.05\n".encode())
    assert found.faults == []
    first, second = found.rows
    assert (first.line, first.user, first.body()["order_type"], "price" in first.body()) == (
        2, "asha@example.com", "MARKET", False,
    )  # fmt: skip
    assert (second.line, second.user) == (4, str(someone))
    assert second.body() == {
        "exchange": "NSE", "tradingsymbol": "M&M", "side": "SELL", "quantity": 3, "product": "CNC",
        "order_type": "LIMIT", "price": "1450.05", "confirm_duplicate": True,
    }  # fmt: skip


def test_keys_are_of_the_file_and_the_row() -> None:
    twice = f"{HEADER}a@b.c,BUY,INFY,1,\na@b.c,BUY,INFY,1,\n".encode()
    keys = [row.key for row in parse(twice).rows]
    assert keys == [row.key for row in parse(twice).rows]
    assert len(set(keys)) == 2
    assert set(keys).isdisjoint(row.key for row in parse(twice + b"a@b.c,BUY,TCS,1,\n").rows)
    assert all(len(key) <= 128 and key.isascii() for key in keys)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("asha,BUY,INFY,1,", "user 'asha'"),
        ("a@b.c,HOLD,INFY,1,", "side 'HOLD'"),
        ("a@b.c,BUY,IN FY,1,", "symbol"),
        ("a@b.c,BUY,INFY,0,", "quantity '0'"),
        ("a@b.c,BUY,INFY,1.5,", "quantity '1.5'"),
        ("a@b.c,BUY,INFY,-3,", "quantity '-3'"),
        ("a@b.c,BUY,INFY,99999999999,", "quantity"),
        ("a@b.c,BUY,INFY,١,", "quantity"),
        ("a@b.c,BUY,INFY,1,1e3", "price '1e3'"),
        ("a@b.c,BUY,INFY,1,0", "price '0' is not above 0"),
        ("a@b.c,BUY,INFY,1,1.005", "price '1.005'"),
        ("a@b.c,BUY,INFY,1", "4 cells"),
        ('a@b.c,BUY,"INFY,1,', "not CSV"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_lost_of_the_others(row: str, text: str) -> None:
    found = parse(f"{HEADER}a@b.c,BUY,TCS,1,\n{row}\n".encode())
    [fault] = found.faults
    assert fault.line == 3
    assert text in fault.text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "columns missing"),
        (b"user,side,symbol\n", "columns missing: quantity"),
        (b"user,side,symbol,quantity,colour\n", "unknown columns: colour"),
        (b"user,side,symbol,quantity,user\n", "twice"),
        (HEADER.encode(), "no order"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * (BYTES_MAX + 1), "bytes"),
    ],
)
def test_a_file_that_is_no_list_is_refused_whole(content: bytes, text: str) -> None:
    found = parse(content)
    assert found.rows == []
    assert text in found.faults[0].text


def test_a_list_is_bounded() -> None:
    found = parse((HEADER + "a@b.c,BUY,INFY,1,\n" * (ROWS_MAX + 1)).encode())
    assert "split the file" in found.faults[0].text


@given(st.binary(max_size=400))
def test_any_content_is_rows_or_faults(content: bytes) -> None:
    found = parse(content)
    assert found.rows or found.faults
    found = parse(HEADER.encode() + content)
    assert found.rows or found.faults


def test_the_request_token_is_found_where_a_person_has_it() -> None:
    assert request_token(" abc123 ") == "abc123"
    assert request_token("https://host/cb?action=login&status=success&request_token=abc123&state=x") == "abc123"
    for wrong in ("", "https://host/cb", "https://host/cb?status=failure&request_token=abc", "?request_token="):
        with pytest.raises(Refusal):
            request_token(wrong)
