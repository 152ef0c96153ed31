"""The operators' command line: `scripts/saras --help`, or `python -m scripts.saras` where the environment is active.

Exit codes of every command: 0 done, 1 refused or something was found, 2 a wrong command line or setting, 3 the platform or
a database did not answer. With --json the answer is one JSON object on standard output; remarks and errors are on standard
error. docs/operators-cli.md shows every command.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer

from common.logging import configure

COMMANDS = {
    "login": ("account", "login"),
    "logout": ("account", "logout"),
    "status": ("control", "status"),
    "halt": ("control", "halt"),
    "cancel-only": ("control", "cancel_only"),
    "resume": ("control", "resume"),
}
"""Command -> the module below `scripts.saras_cli` and its function."""
GROUPS = {
    "admin": "account",
    "audit": "audit",
    "backup": "backup",
    "broker": "broker",
    "keys": "keys",
    "reconcile": "reconcile",
    "retention": "retention",
    "seed": "seed",
    "trade": "trade",
}
"""Group of commands -> its module, whose `app` it is."""


def build(words: Sequence[str] = ()) -> typer.Typer:
    """The command line. With the words of a call only what they name is imported: a room's code takes seconds to load."""
    app = typer.Typer(
        name="saras",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Operate a Saras platform. Exit codes: 0 done, 1 refused or found, 2 usage, 3 not reachable.",
    )
    app.callback()(begin)
    wanted = {words[0]} if words and words[0] in {*COMMANDS, *GROUPS} else {*COMMANDS, *GROUPS}
    for name, (module, function) in COMMANDS.items():
        if name in wanted:
            run: Callable[..., Any] = getattr(import_module(f"scripts.saras_cli.{module}"), function)
            app.command(name)(run)
    for name, module in GROUPS.items():
        if name in wanted:
            app.add_typer(import_module(f"scripts.saras_cli.{module}").app, name=name)
    return app


def begin() -> None:
    """Operate a Saras platform."""
    # What the rooms' own code logs belongs to a person only when something is wrong.
    configure("scripts", os.environ.get("LOG_LEVEL", "ERROR"), stream=sys.stderr)


if __name__ == "__main__":
    build(sys.argv[1:])()
