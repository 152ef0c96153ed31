"""Every environment variable the rooms read, from the settings classes themselves; writes `.env.example`."""

from collections.abc import Iterator
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
    return {DATA_DIRECTORY_VARIABLE} | {
        name for _, settings in ROOMS for shared in (True, False) for name, _ in _variables(settings, shared=shared)
    }


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
    lines.append("# --- shared by all rooms")
    shared = {name: field for _, settings in ROOMS for name, field in _variables(settings, shared=True)}
    lines += [f"# {name}={_default(field)}" for name, field in sorted(shared.items())]
    for room, settings in ROOMS:
        lines += ["", f"# --- {room}"]
        lines += [f"# {name}={_default(field)}" for name, field in _variables(settings, shared=False)]
    return "\n".join(lines) + "\n"


def main(path: Path = Path(".env.example")) -> None:
    """Write the file."""
    path.write_text(example())


if __name__ == "__main__":
    typer.run(main)
