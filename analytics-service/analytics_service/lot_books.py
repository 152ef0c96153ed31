"""Lots in SQL: made again for the shares of a portfolio that have new facts (rules: `lots`)."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from analytics_service import facts
from analytics_service.columns import insert_columns
from analytics_service.facts import BookKey, Portfolio
from analytics_service.lots import Disposal, fifo
from analytics_service.lots import OpenLot as Held
from analytics_service.models_derived import LotDisposal, OpenLot, ShareBook


def make_books(session: Session, portfolio: Portfolio) -> None:
    """Make the lots of every share whose number of facts has changed."""
    counts = facts.counts_by_book(session, portfolio)
    rows = session.execute(
        select(ShareBook.exchange, ShareBook.tradingsymbol, ShareBook.product, ShareBook.fact_count).where(
            ShareBook.portfolio_id == portfolio.portfolio_id
        )
    )
    made = {(exchange, symbol, product): count for exchange, symbol, product, count in rows}
    stale = sorted(book for book, count in counts.items() if made.get(book) != count)
    if not stale:
        return
    for table in (LotDisposal, OpenLot, ShareBook):
        session.execute(
            delete(table).where(
                table.portfolio_id == portfolio.portfolio_id,
                sa.tuple_(table.exchange, table.tradingsymbol, table.product).in_(stale),
            )
        )
    disposals: list[tuple[BookKey, int, Disposal]] = []
    held: list[tuple[BookKey, int, Held]] = []
    for book, fills in facts.fills_by_book(session, portfolio, stale).items():
        closed, left = fifo(fills)
        disposals += [(book, number, disposal) for number, disposal in enumerate(closed)]
        held += [(book, number, lot) for number, lot in enumerate(left)]
    _store_disposals(session, portfolio, disposals)
    _store_lots(session, portfolio, held)
    insert_columns(
        session,
        "share_book (portfolio_id, exchange, tradingsymbol, product, fact_count)",
        portfolio.portfolio_id,
        [("text", [book[0] for book in stale]), ("text", [book[1] for book in stale]),
         ("text", [book[2] for book in stale]), ("int", [counts[book] for book in stale])],
    )  # fmt: skip


def _store_disposals(
    session: Session, portfolio: Portfolio, disposals: Sequence[tuple[BookKey, int, Disposal]]
) -> None:
    insert_columns(
        session,
        "lot_disposal (portfolio_id, exchange, tradingsymbol, product, disposal_no, order_id, acquired_on, disposed_on,"
        " quantity, cost_paise, proceeds_paise, charges_paise)",
        portfolio.portfolio_id,
        [
            *_book_columns([book for book, _, _ in disposals]),
            ("int", [number for _, number, _ in disposals]),
            ("uuid", [one.order_id for _, _, one in disposals]),
            ("date", [one.acquired_on for _, _, one in disposals]),
            ("date", [one.disposed_on for _, _, one in disposals]),
            ("int", [one.quantity for _, _, one in disposals]),
            ("bigint", [one.cost_paise for _, _, one in disposals]),
            ("bigint", [one.proceeds_paise for _, _, one in disposals]),
            ("bigint", [one.charges_paise for _, _, one in disposals]),
        ],
    )


def _store_lots(session: Session, portfolio: Portfolio, lots: Sequence[tuple[BookKey, int, Held]]) -> None:
    insert_columns(
        session,
        "open_lot (portfolio_id, exchange, tradingsymbol, product, lot_no, acquired_on, quantity, cost_paise,"
        " charges_paise)",
        portfolio.portfolio_id,
        [
            *_book_columns([book for book, _, _ in lots]),
            ("int", [number for _, number, _ in lots]),
            ("date", [lot.acquired_on for _, _, lot in lots]),
            ("int", [lot.quantity for _, _, lot in lots]),
            ("bigint", [lot.cost_paise for _, _, lot in lots]),
            ("bigint", [lot.charges_paise for _, _, lot in lots]),
        ],
    )


def _book_columns(books: Sequence[BookKey]) -> list[tuple[str, list[Any]]]:
    return [("text", [book[part] for book in books]) for part in range(3)]
