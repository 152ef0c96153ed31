"""What routes take from the app beside the common collaborators: the desk that places baskets, settings."""

from typing import Annotated

from fastapi import Depends, Request

from smallcase_service.config import Settings
from smallcase_service.desk import Desk
from smallcase_service.optimising import Optimiser


async def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _optimiser(request: Request) -> Optimiser:
    optimiser: Optimiser = request.app.state.optimiser
    return optimiser


DeskDep = Annotated[Desk, Depends(_desk)]
SettingsDep = Annotated[Settings, Depends(_settings)]
OptimiserDep = Annotated[Optimiser, Depends(_optimiser)]
