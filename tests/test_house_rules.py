"""House rules that a linter cannot say: each failure names the place and the reason."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVICES = (
    "api-gateway", "user-service", "portfolio-service", "smallcase-service", "trade-executor", "notification-service",
    "analytics-service", "market-data-service",
)  # fmt: skip
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FORBIDDEN_NAMES = re.compile(r"(^|/)(utils?|helpers?|manager|misc)\.py$")
FORBIDDEN_IN_PURE = ("sqlalchemy", "fastapi", "pika", "celery", "httpx", "requests")
PURE_MODULES = (
    "portfolio-service/portfolio_service/charges.py",
    "portfolio-service/portfolio_service/lots.py",
    "portfolio-service/portfolio_service/valuation.py",
    "portfolio-service/portfolio_service/statement.py",
    "portfolio-service/portfolio_service/risk.py",
    "portfolio-service/portfolio_service/orders.py",
    "portfolio-service/portfolio_service/ledger.py",
    "trade-executor/trade_executor/allocation.py",
    "trade-executor/trade_executor/batching.py",
    "trade-executor/trade_executor/outcome.py",
    "trade-executor/trade_executor/reconciling.py",
    "trade-executor/trade_executor/states.py",
    "trade-executor/trade_executor/tags.py",
    "market-data-service/market_data_service/adjustment.py",
    "market-data-service/market_data_service/calendar.py",
    "notification-service/notification_service/delivery_states.py",
    "notification-service/notification_service/facts.py",
    "notification-service/notification_service/kinds.py",
    "notification-service/notification_service/masking.py",
    "notification-service/notification_service/price_levels.py",
    "notification-service/notification_service/quiet.py",
    "notification-service/notification_service/retrying.py",
    "smallcase-service/smallcase_service/dues.py",
    "smallcase-service/smallcase_service/minimum.py",
    "smallcase-service/smallcase_service/index_value.py",
    "smallcase-service/smallcase_service/rebalancing.py",
    "smallcase-service/smallcase_service/returns.py",
    "smallcase-service/smallcase_service/volatility_label.py",
    "smallcase-service/smallcase_service/weighting.py",
    "analytics-service/analytics_service/analysis.py",
    "analytics-service/analytics_service/answers.py",
    "analytics-service/analytics_service/capital_gains.py",
    "analytics-service/analytics_service/report_periods.py",
    "analytics-service/analytics_service/charts.py",
    "analytics-service/analytics_service/import_rows.py",
    "analytics-service/analytics_service/lots.py",
    "analytics-service/analytics_service/pictures.py",
    "analytics-service/analytics_service/report_pages.py",
    "analytics-service/analytics_service/returns.py",
    "analytics-service/analytics_service/risk.py",
    "analytics-service/analytics_service/sectors.py",
    "analytics-service/analytics_service/sheets.py",
    "analytics-service/analytics_service/trade_statistics.py",
    "analytics-service/analytics_service/valuation.py",
    "smallcase-service/smallcase_service/orders.py",
    "smallcase-service/smallcase_service/plan.py",
    "smallcase-service/smallcase_service/planning.py",
    "smallcase-service/smallcase_service/sip_schedule.py",
)
# Written in two parts so that this file does not find itself.
ADDRESSES = ("files.python" + "hosted", "pypi" + ".org/simple", "registry." + "npmjs")


def tracked(pattern: str = "*.py") -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def product_files() -> list[Path]:
    return [path for path in tracked() if "/tests/" not in str(path) and "/migrations/" not in str(path)]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_files_are_named_for_one_subject() -> None:
    assert [str(path) for path in tracked() if FORBIDDEN_NAMES.search(str(path))] == []


def test_files_and_functions_stay_readable() -> None:
    long_files = [
        f"{path.relative_to(ROOT)}" for path in product_files() if path.read_text().count("\n") > FILE_LINES_MAX
    ]
    long_functions = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in product_files()
        for node in functions(path)
        if (node.end_lineno or node.lineno) - node.lineno > FUNCTION_LINES_MAX
    ]
    assert (long_files, long_functions) == ([], [])


@pytest.mark.parametrize("name", PURE_MODULES)
def test_pure_modules_do_no_io(name: str) -> None:
    assert imports(ROOT / name).isdisjoint(FORBIDDEN_IN_PURE), f"{name} holds rules: keep I/O at the edges"


def money_annotations(path: Path) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id, ast.unparse(node.annotation)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            yield node.lineno, node.arg, ast.unparse(node.annotation)


def test_money_is_never_a_float() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in product_files()
        for line, name, annotation in money_annotations(path)
        if name.endswith("_paise") and "float" in annotation
    ]
    assert found == []


def test_no_committed_file_names_a_registry() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in tracked("*")
        if path.suffix not in {".png", ".gz"}
        and any(address in path.read_text(errors="ignore") for address in ADDRESSES)
    ]
    assert found == []


def test_every_lock_entry_carries_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert len(entries) > 100
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_readme_names_only_commands_and_paths_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", readme)) <= targets
    paths = re.findall(r"\]\(((?!http)[^)#]+)\)", readme)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_two_commands_of_the_readme_are_those_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make run" in readme
    assert "make test" in readme
    assert re.search(r"^check:.*\btest\b", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "make check" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("folder", SERVICES)
def test_every_room_has_the_same_layout(folder: str) -> None:
    package = ROOT / folder / folder.replace("-", "_")
    expected = {"__init__.py", "__main__.py", "app.py", "config.py"}
    if folder != "api-gateway":
        expected |= {"models.py", "migrations"}
    assert {name for name in expected if not (package / name).exists()} == set()
    assert list((ROOT / folder / "tests").glob("test_*.py"))


def test_the_settings_pages_are_what_the_settings_classes_say() -> None:
    from scripts import settings_reference

    assert (ROOT / ".env.example").read_text() == settings_reference.example()
    assert (ROOT / "docs/configuration.md").read_text() == settings_reference.reference()
