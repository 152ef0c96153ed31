"""Settings of market-data-service (prefix MARKET_DATA_)."""

from datetime import time
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from common.config import ServiceSettings, shared
from market_data_service.calendar import CalendarMode
from market_data_service.instruments import EXCHANGES, parse_key

NAME = "market-data-service"
PACKAGE = "market_data_service"


def _names(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _exchanges(value: Any) -> Any:
    names = _names(value)
    if not names or not set(names) <= EXCHANGES:
        raise ValueError(f"a comma list of {', '.join(sorted(EXCHANGES))} is expected")
    return names


def _keys(value: Any) -> Any:
    return tuple(":".join(parse_key(name)) for name in _names(value))


Exchanges = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_exchanges)]
Keys = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_keys)]


class Settings(ServiceSettings):
    """What market-data-service needs to know. Comma lists in the environment become tuples."""

    model_config = SettingsConfigDict(env_prefix="MARKET_DATA_")

    port: int = Field(default=8007, ge=1, le=65535)
    market_calendar: CalendarMode = shared("MARKET_CALENDAR", "nse")  # type: ignore[assignment]
    """`nse`: the exchange's sessions; `always_open`: every day and hour trades (development)."""

    exchanges: Exchanges = ("NSE",)
    load_at: time = time(8, 30)
    """IST wall time of the daily instrument load (the broker publishes its file before 08:30)."""

    watch_list: Keys = ()
    """Always polled, e.g. `NSE:INFY,NSE:NIFTY 50`."""
    watch_all_max: int = Field(default=1_000, ge=0, le=5_000)
    """Up to this many active shares all are polled; above, only the watch list and what somebody asked for."""
    poll_interval_s: float = Field(default=1.0, ge=1.0, le=60.0)
    quote_interval_s: float = Field(default=60.0, ge=5.0, le=3_600.0)
    """How often the day figures and price bands of polled instruments are read again."""
    store_interval_s: float = Field(default=2.0, ge=0.1, le=300.0)
    """How often prices are written to the table that a restart reads, and a process that lost the cache."""
    stale_after_s: float = Field(default=10.0, gt=0)
    """Age from which the public API marks a price as stale."""
    mirror_interval_s: float = Field(default=0.5, ge=0.1, le=10.0)
    """How often a process without poller reads prices from the cache."""
