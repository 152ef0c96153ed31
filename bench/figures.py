"""A measured figure and the bar it is held against."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table of all benchmarks; at most one of the bars."""

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bar(self) -> str:
        """The bar in words, empty without one."""
        if self.at_most is not None:
            return f"at most {self.at_most:,g}"
        return f"at least {self.at_least:,g}" if self.at_least is not None else ""

    @property
    def met(self) -> str:
        """Whether the value is on the right side of its bar, empty without one."""
        if self.at_most is not None:
            return "yes" if self.value <= self.at_most else "NO"
        if self.at_least is not None:
            return "yes" if self.value >= self.at_least else "NO"
        return ""

    @property
    def smaller_is_better(self) -> bool:
        """Rates and ratios to a limit grow, everything else is time, memory or a part of a budget."""
        return self.at_least is None and "/s" not in self.name
