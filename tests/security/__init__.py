"""Attacks on the platform, as tests."""
