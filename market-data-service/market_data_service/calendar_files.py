"""Reads the dated tables of the package: calendar days, session phases, shares with a closing auction.

They are data so that a new circular is a row, not a release of code; a malformed file fails at start.
"""

import tomllib
from datetime import date, time
from importlib import resources
from typing import Any, get_args

from market_data_service.calendar import CalendarTable, Entry, EntryKind, Hours, Status
from market_data_service.sessions import ClosingAuctionList, Phase, Schedule, SessionRules, ShareClass

_PACKAGE = "market_data_service"
NOTE_KINDS = ("weekend_holiday", "settlement_holiday")


class CalendarDataInvalid(ValueError):
    """A packaged calendar file breaks its own rules; the text names the file and the row."""


def load_calendar_table() -> CalendarTable:
    """`data/calendar.toml`."""
    document = _read("calendar.toml")
    days: dict[date, Entry] = {}
    notes: list[Entry] = []
    for row in document["day"]:
        entry = _entry(row)
        if entry.kind in NOTE_KINDS:
            notes.append(entry)
        elif entry.on in days:
            raise CalendarDataInvalid(f"calendar.toml: {entry.on} appears twice")
        else:
            days[entry.on] = entry
    return CalendarTable(days, tuple(notes), frozenset(document["years"]["complete"]))


def load_session_rules() -> SessionRules:
    """`data/sessions.toml` and `data/closing_auction_shares.toml`."""
    schedules = [_schedule(row) for row in _read("sessions.toml")["schedule"]]
    lists = [
        ClosingAuctionList(
            exchanges=frozenset(row["exchanges"]),
            symbols=frozenset(row["symbols"]),
            valid_from=row["valid_from"],
            valid_to=row.get("valid_to", date.max),
        )
        for row in _read("closing_auction_shares.toml")["list"]
    ]
    try:
        return SessionRules(schedules, lists)
    except ValueError as error:
        raise CalendarDataInvalid(f"sessions.toml: {error}") from None


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(_PACKAGE).joinpath("data", name).read_text(encoding="utf-8"))


def _entry(row: dict[str, Any]) -> Entry:
    kind, status = row["kind"], row["status"]
    if kind not in get_args(EntryKind) or status not in get_args(Status):
        raise CalendarDataInvalid(f"calendar.toml: {row['on']} has kind {kind!r} and status {status!r}")
    hours = row.get("hours", "unknown")
    span = None
    if hours not in ("regular", "unknown"):
        opens, _, closes = hours.partition("-")
        span = Hours(time.fromisoformat(opens), time.fromisoformat(closes))
    return Entry(row["on"], kind, row["name"], row["source"], status, span, hours == "regular")


def _schedule(row: dict[str, Any]) -> Schedule:
    if row["share_class"] not in get_args(ShareClass):
        raise CalendarDataInvalid(f"sessions.toml: unknown share class {row['share_class']!r}")
    return Schedule(
        share_class=row["share_class"],
        valid_from=row["valid_from"],
        valid_to=row.get("valid_to", date.max),
        phases=tuple(Phase(phase["name"], phase["starts"], phase["ends"]) for phase in row["phases"]),
    )
