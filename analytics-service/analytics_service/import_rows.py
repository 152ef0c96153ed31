"""A user's own CSV, row by row: what each row says, or why it cannot be taken. Pure.

Trades: date, side, symbol, quantity, price; also exchange, charges, product, trade_id. Holdings: symbol, quantity,
average_price, acquired_on; also exchange. Names of other brokers' files (trade_date, trade_type, tradingsymbol) are known;
further columns are left alone.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal

from common.money import MAX_PAISE, round_paise

Kind = Literal["trades", "holdings"]
BYTES_MAX = 5 * 1024 * 1024
ROWS_MAX = 50_000
CELL_MAX = 200
COLUMNS_MAX = 60
QUANTITY_MAX = 1_000_000_000
OLDEST = date(1990, 1, 1)
DATE_FORMS = ("%Y-%m-%d", "%d-%m-%Y", "%d/%m/%Y", "%d-%b-%Y")
EXCHANGES, SIDES, PRODUCTS = ("NSE", "BSE"), ("BUY", "SELL"), ("CNC", "MIS")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9&_.-]{0,39}\Z")
_AMOUNT = re.compile(r"\d{1,13}(\.\d{1,8})?\Z")
ALIASES: Mapping[str, str] = {
    "trade_date": "date", "trade_type": "side", "transaction_type": "side", "type": "side", "tradingsymbol": "symbol",
    "instrument": "symbol", "qty": "quantity", "qty.": "quantity", "avg_price": "average_price",
    "avg._cost": "average_price", "avg_cost": "average_price", "purchase_date": "acquired_on", "fees": "charges",
}  # fmt: skip
REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    "trades": ("date", "side", "symbol", "quantity", "price"),
    "holdings": ("symbol", "quantity", "average_price", "acquired_on"),
}


@dataclass(frozen=True)
class Problem:
    """Why a row is not taken. Row 1 is the head of the file."""

    row: int
    column: str
    code: str
    message: str


@dataclass(frozen=True)
class TradeRow:
    """A trade of the file; `key` tells the same row brought again from another one that looks alike."""

    row: int
    key: str
    on: date
    exchange: str
    tradingsymbol: str
    side: str
    product: str
    quantity: int
    amount_paise: int
    charges_paise: int


@dataclass
class Parsed:
    """What a file says."""

    rows: list[TradeRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    row_count: int = 0

    @property
    def bad_rows(self) -> int:
        """How many rows have a problem."""
        return len({problem.row for problem in self.problems})


class _Bad(Exception):
    """A cell that cannot be taken."""

    def __init__(self, column: str, code: str, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.code = code
        self.message = message


def parse(content: bytes, kind: Kind, today: date) -> Parsed:
    """Read a file. A problem of row 1 is one of the whole file: no row is read then."""
    parsed = Parsed()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _refused(parsed, "not_utf8", "The file is not UTF-8 text; save it as CSV (UTF-8).")
    if "\x00" in text:
        return _refused(parsed, "not_csv", "The file holds binary data; it is not a CSV.")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        return _refused(parsed, "not_csv", f"The file cannot be read as CSV near line {reader.line_num}: {error}.")
    if not lines:
        return _refused(parsed, "empty_file", "The file is empty.")
    head = [_column(cell) for cell in lines[0][1]]
    if (trouble := _head_trouble(head, kind)) is not None:
        parsed.problems.append(trouble)
        return parsed
    if len(lines) - 1 > ROWS_MAX:
        return _refused(parsed, "too_many_rows", f"The file has {len(lines) - 1} rows; at most {ROWS_MAX} at once.")
    read: Callable[[Mapping[str, str], date], TradeRow] = _trade if kind == "trades" else _holding
    alike: Counter[str] = Counter()
    seen_ids: set[str] = set()
    for number, (_, cells) in enumerate(lines[1:], start=2):
        parsed.row_count += 1
        try:
            parsed.rows.append(_keyed(_one(head, cells, read, today), number, cells, head, alike, seen_ids))
        except _Bad as bad:
            parsed.problems.append(Problem(number, bad.column, bad.code, bad.message))
    return parsed


def _refused(parsed: Parsed, code: str, message: str) -> Parsed:
    parsed.problems.append(Problem(1, "", code, message))
    return parsed


def _column(cell: str) -> str:
    name = cell.strip().lower().replace(" ", "_")
    return ALIASES.get(name, name)


def _head_trouble(head: list[str], kind: Kind) -> Problem | None:
    if len(head) > COLUMNS_MAX:
        return Problem(1, "", "too_many_columns", f"The file has {len(head)} columns; at most {COLUMNS_MAX}.")
    for name in REQUIRED[kind]:
        if name not in head:
            wanted = ", ".join(REQUIRED[kind])
            return Problem(1, name, "missing_column", f"The column {name} is missing; needed are {wanted}.")
        if head.count(name) > 1:
            return Problem(1, name, "doubled_column", f"The column {name} is there more than once.")
    return None


def _one(
    head: list[str], cells: list[str], read: Callable[[Mapping[str, str], date], TradeRow], today: date
) -> TradeRow:
    if len(cells) > len(head):
        raise _Bad("", "too_many_cells", f"The row has {len(cells)} cells, the head {len(head)}.")
    row = {name: cell.strip() for name, cell in zip(head, cells, strict=False)}
    for name, cell in row.items():
        if len(cell) > CELL_MAX:
            raise _Bad(name, "too_long", f"A cell may have at most {CELL_MAX} characters.")
    return read(row, today)


def _keyed(
    row: TradeRow, number: int, cells: list[str], head: list[str], alike: Counter[str], seen_ids: set[str]
) -> TradeRow:
    """The row with its number and key: its own trade id, or what it says and the how-manieth such row it is."""
    trade_id = (
        cells[head.index("trade_id")].strip() if "trade_id" in head and len(cells) > head.index("trade_id") else ""
    )
    if trade_id:
        key = f"id:{row.exchange}:{row.on.isoformat()}:{trade_id}"
        if key in seen_ids:
            raise _Bad("trade_id", "doubled_trade_id", "Another row of that exchange and day has the same trade id.")
        seen_ids.add(key)
    else:
        facts = (row.on.isoformat(), row.exchange, row.tradingsymbol, row.side, row.product, str(row.quantity),
                 str(row.amount_paise), str(row.charges_paise))  # fmt: skip
        digest = hashlib.sha256("|".join(facts).encode()).hexdigest()
        alike[digest] += 1
        key = f"row:{digest}:{alike[digest]}"
    return TradeRow(
        number, key, row.on, row.exchange, row.tradingsymbol, row.side, row.product, row.quantity, row.amount_paise,
        row.charges_paise,
    )  # fmt: skip


def _trade(row: Mapping[str, str], today: date) -> TradeRow:
    quantity = _quantity(row)
    return TradeRow(
        row=0,
        key="",
        on=_day(row, "date", today),
        exchange=_choice(row, "exchange", EXCHANGES, default="NSE"),
        tradingsymbol=_symbol(row),
        side=_choice(row, "side", SIDES),
        product=_choice(row, "product", PRODUCTS, default="CNC"),
        quantity=quantity,
        amount_paise=_value(row, "price", quantity),
        charges_paise=_paise(row, "charges") if row.get("charges") else 0,
    )


def _holding(row: Mapping[str, str], today: date) -> TradeRow:
    quantity = _quantity(row)
    return TradeRow(
        row=0,
        key="",
        on=_day(row, "acquired_on", today),
        exchange=_choice(row, "exchange", EXCHANGES, default="NSE"),
        tradingsymbol=_symbol(row),
        side="BUY",
        product="CNC",
        quantity=quantity,
        amount_paise=_value(row, "average_price", quantity),
        charges_paise=0,
    )


def _given(row: Mapping[str, str], column: str) -> str:
    cell = row.get(column, "")
    if not cell:
        raise _Bad(column, "empty", f"{column} is empty.")
    return cell


def _day(row: Mapping[str, str], column: str, today: date) -> date:
    cell = _given(row, column)
    for form in DATE_FORMS:
        try:
            on = datetime.strptime(cell[:19].split("T")[0].split(" ")[0], form).date()  # noqa: DTZ007  a calendar day
        except ValueError:
            continue
        if on > today:
            raise _Bad(column, "in_the_future", f"{on.isoformat()} has not come yet.")
        if on < OLDEST:
            raise _Bad(column, "too_old", f"Days before {OLDEST.isoformat()} are not taken.")
        return on
    raise _Bad(column, "not_a_date", f"{column} is no day; write it like 2026-11-23.")


def _quantity(row: Mapping[str, str]) -> int:
    cell = _given(row, "quantity").replace(",", "")
    if not re.fullmatch(r"\d{1,12}(\.0+)?", cell):
        raise _Bad("quantity", "not_a_whole_number", "quantity must be a whole number of shares.")
    number = int(cell.split(".")[0])
    if not 1 <= number <= QUANTITY_MAX:
        raise _Bad("quantity", "out_of_range", f"quantity must be between 1 and {QUANTITY_MAX}.")
    return number


def _decimal(row: Mapping[str, str], column: str) -> Decimal:
    cell = _given(row, column).replace(",", "").removeprefix("₹").strip()
    if not _AMOUNT.match(cell):
        raise _Bad(column, "not_an_amount", f"{column} must be rupees such as 1234.50, not negative.")
    try:
        return Decimal(cell)
    except InvalidOperation:
        raise _Bad(column, "not_an_amount", f"{column} must be rupees such as 1234.50.") from None


def _paise(row: Mapping[str, str], column: str) -> int:
    return _in_range(round_paise(_decimal(row, column) * 100), column)


def _value(row: Mapping[str, str], column: str, quantity: int) -> int:
    """Quantity times price, to the paisa; a price itself may have more decimals (an average)."""
    return _in_range(round_paise(_decimal(row, column) * quantity * 100), column)


def _in_range(paise: int, column: str) -> int:
    if paise > MAX_PAISE:
        raise _Bad(column, "out_of_range", f"{column} is too large.")
    return paise


def _choice(row: Mapping[str, str], column: str, among: tuple[str, ...], default: str | None = None) -> str:
    cell = row.get(column, "").upper()
    if not cell and default is not None:
        return default
    chosen = {"B": "BUY", "S": "SELL"}.get(cell, cell)
    if chosen not in among:
        raise _Bad(column, f"unknown_{column}", f"{column} must be one of {', '.join(among)}.")
    return chosen


def _symbol(row: Mapping[str, str]) -> str:
    cell = _given(row, "symbol").upper()
    if not _SYMBOL.match(cell):
        raise _Bad("symbol", "not_a_symbol", "symbol must be a tradingsymbol such as RELIANCE or M&M.")
    return cell
