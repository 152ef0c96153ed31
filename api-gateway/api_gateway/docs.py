"""The merged OpenAPI document and the two pages that show it, without any address outside this server."""

import asyncio
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from api_gateway import openapi
from api_gateway.cached import Cached
from api_gateway.upstream import get
from common.clock import Clock
from common.errors import AppError
from common.logging import get_logger

log = get_logger(__name__)

TITLE = "Saras"
KEPT_S = 60.0
FETCH_TIMEOUT_S = 2.0
ASSETS = "/docs/assets"
_ASSET_CACHING = {"Cache-Control": "public, max-age=3600"}

_SWAGGER_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}: API</title>
<link rel="icon" href="{ASSETS}/favicon.png">
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

_REDOC_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}: API reference</title>
<link rel="icon" href="{ASSETS}/favicon.png">
</head>
<body>
<redoc spec-url="/openapi.json" disable-search="true"></redoc>
<script src="{ASSETS}/redoc.standalone.js"></script>
</body>
</html>
"""


class MergedOpenApi:
    """The merged document as JSON, made anew at most every KEPT_S seconds; a room that is away keeps its last page."""

    def __init__(self, upstreams: Mapping[str, ASGIApp], *, version: str, clock: Clock) -> None:
        self._upstreams = upstreams
        self._version = version
        self._documents: dict[str, openapi.Document] = {}
        self._merged = Cached(self._merge, ttl_s=KEPT_S, clock=clock)

    async def json(self) -> bytes:
        """The document's text."""
        return await self._merged.get()

    async def _merge(self) -> bytes:
        failures = await asyncio.gather(*(self._fetch(room) for room in self._upstreams))
        missing = {room: reason for room, reason in zip(self._upstreams, failures, strict=True) if reason is not None}
        merged = openapi.merge(self._documents, title=TITLE, version=self._version, missing=missing)
        return orjson.dumps(merged)

    async def _fetch(self, room: str) -> str | None:
        """Read a room's document; the answer is why that did not work, if it did not."""
        try:
            answer = await get(
                self._upstreams[room], "/openapi.json", headers=[(b"host", room.encode())], timeout_s=FETCH_TIMEOUT_S
            )
            if answer.status != 200:
                return f"status_{answer.status}"
            document: Any = answer.json()
            if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
                return "not_understood"
        except AppError as error:
            return error.code
        except ValueError:
            return "not_understood"
        self._documents[room] = document
        return None


def docs_router(merged: MergedOpenApi) -> APIRouter:
    """`/openapi.json`, `/docs`, `/redoc` and the script that starts the former page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def document() -> Response:
        return Response(await merged.json(), media_type="application/json")

    @router.get("/docs")
    async def swagger() -> Response:
        return HTMLResponse(_SWAGGER_PAGE)

    @router.get("/docs/start.js")
    async def start() -> Response:
        return FileResponse(_own_file("start.js"), media_type="text/javascript", headers=_ASSET_CACHING)

    @router.get("/redoc")
    async def redoc() -> Response:
        return HTMLResponse(_REDOC_PAGE)

    return router


def mount_assets(app: FastAPI) -> None:
    """Serve Swagger UI and Redoc from the installed package `fastapi-offline`, which ships their current builds."""
    app.mount(ASSETS, StaticFiles(directory=Path(str(files("fastapi_offline") / "static"))))


def _own_file(name: str) -> Path:
    return Path(str(files("api_gateway") / "static" / name))
