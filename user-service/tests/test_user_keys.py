"""Keys and sealed secrets: made once, private, published under their thumbprint, useless when moved."""

import base64
import os
import random
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwt

from common.auth import AccessTokens, StaticKeys
from common.config import InvalidSettings
from common.testing import new_rsa_pem
from user_service import keys as key_files
from user_service.config import Settings
from user_service.keys import (
    SigningKeys,
    UnusableKey,
    ensure_master_secret,
    ensure_signing_key,
    load_sealer,
    read_master_secret,
)
from user_service.sealing import Sealer, Unsealable


def test_a_signing_key_is_made_once_and_private(tmp_path):
    path = tmp_path / "keys" / "signing.pem"
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ensure_signing_key, [path] * 4))
    content = path.read_bytes()

    ensure_signing_key(path)

    assert path.read_bytes() == content
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["signing.pem"]
    assert serialization.load_pem_private_key(content, None).key_size == 2048


def test_a_master_secret_is_made_once_and_private(tmp_path):
    path = tmp_path / "secret"
    ensure_master_secret(path)
    first = read_master_secret(path)
    ensure_master_secret(path)
    assert read_master_secret(path) == first
    assert len(first) == 32
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"zz", b"00" * 16, b"\xff\xfe"])
def test_a_damaged_master_secret_is_named(tmp_path, content):
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(UnusableKey, match="secret"):
        read_master_secret(path)


def test_unusable_signing_keys_are_refused(tmp_path):
    path = tmp_path / "key.pem"
    with pytest.raises(UnusableKey, match=r"key\.pem"):
        SigningKeys.load(path)
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  refused below
    curve = ec.generate_private_key(ec.SECP256R1())
    for key in (small, curve):
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        with pytest.raises(UnusableKey, match="RSA"):
            SigningKeys.load(path)
    path.write_text("not a key")
    with pytest.raises(UnusableKey, match="PEM"):
        SigningKeys.load(path)


