"""What is in the repository: no secret in a tracked file, no exception from a security rule without its reason."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.dependency_audit import NOT_REACHABLE, judge

ROOT = Path(__file__).resolve().parents[2]
# Each written in two parts, so that this file does not find itself.
SECRETS = {
    "private key": re.compile("-----BEGIN [A-Z ]*" + r"PRIVATE KEY-----\s*[A-Za-z0-9+/=]{40}"),
    "AWS key": re.compile(r"\b(AKIA|ASIA)" + r"[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\b(gh[pousr]_|github_" + r"pat_)[A-Za-z0-9_]{30,}"),
    "GitLab token": re.compile(r"\bglpat" + r"-[A-Za-z0-9_-]{20}"),
    "Slack token": re.compile(r"\bxox[abprs]" + r"-[0-9A-Za-z-]{20,}"),
    "Google key": re.compile(r"\bAIza" + r"[0-9A-Za-z_-]{35}\b"),
    "Stripe key": re.compile(r"\b[sr]k_" + r"live_[0-9A-Za-z]{16,}"),
    "signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{16,}" + r"\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{40,}"),
    "password in an address": re.compile(r"[a-z][a-z0-9+.-]*://[^\s/:@\"'{}$<>]+:" + r"[^\s/:@\"'{}$<>]{6,}@[^\s\"']+"),
}
NO_SECRETS = ("guest:guest@", "user:password@")
"""Words that are no password: RabbitMQ opens to this one on the loopback interface only, the other is an example."""
UNREASONED = re.compile(r"# noqa: [A-Z0-9, ]*\bS(104|608)\b[A-Z0-9, ]*$")


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Tracked files that are text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file():
            try:
                yield name, path.read_text()
            except UnicodeDecodeError:
                continue


def secrets_in(text: str) -> list[str]:
    """Kinds of secrets that stand in a text."""
    return [
        kind
        for kind, pattern in SECRETS.items()
        for found in pattern.finditer(text)
        if not any(known in found.group() for known in NO_SECRETS)
    ]


def test_no_tracked_file_holds_a_secret() -> None:
    texts = list(tracked_texts())
    assert len(texts) > 200
    assert {name: found for name, text in texts if (found := secrets_in(text))} == {}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA" * 4),
        ("AWS key", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("GitHub token", "ghp" + "_" + "a1B2" * 9),
        ("signed token", ".".join(["eyJ" + "hbGciOiJSUzI1NiJ9xx", "eyJ" + "zdWIiOiIxMjM0NTY3", "s" * 43])),
        ("password in an address", "postgresql" + "://saras:hunter2hunter2" + "@db.example/saras"),
    ],
)
def test_a_secret_would_be_found(kind: str, text: str) -> None:
    assert secrets_in(f"x = '{text}'") == [kind]


def test_every_exception_from_the_rules_on_sql_and_sockets_has_its_reason() -> None:
    bare = [
        f"{name}:{number}"
        for name, text in tracked_texts()
        if name.endswith(".py") and "tests/" not in name
        for number, line in enumerate(text.splitlines(), 1)
        if UNREASONED.search(line)
    ]
    assert bare == []


HOLE = {"id": "PYSEC-2026-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}


@pytest.mark.parametrize(
    ("returncode", "dependencies", "errors", "expected"),
    [
        (0, [{"name": "a", "version": "1", "vulns": []}], "", (0, "1 dependencies audited, 0 known holes")),
        (1, [{"name": "a", "version": "1", "vulns": [HOLE]}], "", (1, "PYSEC-2026-1 (fixed in 2.0)")),
        (0, [{"name": "a", "skip_reason": "not found"}], "", (0, NOT_REACHABLE)),
        (1, None, "pip_audit._service.interface.ConnectionError: Could not connect", (0, NOT_REACHABLE)),
        (1, None, "unrecognised arguments: --requirement", (1, "pip-audit failed")),
        (1, None, "", (1, "pip-audit failed")),
    ],
)
def test_the_dependency_audit_says_what_it_found_or_that_it_looked_at_nothing(
    returncode: int, dependencies: object, errors: str, expected: tuple[int, str]
) -> None:
    output = "" if dependencies is None else json.dumps({"dependencies": dependencies, "fixes": []})
    code, message = judge(returncode, output, errors)
    assert code == expected[0]
    assert expected[1] in message


def test_an_audited_dependency_is_told_beside_those_that_were_not() -> None:
    dependencies = [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}]
    code, message = judge(0, json.dumps({"dependencies": dependencies}), "")
    assert (code, "not audited: b" in message) == (0, True)
