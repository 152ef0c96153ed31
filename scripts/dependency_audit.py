"""`python -m scripts.dependency_audit`: known holes of the locked dependencies, from the OSV database.

Exit code 1 when there are any, or when the audit could not be understood. Without a way to the database nothing is
audited; that is said, and is no failure: a machine without the network can still run the other checks.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOCK = Path("requirements.lock")
TIMEOUT_S = 120
CONNECT_TIMEOUT_S = 5
NOT_REACHABLE = "vulnerability database not reachable: not audited"
UNREACHABLE = ("ConnectionError", "ServiceError", "ConnectTimeout", "Could not connect", "Max retries", "timed out")
"""How pip-audit says that nobody answers."""


@dataclass(frozen=True)
class Finding:
    """What an audit came to."""

    audited: int = 0
    skipped: Sequence[str] = ()
    holes: Sequence[str] = field(default=())


def read(report: Mapping[str, Any]) -> Finding:
    """pip-audit's JSON report; raises KeyError when it is none."""
    rows = report["dependencies"]
    skipped = [row["name"] for row in rows if "skip_reason" in row]
    holes = [
        f"{row['name']} {row['version']}: {hole['id']} (fixed in {', '.join(hole['fix_versions']) or 'no release'})"
        for row in rows
        for hole in row.get("vulns", ())
    ]
    return Finding(len(rows) - len(skipped), skipped, holes)


def judge(returncode: int, output: str, errors: str) -> tuple[int, str]:
    """Exit code and message for what pip-audit answered."""
    try:
        finding = read(json.loads(output))
    except (ValueError, KeyError):
        if returncode and any(word in errors for word in UNREACHABLE):
            return 0, NOT_REACHABLE
        return 1, f"pip-audit failed with exit code {returncode}: {errors.strip()[-2000:]}"
    if not finding.audited:
        return 0, NOT_REACHABLE
    lines = [f"{finding.audited} dependencies audited, {len(finding.holes)} known holes", *finding.holes]
    if finding.skipped:
        lines.append(f"not audited: {', '.join(finding.skipped)}")
    return (1 if finding.holes else 0), "\n".join(lines)


def main() -> int:
    """Audit the lock."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip",
        "--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off",
        "--timeout", str(CONNECT_TIMEOUT_S),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603  our own words
    except subprocess.TimeoutExpired:
        code, message = 0, NOT_REACHABLE
    else:
        code, message = judge(done.returncode, done.stdout, done.stderr)
    sys.stdout.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
