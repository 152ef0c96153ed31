"""The environment of a one-machine platform: every setting a room needs, unless the operator has set it already."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from scripts.embedded_keys import ensure_secret, ensure_service_keys
from user_service.keys import ensure_master_secret, ensure_signing_key

PREFIXES = {
    "user-service": "USER_",
    "portfolio-service": "PORTFOLIO_",
    "smallcase-service": "SMALLCASE_",
    "trade-executor": "EXECUTOR_",
    "notification-service": "NOTIFICATION_",
    "analytics-service": "ANALYTICS_",
    "market-data-service": "MARKET_DATA_",
    "api-gateway": "GATEWAY_",
}
ROOMS = tuple(PREFIXES)
SIMULATOR_API_KEY = "saras-dev"


def variables(
    directory: Path, *, databases: Mapping[str, str], cache_url: str, addresses: Mapping[str, str]
) -> dict[str, str]:
    """The settings by name; keys and secrets are made where missing."""
    shared = _shared(directory / "secrets", cache_url, addresses)
    return {**shared, **_of_rooms(directory, databases, addresses["api-gateway"])}


def prepare(directory: Path, *, databases: Mapping[str, str], cache_url: str, addresses: Mapping[str, str]) -> None:
    """Fill this process's environment; what is set already wins."""
    given = variables(directory, databases=databases, cache_url=cache_url, addresses=addresses)
    for name, value in given.items():
        os.environ.setdefault(name, value)
    # The port that was really taken, also when the operator asked for any free one.
    os.environ["GATEWAY_PORT"] = addresses["api-gateway"].rpartition(":")[2]


def _shared(keys: Path, cache_url: str, addresses: Mapping[str, str]) -> dict[str, str]:
    names = {room: f"{room.replace('-', '_').upper()}_URL" for room in ROOMS if room != "api-gateway"}
    return {
        "ENVIRONMENT": "development",
        "REDIS_URL": cache_url,
        "JWKS_URL": f"{addresses['user-service']}/.well-known/jwks.json",
        "SERVICE_KEYS_FILE": str(ensure_service_keys(keys / "rooms", ROOMS)),
        # Paper trading also on a Sunday night; MARKET_CALENDAR=nse keeps the exchange's hours.
        "MARKET_CALENDAR": "always_open",
        **{names[room]: addresses[room] for room in names},
    }


def _of_rooms(directory: Path, databases: Mapping[str, str], gateway: str) -> dict[str, str]:
    keys = directory / "secrets"
    ensure_signing_key(keys / "signing.pem")
    ensure_master_secret(keys / "user.secret")
    api_secret = ensure_secret(keys / "simulator-api.secret")
    values = {f"{PREFIXES[room]}DATABASE_URL": url for room, url in databases.items()}
    values |= {f"{prefix}SERVICE_KEY_FILE": str(keys / "rooms" / f"{room}.pem") for room, prefix in PREFIXES.items()}
    values |= {
        "USER_SIGNING_KEY_FILE": str(keys / "signing.pem"),
        "USER_SECRET_FILE": str(keys / "user.secret"),
        # One address signs up many users in a demo; a public installation keeps the stricter default.
        "GATEWAY_AUTH_PER_MINUTE": "6000",
        "GATEWAY_GENERAL_PER_MINUTE": "6000",
        "GATEWAY_ORDERS_PER_MINUTE": "6000",
        "GATEWAY_ANONYMOUS_PER_MINUTE": "6000",
        "EXECUTOR_AUTO_LOGIN": "true",
        "EXECUTOR_KITE_API_KEY": SIMULATOR_API_KEY,
        "EXECUTOR_KITE_API_SECRET": api_secret,
        "EXECUTOR_TAG_KEY": ensure_secret(keys / "executor-tag.secret"),
        "EXECUTOR_SEAL_KEYS": json.dumps({"1": ensure_secret(keys / "executor-seal.secret")}),
        "NOTIFICATION_SEAL_KEYS": json.dumps({"1": ensure_secret(keys / "notification-seal.secret")}),
        # No mail leaves this machine; the room shows them on a page of its own.
        "NOTIFICATION_MAIL_DIRECTORY": str(directory / "mail"),
        "NOTIFICATION_PUBLIC_URL": gateway,
        "NOTIFICATION_WEB_URL": gateway,
        # The simulator's book shows an order at once, so an unanswered one is decided sooner than at a real broker.
        "EXECUTOR_UNKNOWN_MIN_SECONDS": "20",
        "EXECUTOR_UNKNOWN_MIN_SCANS": "5",
        # The simulator forgets its book at midnight; resting orders end shortly before.
        "EXECUTOR_CLOSE_LEAD_SECONDS": "15",
        "KITE_SIM_API_KEY": SIMULATOR_API_KEY,
        "KITE_SIM_API_SECRET": api_secret,
        "KITE_SIM_POSTBACK_URL": f"{gateway}/api/v1/broker/postback",
        "KITE_SIM_REDIRECT_URL": f"{gateway}/api/v1/broker/callback",
    }
    return values
