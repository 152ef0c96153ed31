"""Crash points: a numbered place before and after every commit, broker byte, publish, confirm and acknowledgement.

The commits are found in the source: every function of the two rooms on an order's path, and of the shared parts they
run on, that opens a transaction is a site. A site that no schedule reaches is a hole in the coverage, not in the list.
"""

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event

from common.db import Database

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("common/common", "portfolio-service/portfolio_service", "trade-executor/trade_executor")
REQUESTS = "tests/faults/api.py"
"""Stands for the web server: its functions are the transactions of requests."""
_OPENERS = frozenset({"transaction", "run_in_transaction"})
_PLUMBING = ("db.py",)
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, order=True)
class Point:
    """One place where a process may die: what happens there, in which function, before or after it."""

    kind: str
    site: str
    moment: str

    def __str__(self) -> str:
        return f"{self.moment} {self.kind} {self.site}"


WIRE_POINTS = tuple(
    Point(kind, site, moment)
    for kind, sites in (
        ("broker", ("place", "cancel", "orders", "trades")),
        ("bus", ("publish", "ack")),
    )
    for site in sites
    for moment in (BEFORE, AFTER)
)
"""Broker bytes (before: none has left; after: the broker has acted, its answer was not read), publishes (after: the bus
has the messages, the confirm was not read) and acknowledgements."""


def commit_sites() -> dict[str, Path]:
    """`module.function` of every function that opens a transaction, from the source."""
    found: dict[str, Path] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" in path.parts or path.name in ("testing.py", *_PLUMBING):
                continue
            for name in _openers(ast.parse(path.read_text())):
                found[f"{path.stem}.{name}"] = path
    requests = ROOT / REQUESTS
    return found | {f"api.{name}": requests for name in _openers(ast.parse(requests.read_text()))}


def _openers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(_opens(call) for call in ast.walk(node)):
            yield node.name


def _opens(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in _OPENERS


@dataclass
class Points:
    """Watches the points of a run: counts them, kills where it was told to, and lets chance act after each."""

    reached: Counter[Point] = field(default_factory=Counter)
    on_point: Callable[[Point], None] = lambda point: None
    in_commit: Callable[[Point], None] = lambda point: None
    """Asked at the points inside a transaction, where nobody else may run: may raise."""
    _sites: dict[Any, str] = field(default_factory=dict)

    def reach(self, kind: str, site: str, moment: str) -> None:
        """A point outside any transaction."""
        point = Point(kind, site, moment)
        self.reached[point] += 1
        self.on_point(point)

    def watch(self, db: Database) -> None:
        """Make the commits of a process's database points."""

        def before(_session: Any) -> None:
            point = Point("commit", self._site(), BEFORE)
            self.reached[point] += 1
            self.in_commit(point)

        def after(_session: Any) -> None:
            self.reach("commit", self._site(), AFTER)

        event.listen(db._sessions, "before_commit", before)
        event.listen(db._sessions, "after_commit", after)

    def _site(self) -> str:
        """The function whose transaction this is: the innermost one of the product outside the database's plumbing."""
        frame = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            known = self._sites.get(code)
            if known is None:
                known = self._sites[code] = _site_of(code)
            if known:
                return known
            frame = frame.f_back  # type: ignore[assignment]
        return "unknown"


def _site_of(code: Any) -> str:
    path = Path(code.co_filename)
    product = any(str(path).startswith(str(ROOT / folder)) for folder in (*SOURCES, REQUESTS))
    if not product or path.name in _PLUMBING:
        return ""
    # A closure belongs to the function it is written in.
    return f"{path.stem}.{code.co_qualname.split('.<locals>')[0].split('.')[-1]}"