def test_the_thumbprint_is_that_of_rfc_7638():
    """Section 3.1 of the RFC: its example key and its example result."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5ha"
        "jrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    number = int.from_bytes(base64.urlsafe_b64decode(modulus + "=="), "big")
    public = rsa.RSAPublicNumbers(65537, number).public_key()
    assert key_files.thumbprint(public) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert key_files.public_jwk(public)["n"] == modulus


def test_the_published_keys_hold_nothing_private(house):
    answer = house.client.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert "max-age" in answer.headers["cache-control"]
    (key,) = answer.json()["keys"]
    assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}
    assert (key["kty"], key["alg"], key["use"]) == ("RSA", "RS256", "sig")
    assert key["kid"] == house.keys.kid


@pytest.mark.parametrize("private", [True, False])
def test_after_a_rotation_tokens_of_the_retired_key_still_hold(house, private, keys):
    person = house.person()
    old = keys.user_pem.encode()
    if not private:
        old = (
            serialization.load_pem_private_key(old, None)
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    rotated = SigningKeys(new_rsa_pem().encode(), old)

    verifier = AccessTokens(StaticKeys(rotated.jwks()), house.clock)

    assert [key["kid"] for key in rotated.jwks()["keys"]] == [rotated.kid, house.keys.kid]
    assert verifier.verify(person.tokens["access_token"]).user_id == person.user_id
    assert jwt.get_unverified_header(rotated.sign({"a": 1}, token_type="x"))["kid"] == rotated.kid


def test_sealed_secrets_open_only_in_their_place_and_unchanged():
    sealer, user_id = Sealer(b"\x01" * 32), uuid4()
    sealed = sealer.seal_totp(user_id, "JBSWY3DPEHPK3PXP")
    assert sealer.open_totp(user_id, sealed) == "JBSWY3DPEHPK3PXP"
    assert b"JBSWY3DP" not in sealed
    with pytest.raises(Unsealable):
        sealer.open_totp(uuid4(), sealed)
    with pytest.raises(Unsealable):
        Sealer(b"\x02" * 32).open_totp(user_id, sealed)
    assert len({sealer.seal_totp(user_id, "x")[1:13] for _ in range(2_000)}) == 2_000


def test_every_altered_sealed_secret_is_refused():
    """Every single bit, then random handfuls of bits, cuts and appendages: 10,000 altered values in all."""
    both, user_id = Sealer(b"\x01" * 32, seal_secrets={1: b"\x01" * 32, 2: b"\x02" * 32}, current=2), uuid4()
    sealed = both.seal_totp(user_id, "JBSWY3DPEHPK3PXP")
    dice = random.Random(11)  # noqa: S311  a repeatable series
    altered = {flipped(sealed, [bit]) for bit in range(len(sealed) * 8)}
    altered |= {sealed[:length] for length in range(len(sealed))} | {sealed + bytes([byte]) for byte in range(256)}
    while len(altered) < 10_000:
        altered.add(flipped(sealed, dice.sample(range(len(sealed) * 8), dice.randint(1, 8))))
    opened = 0
    for value in altered:
        with suppress(Unsealable):
            both.open_totp(user_id, value)
            opened += 1
    assert (len(altered), opened) == (10_000, 0)


def flipped(value, bits):
    damaged = bytearray(value)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_a_new_version_opens_what_the_old_one_sealed_until_the_old_one_goes():
    user_id = uuid4()
    first = Sealer(b"\x01" * 32)
    old = first.seal_totp(user_id, "JBSWY3DPEHPK3PXP")
    both = Sealer(b"\x01" * 32, seal_secrets={1: b"\x01" * 32, 2: b"\x02" * 32}, current=2)
    new = both.reseal_totp(user_id, old)
    assert (old[0], new[0]) == (1, 2)
    assert both.open_totp(user_id, old) == both.open_totp(user_id, new) == "JBSWY3DPEHPK3PXP"
    only_new = Sealer(b"\x01" * 32, seal_secrets={2: b"\x02" * 32}, current=2)
    assert only_new.open_totp(user_id, new) == "JBSWY3DPEHPK3PXP"
    with pytest.raises(Unsealable, match="no known version"):
        only_new.open_totp(user_id, old)
    same_secret_twice = Sealer(b"\x01" * 32, seal_secrets={1: b"\x01" * 32, 2: b"\x01" * 32}, current=1)
    with pytest.raises(Unsealable, match="does not open"):
        same_secret_twice.open_totp(user_id, b"\x02" + old[1:])
    assert only_new.pan_hash("ABCPE1234F") == first.pan_hash("ABCPE1234F")


@pytest.mark.parametrize(("secrets", "current"), [({2: b"\x02" * 32}, 1), ({256: b"\x02" * 32}, 256)])
def test_unusable_versions_are_named(secrets, current):
    with pytest.raises(ValueError, match="version"):
        Sealer(b"\x01" * 32, seal_secrets=secrets, current=current)


def test_the_sealer_of_a_process_comes_from_its_files(tmp_path):
    for name in ("master", "second"):
        ensure_master_secret(tmp_path / name)
    first = Settings(secret_file=tmp_path / "master")
    both = Settings(
        secret_file=tmp_path / "master",
        seal_secret_files={1: tmp_path / "master", 2: tmp_path / "second"},
        seal_current=2,
    )
    user_id = uuid4()
    sealed = load_sealer(first).seal_totp(user_id, "x")
    assert load_sealer(both).open_totp(user_id, sealed) == "x"
    assert load_sealer(both).current == 2
    with pytest.raises(InvalidSettings, match="USER_SEAL_SECRET_FILES has no file of version 2"):
        load_sealer(Settings(secret_file=tmp_path / "master", seal_current=2))


def test_each_use_of_the_master_secret_has_its_own_key():
    sealer, token_id = Sealer(b"\x01" * 32), uuid4()
    assert sealer.pan_hash("ABCPE1234F") == sealer.pan_hash("ABCPE1234F")
    assert sealer.pan_hash("ABCPE1234F") != Sealer(b"\x02" * 32).pan_hash("ABCPE1234F")
    assert sealer.mail_token(token_id) != base64.urlsafe_b64encode(sealer.pan_hash(str(token_id))).decode().rstrip("=")
