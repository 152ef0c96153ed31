"""What routes take from the app: its settings, clock and market."""

from typing import Annotated

from fastapi import Depends, Request

from common.clock import Clock
from common.db import Database
from common.market_data import MarketData
from portfolio_service.config import Settings


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


def _market(request: Request) -> MarketData:
    market: MarketData = request.app.state.market
    return market


def _database(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


DatabaseDep = Annotated[Database, Depends(_database)]
"""For routes that ask another room between two short transactions."""
SettingsDep = Annotated[Settings, Depends(_settings)]
ClockDep = Annotated[Clock, Depends(_clock)]
MarketDep = Annotated[MarketData, Depends(_market)]
