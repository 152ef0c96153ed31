"""Fixtures of all rooms come from two plugins."""

pytest_plugins = ["common.testing", "common.testing_servers"]
