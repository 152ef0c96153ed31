"""When a price alert fires. Pure; prices in paise."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Direction = Literal["above", "below"]


@dataclass(frozen=True)
class Level:
    """What an alert waits for. One that does not repeat fires once."""

    direction: Direction
    level_paise: int
    repeats: bool
    cooldown: timedelta
    armed: bool = True
    fired_at: datetime | None = None


@dataclass(frozen=True)
class Seen:
    """What a price means for an alert."""

    fires: bool
    armed: bool
    """Whether it may fire the next time its level is reached."""


def is_reached(level: Level, price_paise: int) -> bool:
    """Whether the price is at the level or beyond it."""
    if level.direction == "above":
        return price_paise >= level.level_paise
    return price_paise <= level.level_paise


def look(level: Level, price_paise: int, now: datetime) -> Seen:
    """Judge one price.

    A repeating alert fires when its level is reached anew: it is armed by a price on the other side, and silent until the
    cool-down since its last firing is over; a level still reached then fires.
    """
    if not is_reached(level, price_paise):
        return Seen(fires=False, armed=True)
    rested = level.fired_at is None or now >= level.fired_at + level.cooldown
    if level.armed and rested:
        return Seen(fires=True, armed=False)
    return Seen(fires=False, armed=level.armed)
