"""Keys of a one-machine platform: made on first start in the data directory, readable by their owner only."""

import base64
import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from jose import jwk

from common.auth import ALGORITHM
from user_service.keys import ensure_signing_key


def ensure_service_keys(directory: Path, rooms: Iterable[str]) -> Path:
    """A private key per room (`<room>.pem`) and the JWKS of all of them; answers the JWKS file."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = []
    for room in rooms:
        path = directory / f"{room}.pem"
        ensure_signing_key(path)
        public = jwk.construct(path.read_text(), ALGORITHM).public_key().to_dict()
        keys.append({**public, "kid": room, "use": "sig", "alg": ALGORITHM})
    jwks = directory / "rooms.jwks.json"
    jwks.write_text(json.dumps({"keys": keys}))
    return jwks


def ensure_secret(path: Path, size: int = 32) -> str:
    """Base64 of random bytes, made once."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(base64.b64encode(secrets.token_bytes(size)).decode())
    return path.read_text()
