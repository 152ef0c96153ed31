"""Every environment variable the rooms read, from the settings classes themselves; writes `.env.example` and the docs' page."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from analytics_service.config import Settings as AnalyticsSettings
from api_gateway.config import Settings as GatewaySettings
from kite_simulator.config import Settings as SimulatorSettings
from market_data_service.config import Settings as MarketDataSettings
from notification_service.config import Settings as NotificationSettings
from portfolio_service.config import Settings as PortfolioSettings
from scripts.platform_state import DATA_DIRECTORY_VARIABLE, DEFAULT_DATA_DIRECTORY
from scripts.saras_cli.settings import OperatorSettings
from smallcase_service.config import Settings as SmallcaseSettings
from trade_executor.config import Settings as ExecutorSettings
from user_service.config import Settings as UserSettings

ROOMS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("api-gateway", GatewaySettings),
    ("user-service", UserSettings),
    ("portfolio-service", PortfolioSettings),
    ("smallcase-service", SmallcaseSettings),
    ("trade-executor", ExecutorSettings),
    ("notification-service", NotificationSettings),
    ("analytics-service", AnalyticsSettings),
    ("market-data-service", MarketDataSettings),
    ("kite-simulator", SimulatorSettings),
)
HEADER = """# Settings of the platform, one line a variable. Copy to .env and change what you need.
# `make run` needs none of them: it makes keys, secrets and databases of its own in the data directory.
# A line that is commented out shows the default. This file is written by: python -m scripts.settings_reference
"""


def _shared(field: FieldInfo) -> str | None:
    alias = field.validation_alias
    return str(getattr(alias, "choices", [alias])[-1]).upper() if alias is not None else None


def _variables(settings: type[BaseSettings], *, shared: bool) -> Iterator[tuple[str, FieldInfo]]:
    prefix = str(settings.model_config.get("env_prefix", ""))
    for name, field in settings.model_fields.items():
        common_name = _shared(field)
        if shared and common_name is not None:
            yield common_name, field
        elif not shared and common_name is None:
            yield f"{prefix}{name.upper()}", field


def all_variables() -> set[str]:
    """The names of all variables."""
    operators = {name for name, _ in _variables(OperatorSettings, shared=False)}
    return (
        {DATA_DIRECTORY_VARIABLE}
        | operators
        | {name for _, settings in ROOMS for shared in (True, False) for name, _ in _variables(settings, shared=shared)}
    )


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return "[]" if value == () else "{}" if value == {} else str(value)


def example() -> str:
    """The text of `.env.example`."""
    lines = [HEADER, "# --- the platform on one machine", f"# {DATA_DIRECTORY_VARIABLE}={DEFAULT_DATA_DIRECTORY}", ""]
    lines.append("# --- operators' command line (scripts/saras)")
    lines += [f"# {name}={_default(field)}" for name, field in _variables(OperatorSettings, shared=False)]
    lines.append("")
    lines.append("# --- shared by all rooms")
    shared = {name: field for _, settings in ROOMS for name, field in _variables(settings, shared=True)}
    lines += [f"# {name}={_default(field)}" for name, field in sorted(shared.items())]
    for room, settings in ROOMS:
        lines += ["", f"# --- {room}"]
        lines += [f"# {name}={_default(field)}" for name, field in _variables(settings, shared=False)]
    return "\n".join(lines) + "\n"


REFERENCE_HEADER = """# Configuration

Every setting is an environment variable, or a file in the folder `SECRETS_DIR` named like it in small letters. A room that finds a
variable with its own prefix that it does not know, or a value it can not use, does not start and says which. Defaults are those of
development. This page is written by `python -m scripts.settings_reference` from the settings classes.
"""


def reference() -> str:
    """The text of docs/configuration.md."""
    shared = {name: (field, settings) for _, settings in ROOMS for name, field in _variables(settings, shared=True)}
    parts = [
        REFERENCE_HEADER,
        "## One machine\n",
        _table([(DATA_DIRECTORY_VARIABLE, DEFAULT_DATA_DIRECTORY, "Where `make run` keeps everything.")]),
    ]
    parts += ["## Shared by all rooms\n", _table(sorted(_row(name, *found) for name, found in shared.items()))]
    for room, settings in ROOMS:
        rows = [_row(name, field, settings) for name, field in _variables(settings, shared=False)]
        parts += [f"## {room}\n", _table(rows)]
    return "\n".join(parts)


def _row(variable: str, field: FieldInfo, settings: type[BaseSettings]) -> tuple[str, str, str]:
    names = [name for name, one in settings.model_fields.items() if one is field]
    return variable, _default(field), next((said for name in names if (said := _said_of(settings, name))), "")


def _table(rows: list[tuple[str, str, str]]) -> str:
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {f'`{default}`' if default else ''} | {_cell(meaning)} |" for name, default, meaning in rows
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _said_of(settings: type[BaseSettings], name: str) -> str:
    """The words below a field in its class, or in the class it comes from."""
    for owner in settings.__mro__:
        if name in getattr(owner, "__annotations__", {}):
            return _field_docs(owner).get(name, "")
    return ""


def _field_docs(owner: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found = {}
    for field, after in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            found[field.target.id] = after.value.value
    return found


def main(path: Path = Path(".env.example"), page: Path = Path("docs/configuration.md")) -> None:
    """Write the files."""
    path.write_text(example())
    page.write_text(reference())


if __name__ == "__main__":
    typer.run(main)
