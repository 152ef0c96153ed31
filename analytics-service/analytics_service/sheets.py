"""Tables as CSV and Excel files that a spreadsheet opens without running anything that a cell says. Pure.

A text cell that a spreadsheet could take for a formula gets an apostrophe in front (CSV), or is written as text (Excel).
Numbers stay numbers: amounts are rupees with two decimals.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import xlsxwriter

Cell = str | int | Decimal | date | None
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
WIDTH_MIN, WIDTH_MAX = 8, 48


@dataclass(frozen=True)
class Sheet:
    """A named table; `notes` stand above its head."""

    name: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def csv_of(sheets: Sequence[Sheet]) -> bytes:
    """The tables one below the other, in UTF-8 with the mark that spreadsheets look for."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for number, sheet in enumerate(sheets):
        if number:
            writer.writerow([])
        if len(sheets) > 1:
            writer.writerow([guarded(sheet.name)])
        for note in sheet.notes:
            writer.writerow([guarded(note)])
        writer.writerow([guarded(head) for head in sheet.heads])
        writer.writerows([[_csv_cell(cell) for cell in row] for row in sheet.rows])
    return out.getvalue().encode("utf-8-sig")


def xlsx_of(sheets: Sequence[Sheet]) -> bytes:
    """A workbook with one sheet a table."""
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, options) as book:
        bold = book.add_format({"bold": True, "bottom": 1})
        money, day = book.add_format({"num_format": "#,##0.00"}), book.add_format({"num_format": "yyyy-mm-dd"})
        for sheet in sheets:
            page = book.add_worksheet(sheet.name[:31])
            row = 0
            for note in sheet.notes:
                page.write_string(row, 0, note)
                row += 1
            for column, head in enumerate(sheet.heads):
                page.write_string(row, column, head, bold)
                page.set_column(column, column, _width(sheet, column))
            page.freeze_panes(row + 1, 0)
            for cells in sheet.rows:
                row += 1
                for column, cell in enumerate(cells):
                    if isinstance(cell, Decimal):
                        page.write_number(row, column, cell, money)
                    elif isinstance(cell, int):
                        page.write_number(row, column, cell)
                    elif isinstance(cell, date):
                        page.write_datetime(row, column, cell, day)
                    elif cell is not None:
                        page.write_string(row, column, cell)
    return out.getvalue()


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _csv_cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, date):
        return cell.isoformat()
    return guarded(cell) if isinstance(cell, str) else str(cell)


def _width(sheet: Sheet, column: int) -> int:
    longest = max((len(_csv_cell(row[column])) for row in sheet.rows[:200]), default=0)
    return min(WIDTH_MAX, max(WIDTH_MIN, longest, len(sheet.heads[column])) + 2)
