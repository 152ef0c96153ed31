"""Fixtures of all rooms come from one plugin."""

pytest_plugins = ["common.testing"]
