"""Which days of candles still have to be read: gaps between what is stored and what is wanted, in pieces a broker takes.

Pure. What is stored is one unbroken span per instrument; a gap is chosen so that it stays one.
"""

from dataclasses import dataclass
from datetime import date, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Days from `first` to `last`, both included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"a span cannot end on {self.last} before it begins on {self.first}")

    def pieces(self, days_max: int) -> list["Span"]:
        """The span cut into consecutive spans of at most `days_max` days."""
        pieces = []
        first = self.first
        while first <= self.last:
            last = min(first + timedelta(days=days_max - 1), self.last)
            pieces.append(Span(first, last))
            first = last + DAY
        return pieces


def joined(stored: Span | None, added: Span) -> Span:
    """The span that covers both when they overlap or touch, otherwise the added one alone."""
    if stored is None or added.first > stored.last + DAY or added.last < stored.first - DAY:
        return added
    return Span(min(stored.first, added.first), max(stored.last, added.last))


def missing(stored: Span | None, wanted: Span, controls: Span | None = None) -> list[Span]:
    """The spans to read so that everything wanted, and nothing but one unbroken span, is stored afterwards.

    `controls` are the first and last stored candle. A gap reaches up to the nearer one: reading that day again tells
    whether the broker has restated its history since (splits and bonus issues change all earlier candles).
    """
    if stored is None:
        return [wanted]
    gaps = []
    if wanted.first < stored.first:
        gaps.append(Span(wanted.first, controls.first if controls else stored.first))
    if wanted.last > stored.last:
        gaps.append(Span(controls.last if controls else stored.last, wanted.last))
    return gaps
