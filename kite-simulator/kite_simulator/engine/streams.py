"""Seeded random streams: one independent stream per purpose, so that adding a draw in one place moves no other."""

import random


def stream(seed: int, purpose: str) -> random.Random:
    """A generator that depends on the seed and the purpose alone."""
    return random.Random(f"{seed}/{purpose}")  # noqa: S311 - a simulator wants repeatable numbers, not secrets
