"""What this room's routes take from their app besides `common.dependencies`."""

from typing import Annotated

from fastapi import Depends, Request

from common.sealing import Sealer
from notification_service import contact_points
from notification_service.config import Settings
from notification_service.wakeup import Wakeup


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _sealer(request: Request) -> Sealer:
    return contact_points.needed(request.app.state.sealer)


async def _wakeup(request: Request) -> Wakeup:
    wakeup: Wakeup = request.app.state.wakeup
    return wakeup


SettingsDep = Annotated[Settings, Depends(_settings)]
SealerDep = Annotated[Sealer, Depends(_sealer)]
"""Answers 503 where the operator has set no sealing keys."""
WakeupDep = Annotated[Wakeup, Depends(_wakeup)]
