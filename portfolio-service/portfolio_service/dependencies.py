"""What routes take from the app beside the common collaborators: the room's settings, who asks for orders."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from common.auth import CurrentUser, current_user
from common.idempotency import KeyHeader, required_key
from portfolio_service.config import Settings
from portfolio_service.shared_commit import SharedCommit


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(_settings)]


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for orders, under which idempotency key, and the commit that will hold them."""

    user: CurrentUser
    key: str
    commit: SharedCommit


async def asking(request: Request, idempotency_key: KeyHeader = None) -> Asking:
    """Dependency: who asks for orders; raises Unauthorized and IdempotencyKeyRequired."""
    user = await current_user(request)
    return Asking(user, required_key(idempotency_key), request.app.state.commit)


AskingDep = Annotated[Asking, Depends(asking)]
