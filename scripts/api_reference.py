"""Write docs/api.md from the merged OpenAPI of a running platform: `python -m scripts.api_reference`."""

from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

HEADER = """# API reference

Every public route of the gateway, from the merged OpenAPI (`/openapi.json`, and `/docs` to try them out), which has the bodies in full. This
page is written by `python -m scripts.api_reference` while the platform is running. Old paths (`/buy`, `/register`, `/smallcase`, ...) lead to the same
routes. Every error is `application/problem+json` with a stable `code`.
"""
METHODS = ("get", "post", "put", "patch", "delete")
TIMEOUT_S = 30.0


def render(document: dict[str, Any]) -> str:
    """The page: routes by tag, each with its first sentence."""
    by_tag: dict[str, list[str]] = {}
    for path, item in sorted(document["paths"].items()):
        for method in METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append(_row(method, path, item[method]))
    parts = [HEADER]
    for tag in sorted(by_tag):
        parts += [f"## {tag}\n", "| Route | | Needs a key |", "|---|---|---|", *by_tag[tag], ""]
    return "\n".join(parts)


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    said = (operation.get("description") or operation.get("summary") or "").strip().split("\n\n")[0]
    keyed = any(one.get("name") == "Idempotency-Key" for one in operation.get("parameters", ()))
    text = " ".join(said.split()).replace("|", "\\|")
    return f"| `{method.upper()} {path}` | {text} | {'yes' if keyed else ''} |"


def main(
    url: Annotated[str, typer.Option(help="The gateway.")] = "http://127.0.0.1:8000", page: Path = Path("docs/api.md")
) -> None:
    """Fetch and write."""
    page.write_text(
        render(httpx.get(f"{url}/openapi.json", timeout=TIMEOUT_S, trust_env=False).raise_for_status().json())
    )


if __name__ == "__main__":
    typer.run(main)
