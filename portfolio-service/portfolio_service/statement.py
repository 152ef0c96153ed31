"""An account statement: opening balance, entries with the running balance, closing balance; and its CSV.

Paise and aware instants inside. The CSV is an edge: IST dates as DD-MM-YYYY, rupees with two decimals. Amounts carry no
lakh separators there, so that a spreadsheet reads them as numbers.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from common.clock import to_ist
from common.money import format_rupees

CSV_HEADER = (
    "Date",
    "Time (IST)",
    "Type",
    "Particulars",
    "Reference",
    "Debit (INR)",
    "Credit (INR)",
    "Balance (INR)",
)

_FORMULA_STARTS = frozenset("=+-@＝＋－＠")
_CONTROL_STARTS = frozenset("\t\r\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry: positive `amount_paise` came in (credit), negative went out (debit).

    Raises ValueError for a naive `booked_at`.
    """

    booked_at: datetime
    kind: str
    particulars: str
    reference: str
    amount_paise: int

    def __post_init__(self) -> None:
        if self.booked_at.tzinfo is None:
            raise ValueError(f"a naive datetime has no instant: {self.booked_at!r}")


@dataclass(frozen=True, slots=True)
class StatementLine:
    """An entry and the balance after it."""

    entry: Entry
    balance_paise: int


@dataclass(frozen=True, slots=True)
class Statement:
    """opening + credits - debits = closing; debits are counted as a positive amount."""

    opening_paise: int
    lines: tuple[StatementLine, ...]
    credits_paise: int
    debits_paise: int
    closing_paise: int


def build(opening_paise: int, entries: Sequence[Entry]) -> Statement:
    """The statement over `entries` in the ledger's order, which is kept, starting from `opening_paise`."""
    balance = opening_paise
    lines: list[StatementLine] = []
    for entry in entries:
        balance += entry.amount_paise
        lines.append(StatementLine(entry, balance))
    return Statement(
        opening_paise=opening_paise,
        lines=tuple(lines),
        credits_paise=sum(entry.amount_paise for entry in entries if entry.amount_paise > 0),
        debits_paise=-sum(entry.amount_paise for entry in entries if entry.amount_paise < 0),
        closing_paise=balance,
    )


def to_csv(statement: Statement) -> str:
    """RFC 4180 text with a header, an opening row, the entries and a closing row with the sums."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_HEADER)
    writer.writerow(["", "", "", "Opening balance", "", "", "", format_rupees(statement.opening_paise)])
    for line in statement.lines:
        writer.writerow(_csv_cells(line))
    writer.writerow(
        [
            "",
            "",
            "",
            "Closing balance",
            "",
            format_rupees(statement.debits_paise),
            format_rupees(statement.credits_paise),
            format_rupees(statement.closing_paise),
        ]
    )
    return out.getvalue()


def _csv_cells(line: StatementLine) -> list[str]:
    entry = line.entry
    booked_at = to_ist(entry.booked_at)
    return [
        booked_at.strftime("%d-%m-%Y"),
        booked_at.strftime("%H:%M:%S"),
        safe_cell(entry.kind),
        safe_cell(entry.particulars),
        safe_cell(entry.reference),
        format_rupees(-entry.amount_paise) if entry.amount_paise < 0 else "",
        format_rupees(entry.amount_paise) if entry.amount_paise >= 0 else "",
        format_rupees(line.balance_paise),
    ]


def safe_cell(text: str) -> str:
    """Text a spreadsheet shows instead of running: a leading apostrophe before anything it could take for a formula.

    OWASP, CSV Injection: cells that start with = + - @ (also full-width, also after blanks), tab or a line break.
    """
    if text[:1] in _CONTROL_STARTS or text.lstrip()[:1] in _FORMULA_STARTS:
        return f"'{text}"
    return text
