"""Who calls: users with money, shares and baskets of their own, operators with their second factor, other rooms."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pyotp
from httpx import Response

from analytics_service import loop
from analytics_service.closes import MarketCloses
from analytics_service.config import Settings
from analytics_service.desk import Desk
from api_gateway import routing
from common.clock import trading_date
from common.testing import StaticStandings, eventually
from smallcase_service import instalments
from tests.security.house import House, new_email
from user_service.admin_cli import create_admin

OLD_TRADES = "date,side,symbol,quantity,price\n2026-01-05,BUY,INFY,1,1500\n"
PASSWORD = "correct horse battery"
API = "/api/v1"
TOTP_STEP_S = 30


@dataclass
class Person:
    """An account with an open session, and the ids of what it owns."""

    house: House
    user_id: UUID
    email: str
    name: str = "Asha Rao"
    password: str = PASSWORD
    tokens: dict[str, Any] = field(default_factory=dict)
    totp_secret: str | None = None
    pan: str = ""
    things: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """What its client sends."""
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Response:
        """A request through the gateway that must succeed."""
        headers = {**self.headers, "Idempotency-Key": uuid4().hex}
        answer = self.house.gateway.request(method, API + path, json=body, headers=headers, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON of a successful POST."""
        answer = self.call("POST", path, body)
        return answer.json() if answer.content else None

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a successful GET."""
        return self.call("GET", path, params=query).json()

    def sign_in(self, **more: Any) -> "Person":
        """Open a session."""
        body = {"email": self.email, "password": self.password, **more}
        answer = self.house.gateway.post(f"{API}/auth/login", json=body)
        assert answer.status_code == 200, answer.text
        self.tokens = answer.json()
        return self

    def refresh(self) -> "Person":
        """Exchange the refresh token, so that the access token says what holds now."""
        self.tokens = self.post("/auth/refresh", {"refresh_token": self.tokens["refresh_token"]})
        return self

    def enable_totp(self) -> "Person":
        """Set up the second factor and act with it."""
        self.totp_secret = self.post("/auth/totp/setup")["secret"]
        self.post("/auth/totp/confirm", {"code": self.code()})
        return self.refresh()

    def code(self, steps: int = 0) -> str:
        """The authenticator app's code, `steps` of 30 s from now."""
        assert self.totp_secret is not None
        return pyotp.TOTP(self.totp_secret).at(int(self.house.clock.now().timestamp()) + TOTP_STEP_S * steps)


