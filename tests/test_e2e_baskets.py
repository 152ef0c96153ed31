"""Baskets on the whole platform, through the gateway: the command that shows them finds nothing wrong, and aliases work."""

import httpx
import pytest

from tests.test_e2e_platform import PlatformProcess, platform, sign_up

__all__ = ["platform"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
DEMO_TIMEOUT_S = 800


def test_many_users_invest_rebalance_and_repair(platform: PlatformProcess) -> None:
    demo = platform.command("scripts.basket_demo", "--users", "10")
    output, _ = demo.communicate(timeout=DEMO_TIMEOUT_S)
    assert demo.returncode == 0, output
    assert "Every leg ended, every rule held, the books balance." in output


def test_the_short_names_of_investing_reach_the_room(platform: PlatformProcess) -> None:
    user = sign_up(platform)
    for path in (
        "/api/v1/investments",
        "/api/v1/smallcases/user/investments",
        "/smallcase/user/investments",
        "/api/v1/smallcases/user/positions/history",
        "/api/v1/smallcases/user/positions/closed",
        "/api/v1/sips/due",
    ):
        answer = httpx.get(f"{platform.url}{path}", headers=user, timeout=10)
        assert (answer.status_code, answer.json()["items"]) == (200, []), path
