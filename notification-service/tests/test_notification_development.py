"""The page with mails that stay on this machine: for whoever sits there, in development, and nobody else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from common.auth import Authenticator
from common.clock import FixedClock
from common.db import Database
from common.events import OrderUpdated
from notification_service.app import create_app
from notification_service.config import NAME, Settings
from notification_service.delivering import deliver
from notification_service.desk import Desk
from notification_service.kinds import Channel
from notification_service.peers import Contact
from notification_service.providers.catalog import providers_from

PATH = "/development/mail"


@pytest.fixture
def page(
    db: Database, market: Any, authenticator: Callable[..., Authenticator], clock: FixedClock, tmp_path: Path
) -> Callable[..., TestClient]:
    def make(address: str = "127.0.0.1") -> TestClient:
        settings = Settings(database_url=db.url, mail_directory=tmp_path)
        app = create_app(settings, db=db, authenticator=authenticator(NAME), market=market, clock=clock)
        return TestClient(app, client=(address, 50_000), raise_server_exceptions=False)

    return make


def test_mails_are_listed_and_shown_without_running_anything(
    page: Any, make_desk: Callable[..., Desk], clock: FixedClock, tmp_path: Path, users: Any, consume: Any,
    order_updated: Callable[..., OrderUpdated],
) -> None:  # fmt: skip
    client = page()
    assert "None yet" in client.get(PATH).text
    settings = Settings(mail_directory=tmp_path)
    desk = make_desk({Channel.EMAIL: providers_from(settings, clock)[Channel.EMAIL]})
    user_id = uuid4()
    users.people[user_id] = Contact(user_id, "asha@example.com", True, "<script>alert(1)</script>")
    consume(order_updated(user_id=user_id))
    deliver(desk, Channel.EMAIL)
    listed = client.get(PATH)
    assert "Bought 10 RELIANCE" in listed.text
    assert "asha@example.com" in listed.text
    [file] = tmp_path.glob("*.eml")
    shown = client.get(f"{PATH}/{file.stem}")
    assert shown.status_code == 200
    assert "₹1,23,456.50" in shown.text
    assert "<script" not in shown.text
    assert 'sandbox="allow-popups"' in shown.text
    for answer in (listed, shown):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name",
    [
        "..%2F..%2Fetc%2Fpasswd",
        "x",
        "45b7ba38-748e-4fd5-8959-cdf640b6faf0",
        "%00",
        "1b7ec675-87ef-428d-bc30-15101f4c8a1f.eml",
    ],
)
def test_a_name_leads_to_no_other_file(page: Any, name: str) -> None:
    assert page().get(f"{PATH}/{name}").status_code == 404


@pytest.mark.parametrize("address", ["192.0.2.7", "testclient", "::ffff:192.0.2.7"])
def test_somebody_elsewhere_is_refused(page: Any, address: str) -> None:
    assert page(address).get(PATH).status_code == 403


def test_a_proxy_on_this_machine_is_refused(page: Any) -> None:
    assert page().get(PATH, headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403
    assert page("::1").get(PATH).status_code == 200


def test_without_a_directory_there_is_no_page_and_outside_development_no_directory(
    client: TestClient, tmp_path: Path
) -> None:
    assert client.get(PATH).status_code == 404
    for environment in ("staging", "production"):
        with pytest.raises(ValidationError, match="development only"):
            Settings(environment=environment, mail_directory=tmp_path)


def test_the_page_is_not_behind_the_gateway() -> None:
    from api_gateway import routing

    assert routing.resolve("GET", PATH) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"operators_chat": "mailto://a:b@example.com"}, {"operators_chat": "jsons://evil.example/"},
        {"lease_seconds": 10, "provider_timeout_seconds": 5}, {"public_url": "saras.example.com"},
        {"mail_from": "no address"}, {"smtp_security": "sometimes"},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_at_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)
