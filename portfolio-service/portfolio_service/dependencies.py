"""What routes take from the app beside the common collaborators: the room's settings, the commit that requests share."""

from typing import Annotated

from fastapi import Depends, Request

from portfolio_service.config import Settings
from portfolio_service.shared_commit import SharedCommit


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(_settings)]


def _commit(request: Request) -> SharedCommit:
    commit: SharedCommit = request.app.state.commit
    return commit


CommitDep = Annotated[SharedCommit, Depends(_commit)]
