"""Attacks on access tokens: every forged or damaged token is 401, and only the real one is not."""

import base64
import hmac
import json
from hashlib import sha256
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from jose import jwk, jwt

from common.testing import new_rsa_pem


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value) -> str:
    return b64(json.dumps(value, separators=(",", ":")).encode())


def hs256(header, claims, secret: bytes) -> str:
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), sha256))}"


class Forge:
    """A genuine token of a person, and what an attacker makes of it."""

    def __init__(self, house, pem: str, token: str) -> None:
        self.pem = pem
        self.token = token
        self.header = jwt.get_unverified_header(token)
        self.claims = jwt.get_unverified_claims(token)
        self.now = int(house.clock.now().timestamp())
        public = serialization.load_pem_private_key(pem.encode(), None).public_key()
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public_pem = public.public_bytes(serialization.Encoding.PEM, spki)
        self.public_der = public.public_bytes(serialization.Encoding.DER, spki)
        self.public_pkcs1 = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        self.public_ssh = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self.public_jwk = house.keys.jwks()["keys"][0]

    def signed(self, *, header=None, pem=None, **claims) -> str:
        """Signed with RS256 (our key unless told otherwise); a value of ... removes a member."""
        payload = {k: v for k, v in {**self.claims, **claims}.items() if v is not ...}
        headers = {k: v for k, v in {**self.header, **(header or {})}.items() if v is not ...}
        signed = f"{part(headers)}.{part(payload)}"
        signature = jwk.construct(pem or self.pem, "RS256").sign(signed.encode())
        return f"{signed}.{b64(signature)}"

    def hmac(self, secret: bytes, alg: str = "HS256") -> str:
        return hs256({**self.header, "alg": alg}, self.claims, secret)

    def unsigned(self, alg: str) -> str:
        return f"{part({**self.header, 'alg': alg})}.{part(self.claims)}."

    def pieces(self) -> list[str]:
        return self.token.split(".")


OTHER_PEM = new_rsa_pem()


def other_jwk() -> dict:
    return {**jwk.construct(OTHER_PEM, "RS256").public_key().to_dict(), "kid": "attacker"}


ATTACKS = {
    "alg none": lambda f: f.unsigned("none"),
    "alg None": lambda f: f.unsigned("None"),
    "alg NONE": lambda f: f.unsigned("NONE"),
    "alg empty": lambda f: f.unsigned(""),
    "alg missing": lambda f: f"{part({k: v for k, v in f.header.items() if k != 'alg'})}.{part(f.claims)}.",
    "alg none with old signature": lambda f: f.unsigned("none") + f.pieces()[2],
    "HS256 with PEM": lambda f: f.hmac(f.public_pem),
    "HS256 with PEM stripped": lambda f: f.hmac(f.public_pem.strip()),
    "HS256 with DER": lambda f: f.hmac(f.public_der),
    "HS256 with PKCS1 DER": lambda f: f.hmac(f.public_pkcs1),
    "HS256 with SSH": lambda f: f.hmac(f.public_ssh),
    "HS256 with JWK": lambda f: f.hmac(json.dumps(f.public_jwk).encode()),
    "HS256 with modulus": lambda f: f.hmac(f.public_jwk["n"].encode()),
    "HS256 with empty key": lambda f: f.hmac(b""),
    "HS384 header": lambda f: f.hmac(f.public_der, "HS384"),
    "RS256 header over an HMAC": lambda f: f.hmac(f.public_der, "RS256"),
    "RS512 header": lambda f: f.signed(header={"alg": "RS512"}),
    "PS256 header": lambda f: f.signed(header={"alg": "PS256"}),
    "ES256 header": lambda f: f.signed(header={"alg": "ES256"}),
    "alg rs256 in small letters": lambda f: f.signed(header={"alg": "rs256"}),
    "alg is a list": lambda f: f.signed(header={"alg": ["RS256"]}),
    "another RSA key": lambda f: f.signed(pem=OTHER_PEM),
    "another key, its jwk embedded": lambda f: f.signed(pem=OTHER_PEM, header={"jwk": other_jwk()}),
    "another key, jku": lambda f: f.signed(pem=OTHER_PEM, header={"jku": "https://attacker.example/jwks.json"}),
    "another key, x5u": lambda f: f.signed(pem=OTHER_PEM, header={"x5u": "https://attacker.example/cert.pem"}),
    "another key, own kid and jwk": lambda f: f.signed(pem=OTHER_PEM, header={"kid": "attacker", "jwk": other_jwk()}),
    "kid unknown": lambda f: f.signed(header={"kid": "nobody"}),
    "kid missing": lambda f: f.signed(header={"kid": ...}),
    "kid empty": lambda f: f.signed(header={"kid": ""}),
    "kid null": lambda f: f.signed(header={"kid": None}),
    "kid is a list": lambda f: f.signed(header={"kid": [f.header["kid"]]}),
    "kid is an object": lambda f: f.signed(header={"kid": {"$ne": ""}}),
    "kid traversal": lambda f: f.signed(header={"kid": "../../../../dev/null"}),
    "kid traversal, empty HMAC": lambda f: hs256({**f.header, "alg": "HS256", "kid": "/dev/null"}, f.claims, b""),
    "kid with SQL": lambda f: f.signed(header={"kid": "x' UNION SELECT 'key'--"}),
    "kid with a shell": lambda f: f.signed(header={"kid": "|cat /etc/passwd"}),
    "typ JWT": lambda f: f.signed(header={"typ": "JWT"}),
    "typ missing": lambda f: f.signed(header={"typ": ...}),
    "typ of a service token": lambda f: f.signed(header={"typ": "service+jwt"}),
    "aud of another": lambda f: f.signed(aud="another"),
    "aud missing": lambda f: f.signed(aud=...),
    "aud null": lambda f: f.signed(aud=None),
    "aud of a room": lambda f: f.signed(aud="user-service"),
    "iss of another": lambda f: f.signed(iss="https://attacker.example"),
    "iss missing": lambda f: f.signed(iss=...),
    "expired now": lambda f: f.signed(exp=f.now),
    "expired long ago": lambda f: f.signed(iat=f.now - 7200, exp=f.now - 3600),
    "exp missing": lambda f: f.signed(exp=...),
    "exp null": lambda f: f.signed(exp=None),
    "exp as text": lambda f: f.signed(exp="9999999999"),
    "exp infinite": lambda f: f.signed(exp=float("inf")),
    "issued in the future": lambda f: f.signed(iat=f.now + 3600, exp=f.now + 7200),
    "sub missing": lambda f: f.signed(sub=...),
    "sub is no id": lambda f: f.signed(sub="1 OR 1=1"),
    "sub of another user": lambda f: f.signed(sub=str(uuid4())),
    "sid missing": lambda f: f.signed(sid=...),
    "sid of no session": lambda f: f.signed(sid=str(uuid4())),
    "roles missing": lambda f: f.signed(roles=...),
    "payload tampered": lambda f: ".".join([f.pieces()[0], part({**f.claims, "roles": ["admin"]}), f.pieces()[2]]),
    "header tampered": lambda f: ".".join([part({**f.header, "x": 1}), *f.pieces()[1:]]),
    "signature cut": lambda f: f.token[:-8],
    "signature missing": lambda f: ".".join(f.pieces()[:2]) + ".",
    "two parts": lambda f: ".".join(f.pieces()[:2]),
    "four parts": lambda f: f.token + ".x",
    "signature of zeros": lambda f: ".".join([*f.pieces()[:2], b64(bytes(256))]),
    "payload is a list": lambda f: ".".join([f.pieces()[0], part([1]), f.pieces()[2]]),
    "not base64": lambda f: "@@@.@@@.@@@",
    "empty": lambda f: "",
    "very long": lambda f: "a" * 100_000,
    "JSON serialisation": lambda f: json.dumps({"payload": f.pieces()[1], "signature": f.pieces()[2]}),
    "with a space": lambda f: f.token[:20] + " " + f.token[20:],
}


