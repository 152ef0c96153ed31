"""Entry point: `python -m kite_simulator api`."""

import argparse

import structlog
import uvicorn

from kite_simulator.app import create_app
from kite_simulator.config import load_settings
from kite_simulator.server import server_config


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="kite_simulator", description="Kite Connect v3 simulator")
    parser.add_argument("role", choices=["api"])
    parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    settings = load_settings()
    uvicorn.Server(server_config(create_app(settings), settings.host, settings.port)).run()


if __name__ == "__main__":
    main()
