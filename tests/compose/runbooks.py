"""`python -m tests.compose.runbooks`: every command of the runbooks, run on this folder's running Compose project.

Two operators are made, trading is halted and resumed by both, a backup is made and read again: for a trial installation,
never for one that trades. Exit code 0: every command did what its page says it does.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table

from scripts.compose_platform import create_admin_in_compose

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/runbooks"
OPERATOR = "docker compose run --rm -T"
COMMAND_TIMEOUT_S = 300
PLACES = {"<room>": "portfolio", "<service>": "portfolio-relay", "<server>": "postgres", "<queue>": "portfolio-service"}
"""What a page leaves open, and what is put there."""

_COMMAND = re.compile(r"`((?:docker compose|scripts/saras) [^`]+)`")
console = Console(width=150)


@dataclass(frozen=True)
class Step:
    """A command as it stands on a page."""

    page: str
    text: str

    @property
    def shell(self) -> str:
        """The command without open places."""
        text = self.text.replace("…", "a trial of the runbooks")
        for place, name in PLACES.items():
            text = text.replace(place, name)
        return text

    @property
    def saras(self) -> str | None:
        """The words after `scripts/saras`, None for another command."""
        head, _, rest = self.shell.partition(" ")
        return rest if head == "scripts/saras" else None


def steps() -> Iterator[Step]:
    """All commands, page by page."""
    for page in sorted(PAGES.glob("*.md")):
        for found in _COMMAND.finditer(page.read_text()):
            if found[1].split()[-1] != "…":
                yield Step(page.stem, found[1])


def main() -> None:
    """Run them all and print how they ended."""
    people = [_sign_in(f"runbook-{uuid4().hex[:8]}@example.com") for _ in range(2)]
    table = Table("page", "command", "exit code", "seconds", title="Runbooks")
    failed = 0
    for step in steps():
        began = time.monotonic()
        code, said = _run_step(step, people)
        failed += bool(code)
        table.add_row(step.page, step.text, f"[bold red]{code}[/]" if code else "0", f"{time.monotonic() - began:.1f}")
        if code:
            console.print(f"[bold red]{step.page}[/] {step.text}\n{said[-800:]}", highlight=False, markup=False)
    _shell("docker compose up -d --scale portfolio-consume=1")
    console.print(table)
    sys.exit(1 if failed else 0)


def _run_step(step: Step, people: Sequence[str]) -> tuple[int, str]:
    if step.saras is None:
        code, said = _shell(step.shell)
        # A page that searches a log means what it finds; nothing found is fine too.
        return (0 if code == 1 and "| grep" in step.shell else code), said
    if step.saras.startswith("resume"):
        return _resume(people)
    code, said = _saras(people[0], step.saras, *(["--yes"] if step.saras.startswith("halt") else []))
    if not code and step.saras.startswith("halt"):
        return _resume(people)
    return code, said


def _resume(people: Sequence[str]) -> tuple[int, str]:
    _saras(people[0], 'halt --reason "a trial of the runbooks"', "--yes")
    for person in people:
        code, said = _saras(person, 'resume --reason "a trial of the runbooks"', "--yes")
        if code:
            return code, said
    code, said = _saras(people[0], "status --json")
    return (code or int('"trading_state": "ACTIVE"' not in said and '"trading_state":"ACTIVE"' not in said)), said


def _saras(person: str, words: str, *more: str) -> tuple[int, str]:
    return _shell(
        f"{OPERATOR} -e SARAS_SESSION_FILE=/data/{person}.session operator scripts.saras {words} {' '.join(more)}"
    )


def _sign_in(email: str) -> str:
    password = create_admin_in_compose(email, "admin")
    code, said = _shell(
        f"{OPERATOR} -e SARAS_SESSION_FILE=/data/{email}.session operator scripts.saras login --email {email} --password-stdin",
        given=password + "\n",
    )
    if code:
        raise typer.BadParameter(f"{email} can not sign in: {said[-500:]}")
    return email


def _shell(line: str, *, given: str = "") -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=ROOT, input=given, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    typer.run(main)