@pytest.fixture
def forge(house, keys) -> Forge:
    return Forge(house, keys.user_pem, house.person().tokens["access_token"])


def test_every_attack_is_unauthorized(house, forge):
    """One request per row of the table; the genuine token passes before and after."""
    me = lambda token: house.client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})  # noqa: E731
    assert me(forge.token).status_code == 200
    assert me(forge.signed()).status_code == 200

    found = {name: me(attack(forge)).status_code for name, attack in ATTACKS.items()}

    assert {name: status for name, status in found.items() if status != 401} == {}
    assert len(ATTACKS) >= 40
    assert me(forge.token).status_code == 200


def test_a_forged_token_is_not_valid_for_the_validation_route(house, forge):
    genuine = house.post("/auth/validate-token", {"token": forge.token})
    assert genuine.json()["valid"] is True
    assert genuine.json()["roles"] == ["user"]
    for name in ("alg none", "HS256 with DER", "another RSA key", "kid traversal", "payload tampered"):
        answer = house.post("/auth/validate-token", {"token": ATTACKS[name](forge)})
        assert answer.json() == {
            "valid": False, "user_id": None, "session_id": None, "roles": None, "kyc": None, "mfa": None,
        }, name  # fmt: skip


def test_other_forms_of_the_header_are_unauthorized(house, forge):
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Token {t}",
        "{t}",
        "Bearer {t} {t}",
        "Bearer\u00a0{t}",
    ]:
        header = value.replace("{t}", forge.token).encode("latin-1")
        answer = house.client.get("/api/v1/auth/me", headers={b"Authorization": header})
        assert answer.status_code == 401, value
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_in_the_query_is_not_read(house, forge):
    assert house.client.get("/api/v1/auth/me", params={"access_token": forge.token}).status_code == 401


def test_an_access_token_ends_with_its_lifetime(house, clock):
    person = house.person()
    clock.advance(899)
    assert house.me(person).status_code == 200
    clock.advance(1)
    answer = house.me(person)
    assert answer.status_code == 401
    assert answer.json()["code"] == "expired_token"


def test_a_service_token_is_not_a_users_token(house, service_identity):
    token = service_identity("api-gateway").token("user-service")
    assert house.client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401
