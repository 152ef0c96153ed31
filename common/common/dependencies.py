"""What routes take from their app: the collaborators that `service_app` was given as state.

Such functions are coroutines although they wait for nothing: FastAPI sends every other kind to a thread and back.
"""

from typing import Annotated

from fastapi import Depends, Request

from common.clock import Clock
from common.db import Database
from common.market_data import MarketData


async def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


async def _database(request: Request) -> Database:
    database: Database = request.app.state.db
    return database


async def _market(request: Request) -> MarketData:
    market: MarketData = request.app.state.market
    return market


ClockDep = Annotated[Clock, Depends(_clock)]
DatabaseDep = Annotated[Database, Depends(_database)]
"""For routes that ask another room between two short transactions; others take `SessionDep`."""
MarketDep = Annotated[MarketData, Depends(_market)]
