"""What routes take from the app beside the common collaborators: the room's settings."""

from typing import Annotated

from fastapi import Depends, Request

from portfolio_service.config import Settings


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(_settings)]
