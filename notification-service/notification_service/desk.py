"""What a process that sends needs at hand."""

from dataclasses import dataclass

from common.auth import ServiceIdentity
from common.clock import Clock, SystemClock
from common.config import ServiceSettings
from common.db import Database
from common.http import ServiceClient
from common.market_data import MarketData, MarketDataClient
from common.sealing import Sealer
from notification_service.config import Settings, sealer_from
from notification_service.peers import Directory, UserDirectory
from notification_service.providers.catalog import Providers, providers_from


@dataclass(frozen=True)
class Desk:
    """The collaborators of everything that runs by itself."""

    db: Database
    settings: Settings
    clock: Clock
    directory: Directory
    market: MarketData
    providers: Providers
    sealer: Sealer | None


def desk_from(settings: Settings, db: Database, identity: ServiceIdentity, clock: Clock | None = None) -> Desk:
    """The desk of a process, calling other rooms as this one."""
    clock = clock or SystemClock()
    return Desk(
        db=db,
        settings=settings,
        clock=clock,
        directory=UserDirectory(_client(settings, "user-service", identity)),
        market=MarketDataClient(_client(settings, "market-data-service", identity)),
        providers=providers_from(settings, clock),
        sealer=sealer_from(settings),
    )


def _client(settings: ServiceSettings, room: str, identity: ServiceIdentity) -> ServiceClient:
    return ServiceClient(settings.peer_url(room), audience=room, identity=identity)
