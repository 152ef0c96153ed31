"""Forged tokens: what an attacker can make with the public keys, with keys of his own, and with tokens of his own."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jose import jwk, jwt

from common.auth import ACCESS_TYPE, ALGORITHM, AUDIENCE, ISSUER, SERVICE_TYPE, TOKEN_LENGTH_MAX
from tests.security.house import House, public_jwk, ssh_public_key
from tests.security.people import Person

NESTING = 1_500
HOUR_S = 3_600


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def part(value: Any) -> str:
    """A token's JSON part."""
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


@cache
def signing_key(pem: str) -> Any:
    """A private key, parsed once: reading the PEM takes longer than signing."""
    return jwk.construct(pem, ALGORITHM)


@dataclass
class Forger:
    """Knows everything that is public, owns a key and an account, and once in a while has got hold of more."""

    house: House
    victim: Person

    def __post_init__(self) -> None:
        self.now = int(self.house.clock.now().timestamp())
        self.kid = self.house.signing_keys.kid
        self.pem = self.house.keys.user_pem
        self.stranger_pem = self.house.keys.rooms["strategy-service"]
        key = serialization.load_pem_private_key(self.pem.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self.private, self.public = key, key.public_key()
        self.good = self.victim.tokens["access_token"]

    @property
    def claims(self) -> dict[str, Any]:
        """What a good access token says."""
        return {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(self.victim.user_id),
            "sid": jwt.get_unverified_claims(self.good)["sid"],
            "roles": ["user", "admin", "ops"],
            "email": self.victim.email,
            "mfa": True,
            "kyc": "approved",
            "iat": self.now,
            "exp": self.now + 900,
            "jti": uuid4().hex,
        }

    def signed(self, claims: dict[str, Any] | None = None, pem: str | None = None, **header: Any) -> str:
        """A token with a valid RS256 signature of the platform's key, or of another one."""
        headers = {"kid": self.kid, "typ": ACCESS_TYPE, **header}
        payload = self.claims if claims is None else claims
        return str(jwt.encode(payload, signing_key(pem or self.pem), algorithm=ALGORITHM, headers=headers))

    def but(self, **changes: Any) -> str:
        """A well signed token with these claims changed; None leaves a claim out."""
        return self.signed({name: value for name, value in {**self.claims, **changes}.items() if value is not None})

    def raw(self, header: Any, payload: Any, sign: Callable[[bytes], bytes]) -> str:
        """A token of any bytes."""
        signing_input = f"{part(header)}.{part(payload)}"
        return f"{signing_input}.{b64(sign(signing_input.encode()))}"

    def rs256(self, text: bytes) -> bytes:
        """The platform's signature (for rows that must fail for another reason)."""
        return self.private.sign(text, padding.PKCS1v15(), hashes.SHA256())

    def hmacked(self, secret: bytes, algorithm: str = "HS256") -> str:
        """HMAC with something public as its secret."""
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
        header = {"alg": algorithm, "typ": ACCESS_TYPE, "kid": self.kid}
        return self.raw(header, self.claims, lambda text: hmac.new(secret, text, digest).digest())

    def service(self, caller: str, audience: str, pem: str | None = None, kid: str | None = None, **claims: Any) -> str:
        """A service token."""
        payload = {"iss": caller, "sub": caller, "aud": audience, "iat": self.now, "exp": self.now + 300, **claims}
        headers = {"kid": kid or caller, "typ": SERVICE_TYPE}
        key = signing_key(pem or self.house.keys.rooms[caller])
        return str(jwt.encode(payload, key, algorithm=ALGORITHM, headers=headers))


def _unsigned(forger: Forger, algorithm: str) -> str:
    header = {"alg": algorithm, "typ": ACCESS_TYPE, "kid": forger.kid}
    return f"{part(header)}.{part(forger.claims)}."


def _pem(forger: Forger, kind: serialization.PublicFormat = serialization.PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return forger.public.public_bytes(serialization.Encoding.PEM, kind)


def _altered(forger: Forger) -> str:
    header, _, signature = forger.good.split(".")
    return f"{header}.{part(forger.claims)}.{signature}"


def _elliptic(forger: Forger) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    header = {"alg": "ES256", "typ": ACCESS_TYPE, "kid": forger.kid}
    return forger.raw(header, forger.claims, lambda text: key.sign(text, ec.ECDSA(hashes.SHA256())))


def _own_key_in_header(forger: Forger, **header: Any) -> str:
    return forger.signed(pem=forger.stranger_pem, **header)


def _duplicated(forger: Forger) -> bytes:
    text = json.dumps(forger.claims)
    return (text[:-1] + f', "sub": "{uuid4()}", "exp": 1}}').encode()


def _pss(forger: Forger) -> str:
    header = {"alg": "PS256", "typ": ACCESS_TYPE, "kid": forger.kid}
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return forger.raw(header, forger.claims, lambda text: forger.private.sign(text, pss, hashes.SHA256()))


def _last_bit(forger: Forger) -> str:
    # Flip a bit in the middle of the signature.
    at = len(forger.good) - 100
    return forger.good[:at] + ("A" if forger.good[at] != "A" else "B") + forger.good[at + 1 :]


def _jwk_json(forger: Forger) -> bytes:
    return json.dumps(forger.house.signing_keys.jwks()["keys"][0]).encode()


def _stranger_jwk(forger: Forger) -> dict[str, Any]:
    return public_jwk(forger.stranger_pem, "strategy-service")


Row = Callable[[Forger], str]

USER_TOKENS: dict[str, Row] = {
    "alg none": lambda f: _unsigned(f, "none"),
    "alg NONE in capitals": lambda f: _unsigned(f, "NONE"),
    "alg nOnE": lambda f: _unsigned(f, "nOnE"),
    "alg empty": lambda f: _unsigned(f, ""),
    "alg none with the good signature": lambda f: _unsigned(f, "none") + f.good.rpartition(".")[2],
    "no alg": lambda f: f.raw({"typ": ACCESS_TYPE, "kid": f.kid}, f.claims, f.rs256),
    "alg is a list": lambda f: f.raw({"alg": ["RS256"], "typ": ACCESS_TYPE, "kid": f.kid}, f.claims, f.rs256),
    "HS256 with the PEM public key": lambda f: f.hmacked(_pem(f)),
    "HS256 with the PEM key, no last line end": lambda f: f.hmacked(_pem(f).rstrip()),
    "HS256 with the PKCS 1 PEM": lambda f: f.hmacked(_pem(f, serialization.PublicFormat.PKCS1)),
    "HS256 with the DER public key": lambda f: f.hmacked(
        f.public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the JWK": lambda f: f.hmacked(_jwk_json(f)),
    "HS256 with the modulus": lambda f: f.hmacked(f.house.signing_keys.jwks()["keys"][0]["n"].encode()),
    "HS256 with the SSH public key": lambda f: f.hmacked(ssh_public_key(f.pem)),
    "HS256 with an empty secret": lambda f: f.hmacked(b""),
    "HS384 with the PEM public key": lambda f: f.hmacked(_pem(f), "HS384"),
    "HS512 with the PEM public key": lambda f: f.hmacked(_pem(f), "HS512"),
    "ES256 of a new key": _elliptic,
    "PS256 of the right key": _pss,
    "RS512 in the header, RS256 signed": lambda f: f.raw(
        {"alg": "RS512", "typ": ACCESS_TYPE, "kid": f.kid}, f.claims, f.rs256
    ),
    "another key under our kid": lambda f: f.signed(pem=f.stranger_pem),
    "unknown kid": lambda f: f.signed(kid="nobody"),
    "no kid": lambda f: f.raw({"alg": "RS256", "typ": ACCESS_TYPE}, f.claims, f.rs256),
    "kid climbs directories": lambda f: f.signed(kid="../../../../dev/null"),
    "kid injects SQL": lambda f: f.signed(kid=f"{f.kid}' OR '1'='1"),
    "kid is a number": lambda f: f.signed(kid=0),
    "kid is a list": lambda f: f.signed(kid=[f.kid]),
    "kid is a room": lambda f: f.signed(pem=f.stranger_pem, kid="strategy-service"),
    "own key as jwk": lambda f: _own_key_in_header(f, jwk=_stranger_jwk(f)),
    "own key as jwk without kid": lambda f: _own_key_in_header(f, jwk=_stranger_jwk(f), kid="strategy-service"),
    "own keys behind jku": lambda f: _own_key_in_header(f, jku="http://127.0.0.1:9/jwks.json"),
    "own chain behind x5u": lambda f: _own_key_in_header(f, x5u="http://127.0.0.1:9/chain.pem"),
    "own chain as x5c": lambda f: _own_key_in_header(f, x5c=[b64(b"certificate")]),
    "crit names an extension": lambda f: f.signed(crit=["exp"], exp=f.now + HOUR_S),
    "crit switches encoding off": lambda f: f.signed(crit=["b64"], b64=False),
    "typ JWT": lambda f: f.signed(typ="JWT"),
    "typ of a service token": lambda f: f.signed(typ=SERVICE_TYPE),
    "typ missing": lambda f: f.raw({"alg": "RS256", "kid": f.kid}, f.claims, f.rs256),
    "typ in capitals": lambda f: f.signed(typ="AT+JWT"),
    "audience of somebody else": lambda f: f.but(aud="elsewhere"),
    "audience missing": lambda f: f.but(aud=None),
    "audience is a list": lambda f: f.but(aud=[AUDIENCE]),
    "audience begins alike": lambda f: f.but(aud=AUDIENCE + "-x"),
    "issuer of somebody else": lambda f: f.but(iss="https://evil.example"),
    "issuer missing": lambda f: f.but(iss=None),
    "issuer is a list": lambda f: f.but(iss=[ISSUER]),
    "expired a second ago": lambda f: f.but(exp=f.now - 1),
    "expires now": lambda f: f.but(exp=f.now),
    "expired long ago": lambda f: f.but(iat=1, exp=2),
    "no expiry": lambda f: f.but(exp=None),
    "expiry is text": lambda f: f.but(exp=str(f.now + 900)),
    "expiry is a fraction": lambda f: f.but(exp=f.now + 900.5),
    "expiry is infinite": lambda f: f.raw(
        {"alg": "RS256", "typ": ACCESS_TYPE, "kid": f.kid}, json.dumps({**f.claims, "exp": 1e999}).encode(), f.rs256
    ),
    "expiry is true": lambda f: f.but(exp=True),
    "not yet valid": lambda f: f.but(nbf=f.now + HOUR_S),
    "issued in the future": lambda f: f.but(iat=f.now + HOUR_S),
    "never issued": lambda f: f.but(iat=None),
    "no subject": lambda f: f.but(sub=None),
    "subject is no id": lambda f: f.but(sub="1 OR 1=1"),
    "no session": lambda f: f.but(sid=None),
    "no roles": lambda f: f.but(roles=None),
    "roles are a number": lambda f: f.but(roles=7),
    "payload altered": _altered,
    "signature altered": _last_bit,
    "signature cut off": lambda f: f.good.rpartition(".")[0] + ".",
    "signature missing": lambda f: f.good.rpartition(".")[0],
    "signature truncated": lambda f: f.good[:-40],
    "signature of zeros": lambda f: f"{f.good.rpartition('.')[0]}.{b64(bytes(256))}",
    "signature of ones": lambda f: f"{f.good.rpartition('.')[0]}.{b64(bytes([255]) * 256)}",
    "signature with other characters in it": lambda f: f"{f.good[:-9]}!{f.good[-9:]}",
    "padded": lambda f: f.good + "==",
    "a fourth part": lambda f: f"{f.good}.x",
    "five parts, as if encrypted": lambda f: f"{f.good}.x.y",
    "two tokens in one": lambda f: f"{f.good}{f.good}",
    "a space in it": lambda f: f"{f.good[:50]} {f.good[50:]}",
    "claims twice, the second worse": lambda f: f.raw(
        {"alg": "RS256", "typ": ACCESS_TYPE, "kid": f.kid}, _duplicated(f), f.rs256
    ),
    "alg twice, none first": lambda f: f.raw(
        f'{{"alg":"none","typ":"{ACCESS_TYPE}","kid":"{f.kid}","alg":"RS256"}}'.encode(), f.claims, lambda _: b""
    ),
    "too long": lambda f: f.but(padding="x" * TOKEN_LENGTH_MAX),
    "huge and meaningless": lambda f: "A" * 20_000,
    "unicode": lambda f: f.good[:-1] + "é",
    "unicode digits": lambda f: "١٢٣.٤٥٦.٧٨٩",
    "a NUL": lambda f: f.good + "%00",
    "deeply nested header": lambda f: f"{part(b'[' * NESTING + b']' * NESTING)}.{part({})}.{b64(b'x')}",
    "header is a list": lambda f: f.raw([], f.claims, f.rs256),
    "header is text": lambda f: f.raw("RS256", f.claims, f.rs256),
    "payload is a list": lambda f: f.raw({"alg": "RS256", "typ": ACCESS_TYPE, "kid": f.kid}, [1], f.rs256),
    "payload is no JSON": lambda f: f.raw({"alg": "RS256", "typ": ACCESS_TYPE, "kid": f.kid}, b"x=1", f.rs256),
    "empty parts": lambda f: "..",
    "one dot": lambda f: ".",
    "a token inside a token": lambda f: f.raw(
        {"alg": "RS256", "typ": ACCESS_TYPE, "kid": f.kid, "cty": "JWT"}, f.good.encode(), f.rs256
    ),
    "service token of the gateway": lambda f: f.service("api-gateway", AUDIENCE),
    "service token as issuer of users": lambda f: f.service("api-gateway", AUDIENCE, iss=ISSUER),
    "refresh token": lambda f: f.victim.tokens["refresh_token"],
}
"""Attack -> what stands after `Bearer `; every one must be refused with 401 wherever a user is expected."""

WHOLE_HEADERS: dict[str, Callable[[str], list[tuple[str, str]]]] = {
    "no header": lambda token: [],
    "an empty header": lambda token: [("Authorization", "")],
    "the scheme alone": lambda token: [("Authorization", "Bearer")],
    "the scheme and spaces": lambda token: [("Authorization", "Bearer   ")],
    "the token alone": lambda token: [("Authorization", token)],
    "another scheme": lambda token: [("Authorization", f"Basic {token}")],
    "a scheme of our own": lambda token: [("Authorization", f"Token {token}")],
    "a colon": lambda token: [("Authorization", f"Bearer: {token}")],
    "an equals sign": lambda token: [("Authorization", f"Bearer={token}")],
    "no space": lambda token: [("Authorization", f"Bearer{token}")],
    "the scheme twice": lambda token: [("Authorization", f"Bearer Bearer {token}")],
    "two tokens in a list": lambda token: [("Authorization", f"Bearer {token}, Bearer {token}")],
    "in quotes": lambda token: [("Authorization", f'Bearer "{token}"')],
    "two headers, good first": lambda token: [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")],
    "two headers, good last": lambda token: [("Authorization", "Bearer x"), ("Authorization", f"Bearer {token}")],
    "two good headers": lambda token: [("Authorization", f"Bearer {token}")] * 2,
    "a header of a proxy": lambda token: [("X-Forwarded-Authorization", f"Bearer {token}")],
    "Proxy-Authorization": lambda token: [("Proxy-Authorization", f"Bearer {token}")],
    "a cookie": lambda token: [("Cookie", f"access_token={token}; Authorization=Bearer {token}")],
    "an identity claimed": lambda token: [("X-User-Id", "1"), ("X-Roles", "admin"), ("Remote-User", "admin")],
}
"""Attack -> headers around a token that is good in itself; none of them signs anybody in."""

SERVICE_TOKENS: dict[str, Callable[[Forger, str, str], str]] = {
    "a user's token": lambda f, caller, room: f.good,
    "a user's token of the service type": lambda f, caller, room: f.signed(typ=SERVICE_TYPE),
    "signed by the users' key": lambda f, caller, room: f.service(caller, room, pem=f.pem),
    "another room's key": lambda f, caller, room: f.service(caller, room, pem=f.stranger_pem),
    "another room's key and kid": lambda f, caller, room: f.service(
        caller, room, pem=f.stranger_pem, kid="strategy-service"
    ),
    "own key, subject of another": lambda f, caller, room: f.service(
        "strategy-service", room, sub=caller, kid="strategy-service"
    ),
    "own key, issuer of another": lambda f, caller, room: f.service(
        "strategy-service", room, sub=caller, iss=caller, kid="strategy-service"
    ),
    "issuer of another": lambda f, caller, room: f.service(caller, room, iss="strategy-service"),
    "no issuer": lambda f, caller, room: f.service(caller, room, iss=None),
    "no subject": lambda f, caller, room: f.service(caller, room, sub=""),
    "audience of another room": lambda f, caller, room: f.service(caller, "strategy-service"),
    "audience of users": lambda f, caller, room: f.service(caller, AUDIENCE),
    "audiences as a list": lambda f, caller, room: f.service(caller, room, aud=[room, "strategy-service"]),
    "every audience": lambda f, caller, room: f.service(caller, "*"),
    "expired": lambda f, caller, room: f.service(caller, room, iat=f.now - 301, exp=f.now - 1),
    "good for an hour": lambda f, caller, room: f.service(caller, room, exp=f.now + HOUR_S),
    "good for a second too long": lambda f, caller, room: f.service(caller, room, exp=f.now + 301),
    "back-dated to look short": lambda f, caller, room: f.service(
        caller, room, iat=f.now + HOUR_S - 300, exp=f.now + HOUR_S
    ),
    "no expiry": lambda f, caller, room: f.service(caller, room, exp=None),
    "not yet valid": lambda f, caller, room: f.service(caller, room, nbf=f.now + 60),
    "type of a user's token": lambda f, caller, room: str(
        jwt.encode(
            {"iss": caller, "sub": caller, "aud": room, "iat": f.now, "exp": f.now + 300},
            signing_key(f.house.keys.rooms[caller]), algorithm=ALGORITHM, headers={"kid": caller, "typ": ACCESS_TYPE},
        )
    ),
    "HS256 with the room's public key": lambda f, caller, room: str(
        f.raw(
            {"alg": "HS256", "typ": SERVICE_TYPE, "kid": caller},
            {"iss": caller, "sub": caller, "aud": room, "iat": f.now, "exp": f.now + 300},
            lambda text: hmac.new(json.dumps(f.house.keys.jwks["keys"][0]).encode(), text, hashlib.sha256).digest(),
        )
    ),
    "alg none": lambda f, caller, room: (
        f"{part({'alg': 'none', 'typ': SERVICE_TYPE, 'kid': caller})}."
        f"{part({'iss': caller, 'sub': caller, 'aud': room, 'iat': f.now, 'exp': f.now + 300})}."
    ),
}  # fmt: skip
"""Attack -> a service token for (permitted caller, room); refused with 401."""
