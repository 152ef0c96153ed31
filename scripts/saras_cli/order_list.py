"""Orders from a CSV file: read whole, judged row by row, each with a key of its own. Pure: no file, no network.

A row's key comes from the whole file and the row's place in it: the same file twice places nothing twice; a file that was
changed anywhere is another list.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from common.money import parse_rupees

BYTES_MAX = 2_000_000
ROWS_MAX = 10_000
QUANTITY_MAX = 10**9
REQUIRED = ("user", "side", "symbol", "quantity")
OPTIONAL = ("price", "exchange", "product")
_SYMBOL = re.compile(r"[A-Z0-9&_\-]{1,40}")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
_EXCHANGE = re.compile(r"[A-Z]{2,6}")
_WHOLE = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class Row:
    """One order. `line` is its line in the file, `user` an e-mail address or an id."""

    line: int
    user: str
    side: str
    symbol: str
    quantity: int
    price: str | None
    exchange: str
    product: str
    key: str

    def body(self) -> dict[str, Any]:
        """As the API takes it. The same order on two lines is meant twice."""
        order = {
            "exchange": self.exchange,
            "tradingsymbol": self.symbol,
            "side": self.side,
            "quantity": self.quantity,
            "product": self.product,
            "order_type": "LIMIT" if self.price else "MARKET",
            "confirm_duplicate": True,
        }
        return {**order, "price": self.price} if self.price else order


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line; line 1 is the header."""

    line: int
    text: str


@dataclass(frozen=True)
class OrderList:
    """What a file says. With any fault nothing of it may be placed."""

    digest: str
    rows: list[Row]
    faults: list[Fault]


def parse(content: bytes) -> OrderList:
    """Read a file's content."""
    digest = hashlib.sha256(content).hexdigest()
    if len(content) > BYTES_MAX:
        return OrderList(digest, [], [Fault(1, f"the file has more than {BYTES_MAX} bytes; split it")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return OrderList(digest, [], [Fault(1, "the file is not UTF-8 text")])
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    faults: list[Fault] = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        faults += _header_faults(header)
        if not faults:
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(rows) + len(faults) >= ROWS_MAX:
                    faults.append(Fault(reader.line_num, f"more than {ROWS_MAX} rows; split the file"))
                    break
                _take(cells, header, reader.line_num, digest, rows, faults)
    except csv.Error as error:
        faults.append(Fault(reader.line_num, f"not CSV: {error}"))
    if not rows and not faults:
        faults.append(Fault(1, "there is no order in the file"))
    return OrderList(digest, rows, faults)


def _header_faults(header: list[str]) -> Iterator[Fault]:
    known = (*REQUIRED, *OPTIONAL)
    if missing := [name for name in REQUIRED if name not in header]:
        yield Fault(1, f"columns missing: {', '.join(missing)} (known: {', '.join(known)})")
    if unknown := [name for name in header if name not in known]:
        yield Fault(1, f"unknown columns: {', '.join(unknown)} (known: {', '.join(known)})")
    if len(set(header)) < len(header):
        yield Fault(1, "a column is there twice")


def _take(cells: list[str], header: list[str], line: int, digest: str, rows: list[Row], faults: list[Fault]) -> None:
    if len(cells) != len(header):
        faults.append(Fault(line, f"{len(cells)} cells, the header has {len(header)}"))
        return
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    wrong = [text for text in _cell_faults(row) if text]
    if wrong:
        faults.append(Fault(line, "; ".join(wrong)))
        return
    rows.append(
        Row(
            line=line,
            user=row["user"].lower(),
            side=row["side"].upper(),
            symbol=row["symbol"].upper(),
            quantity=int(row["quantity"]),
            price=row.get("price") or None,
            exchange=(row.get("exchange") or "NSE").upper(),
            product=(row.get("product") or "CNC").upper(),
            key=f"list-{hashlib.sha256(f'{digest}:{line}'.encode()).hexdigest()}",
        )
    )


def _cell_faults(row: Mapping[str, str]) -> Iterator[str | None]:
    yield None if _is_user(row["user"]) else f"user {row['user']!r} is neither an e-mail address nor an id"
    yield None if row["side"].upper() in ("BUY", "SELL") else f"side {row['side']!r} is neither BUY nor SELL"
    yield None if _SYMBOL.fullmatch(row["symbol"].upper()) else f"symbol {row['symbol']!r} is none"
    quantity = int(row["quantity"]) if _WHOLE.fullmatch(row["quantity"]) else 0
    whole = 1 <= quantity <= QUANTITY_MAX
    yield None if whole else f"quantity {row['quantity']!r} is no whole number from 1"
    if price := row.get("price"):
        yield _price_fault(price)
    if exchange := row.get("exchange"):
        yield None if _EXCHANGE.fullmatch(exchange.upper()) else f"exchange {exchange!r} is none"
    if product := row.get("product"):
        yield None if product.upper() in ("CNC", "MIS") else f"product {product!r} is neither CNC nor MIS"


def _price_fault(price: str) -> str | None:
    try:
        return None if parse_rupees(price) > 0 else f"price {price!r} is not above 0"
    except ValueError:
        return f"price {price!r} is no amount in rupees"


def _is_user(text: str) -> bool:
    if _EMAIL.fullmatch(text):
        return True
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def of_one(cells: Mapping[str, str], key: str) -> OrderList:
    """A list of one order that did not come from a file."""
    rows: list[Row] = []
    faults: list[Fault] = []
    _take(list(cells.values()), list(cells), 1, "", rows, faults)
    return OrderList("", [replace(row, key=key) for row in rows], faults)
