"""How every command speaks: tables for people, one JSON object for programs, exit codes for both."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from common.config import InvalidSettings

DONE, REFUSED, USAGE, NOT_REACHABLE = 0, 1, 2, 3
"""Exit codes: done; refused, or something was found; a wrong command line; somebody did not answer."""

WIDTH_OF_PIPES = 160
CALLER_VARIABLE = "SARAS_CALLER_DIR"
"""Set by the launcher: the folder that the command was given in."""

P = ParamSpec("P")
T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Answer one JSON object on standard output.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.", prompt="Why")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

errors = Console(stderr=True, highlight=False)


class Refusal(Exception):
    """The platform, or a check of this program, said no; exit code 1."""

    def __init__(self, text: str, code: str = "refused") -> None:
        super().__init__(text)
        self.code = code


class NotReachable(Exception):
    """The platform or a database did not answer; exit code 3."""


def command(function: Callable[P, T]) -> Callable[P, T]:
    """Turn what a command raises into a line on standard error and an exit code."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Refusal as refusal:
            _say("refused", f"{refusal} ({refusal.code})" if refusal.code != "refused" else str(refusal))
            raise typer.Exit(REFUSED) from None
        except NotReachable as error:
            _say("not reachable", str(error))
            raise typer.Exit(NOT_REACHABLE) from None
        except InvalidSettings as error:
            _say("wrong settings", str(error))
            raise typer.Exit(USAGE) from None

    return run


def _say(kind: str, text: str) -> None:
    # Not as markup: the text may hold brackets of its own.
    errors.print(f"{kind}: {text}", markup=False, style="bold red", soft_wrap=True)


def note(text: str) -> None:
    """A remark for people, beside the answer."""
    errors.print(text, markup=False, soft_wrap=True)


def answer(as_json: bool, value: Any, show: Callable[[Console], None]) -> None:
    """The command's answer: `value` as JSON, or what `show` prints."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    else:
        # A pipe has no width of its own; a table that is broken for a screen of 80 is of no use in a file.
        show(Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_PIPES))


def located(path: Path) -> Path:
    """A path as whoever typed it means it: the launcher runs in the project's folder."""
    return Path(os.environ.get(CALLER_VARIABLE, ".")) / path


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Callable[[Console], None]:
    """A table to show."""

    def show(console: Console) -> None:
        made = Table(title=title, title_justify="left")
        for column in columns:
            made.add_column(column, overflow="fold")
        for row in rows:
            made.add_row(*("" if cell is None else str(cell) for cell in row))
        console.print(made)

    return show


def facts(title: str, values: Mapping[str, Any]) -> Callable[[Console], None]:
    """Names and values to show."""
    return table(title, ("", ""), list(values.items()))


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person, unless told not to; raises Refusal without a yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("nobody is there to be asked; add --yes")
    if not typer.confirm(question, err=True):
        raise Refusal("not confirmed")


def progress(*, quiet: bool) -> Progress:
    """A progress bar on standard error, gone when it ends; none for programs."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=quiet or not errors.is_terminal,
    )