def new_user(house: House) -> Person:
    """A registered user, signed in, nothing more."""
    email = new_email()
    name = f"Person {uuid4().hex}"
    body = {"email": email, "password": PASSWORD, "full_name": name}
    answer = house.gateway.post(f"{API}/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    return Person(house, UUID(answer.json()["user_id"]), email, name).sign_in()


def new_operator(house: House, *roles: str) -> Person:
    """An account with roles, signed in with its second factor."""
    made = create_admin(house.databases["user-service"], new_email(), PASSWORD, roles, clock=house.clock)
    return Person(house, made.user_id, made.email, made.email.partition("@")[0]).sign_in().enable_totp()


def new_pan() -> str:
    """A PAN nobody has."""
    number = uuid4().int
    letters = "".join(chr(65 + (number >> shift) % 26) for shift in (0, 8, 16))
    return f"{letters}P{chr(65 + (number >> 24) % 26)}{number % 10_000:04d}Z"


def kyc_body(person: Person) -> dict[str, str]:
    """A KYC with a PAN of its own."""
    return {
        "legal_name": person.name,
        "pan": new_pan(),
        "date_of_birth": "1990-01-01",
        "address": "1 Test Street, Pune",
    }


def hand_in_kyc(person: Person) -> None:
    """Hand in a KYC."""
    body = kyc_body(person)
    person.pan = body["pan"]
    person.post("/kyc", body)


def approve(admin: Person, person: Person) -> None:
    """Have a KYC approved; the person's next token says so."""
    hand_in_kyc(person)
    admin.call("PUT", f"/admin/users/{person.user_id}/kyc-status", {"status": "approved"})
    person.refresh()


def fund(admin: Person, person: Person, rupees: str = "500000.00") -> None:
    """Give a person money."""
    admin.post("/admin/funds/deposit", {"user_id": str(person.user_id), "amount": rupees, "reason": "test money"})


def limit_order(house: House, **changes: Any) -> dict[str, Any]:
    """A buy that rests in the market: one ITC at a price below the last one, within the price band."""
    price = house.market.shares["NSE", "ITC"] * 98 // 100 // 100
    return {"tradingsymbol": "ITC", "quantity": 1, "order_type": "LIMIT", "price": f"{price}.00", **changes}


def basket(name: str = "Two of a kind") -> dict[str, Any]:
    """A private smallcase."""
    weights = {"INFY": 5_000, "ITC": 5_000}
    constituents = [{"tradingsymbol": symbol, "weight_bps": bps} for symbol, bps in weights.items()]
    return {"name": name, "description": "An example", "constituents": constituents}


def device() -> dict[str, str]:
    """A contact point that needs no code: its token comes from the app itself."""
    return {"channel": "push", "address": uuid4().hex}


PRICE_ALERT = {"tradingsymbol": "INFY", "direction": "above", "price": "1.00"}


def buy_shares(person: Person, quantity: int = 5) -> str:
    """Buy INFY at the simulator; answers the fill's id."""
    order = person.post("/orders/buy", {"tradingsymbol": "INFY", "quantity": quantity})

    def fills() -> list[dict[str, Any]]:
        person.house.settle()
        return list(person.get("/trades", order_id=order["order_id"])["items"])

    person.things.setdefault("filled_order_id", order["order_id"])
    return str(eventually(fills)[0]["trade_id"])


def ask_report(person: Person) -> str:
    """A report of what the person holds."""
    return str(person.post("/analytics/reports", {"kind": "holdings", "format": "csv"})["job_id"])


def ask_import(person: Person) -> str:
    """A file of trades made elsewhere."""
    return str(person.call("POST", "/analytics/imports", OLD_TRADES, params={"name": "Elsewhere"}).json()["job_id"])


def finish_analytics_jobs(house: House) -> None:
    """Do what analytics-service was asked for; nothing in these tests needs a close."""
    desk = Desk(house.databases[routing.ANALYTICS], Settings(), house.clock, MarketCloses(None))  # type: ignore[arg-type]
    loop.work(desk)


def invest(person: Person) -> dict[str, Any]:
    """A smallcase of the person's own, bought at the simulator; answers the receipt."""
    smallcase_id = person.post("/smallcases", basket(f"Basket {uuid4().hex}"))["smallcase_id"]
    receipt: dict[str, Any] = person.post(f"/smallcases/{smallcase_id}/invest", {"amount": "6000"})
    return settled(person, receipt)


def settled(person: Person, receipt: dict[str, Any]) -> dict[str, Any]:
    """Wait until a basket order has ended."""

    def ended() -> bool:
        person.house.settle()
        return person.get(f"/investments/orders/{receipt['basket_order_id']}")["ended_at"] is not None

    eventually(ended, timeout=60)
    return receipt


def leave(person: Person, receipt: dict[str, Any]) -> None:
    """Sell an investment completely."""
    settled(person, person.post(f"/investments/{receipt['investment_id']}/exit", {}))


def make_sip(person: Person) -> str:
    """A SIP whose first instalment waits for the person's word."""
    smallcase_id = person.post("/smallcases", basket(f"Basket {uuid4().hex}"))["smallcase_id"]
    body = {"smallcase_id": smallcase_id, "amount": "6000", "frequency": "MONTHLY"}
    sip = person.post("/sips", {**body, "day": trading_date(person.house.clock.now()).day})
    instalments.drive_due(person.house.apps[routing.SMALLCASE].state.desk, StaticStandings())
    return str(sip["sip_id"])


def equip(admin: Person, person: Person) -> Person:
    """KYC, money, shares, orders, a portfolio, a basket and notifications."""
    approve(admin, person)
    fund(admin, person)
    things = person.things
    things["user_id"] = str(person.user_id)
    for _ in range(2):
        things["trade_id"] = buy_shares(person)
        things["smallcase_id"] = person.post("/smallcases", basket(f"Basket {uuid4().hex}"))["smallcase_id"]
    for _ in range(2):
        leave(person, invest(person))
        receipt = invest(person)
        things |= {name: receipt[name] for name in ("investment_id", "basket_order_id")}
        things["sip_id"] = make_sip(person)
    things["order_id"] = person.post("/orders/buy", limit_order(person.house))["order_id"]
    things["portfolio_id"] = person.post("/portfolios", {"name": f"Portfolio {uuid4().hex}"})["portfolio_id"]
    person.house.settle()
    for _ in range(2):
        things |= {"report_id": ask_report(person), "import_id": ask_import(person)}
    finish_analytics_jobs(person.house)
    things["imported_id"] = person.get("/analytics/portfolios")["items"][0]["portfolio_id"]
    things["notification_id"] = person.get("/notifications")["items"][0]["notification_id"]
    things["contact_id"] = person.post("/notifications/channels", device())["contact_id"]
    for _ in range(2):
        things["alert_id"] = person.post("/notifications/alerts", PRICE_ALERT)["alert_id"]
    return person
