"""Sealed files and manifests: another key, a cut, a swap, a changed byte, a changed manifest are all refused."""

import base64
import io
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.backup import manifest, sealed_stream
from scripts.backup.manifest import BackupRefused, Manifest, Part
from scripts.backup.sealed_stream import CHUNK_BYTES, MAGIC, SALT_BYTES, TAG_BYTES, NotOurs, SealingWriter, UnusableKey

MASTER, OTHER = b"m" * 32, b"o" * 32
HEADER = len(MAGIC) + SALT_BYTES


def sealed(content: bytes, *, step: int = 300_000, context: str = "b/room") -> bytes:
    target = io.BytesIO()
    writer = SealingWriter(target, MASTER, context)
    for start in range(0, len(content), step):
        writer.write(content[start : start + step])
    digest = writer.close()
    assert (writer.plain_bytes, writer.sealed_bytes) == (len(content), len(target.getvalue()))
    assert digest == sealed_stream.file_digest(io.BytesIO(target.getvalue()))
    return target.getvalue()


def opened(file: bytes, *, master: bytes = MASTER, context: str = "b/room") -> bytes:
    return b"".join(sealed_stream.opened(io.BytesIO(file), master, context))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_was_sealed_comes_back(size: int) -> None:
    content = secrets.token_bytes(size)
    file = sealed(content)
    assert opened(file) == content
    assert size < 64 or content[:64] not in file


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(min_value=1, max_value=2 * CHUNK_BYTES + 200))
def test_a_cut_file_does_not_open(cut: int) -> None:
    file = sealed(bytes(2 * CHUNK_BYTES + 100))
    with pytest.raises(NotOurs):
        opened(file[: max(0, len(file) - cut)])


def test_a_file_cut_between_two_chunks_does_not_open() -> None:
    file = sealed(bytes(2 * CHUNK_BYTES + 100))
    with pytest.raises(NotOurs):
        opened(file[: HEADER + 2 * (CHUNK_BYTES + TAG_BYTES)])


@settings(max_examples=40, deadline=None)
@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_changed_byte_does_not_open(place: int, bit: int) -> None:
    file = bytearray(sealed(b"x" * 2_000))
    file[place % len(file)] ^= 1 << bit
    with pytest.raises(NotOurs):
        opened(bytes(file))


def test_chunks_cannot_change_places_or_files_their_names() -> None:
    file = sealed(secrets.token_bytes(3 * CHUNK_BYTES))
    size = CHUNK_BYTES + TAG_BYTES
    first, second = file[HEADER : HEADER + size], file[HEADER + size : HEADER + 2 * size]
    with pytest.raises(NotOurs):
        opened(file[:HEADER] + second + first + file[HEADER + 2 * size :])
    for wrong in ({"master": OTHER}, {"context": "b/other-room"}, {"context": "other-backup/room"}):
        with pytest.raises(NotOurs):
            opened(file, **wrong)  # type: ignore[arg-type]


def test_nothing_unproved_is_handed_out() -> None:
    file = bytearray(sealed(bytes(3 * CHUNK_BYTES)))
    file[-1] ^= 1
    given_out = []
    with pytest.raises(NotOurs):
        given_out.extend(sealed_stream.opened(io.BytesIO(bytes(file)), MASTER, "b/room"))
    assert len(given_out) == 2, "the chunks before the changed one, each proved by itself"


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "!" * 44])
def test_a_weak_key_is_not_taken(text: str) -> None:
    with pytest.raises(UnusableKey):
        sealed_stream.master_key(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "b1"
    place.mkdir()
    file = sealed(b"a dump", context="b1/user-service")
    (place / "user-service.dump.sealed").write_bytes(file)
    now = datetime(2026, 11, 25, tzinfo=UTC)
    part = Part(
        room="user-service", database="saras_user", file="user-service.dump.sealed", bytes=len(file), plain_bytes=6,
        sha256=sealed_stream.file_digest(io.BytesIO(file)), migration="0007", audit_head=None,
    )  # fmt: skip
    made = Manifest(
        format=1, backup_id="b1", taken_at=now, finished_at=now, held_ms=1.5, server_version="18", tool_version="18",
        key_id=sealed_stream.key_id(MASTER), parts=[part],
    )  # fmt: skip
    manifest.write(place, made, MASTER)
    return place


def test_a_manifest_is_read_with_its_key_only(folder: Path) -> None:
    manifest.check_files(folder, manifest.read(folder, MASTER))
    with pytest.raises(BackupRefused, match="made with the key"):
        manifest.read(folder, OTHER)


@pytest.mark.parametrize(
    ("name", "value"),
    [("taken_at", "2026-11-24T00:00:00Z"), ("parts", []), ("backup_id", "b2"), ("held_ms", 2.0), ("more", 1)],
)
def test_a_changed_manifest_is_refused(folder: Path, name: str, value: object) -> None:
    path = folder / manifest.FILE
    document = json.loads(path.read_text())
    document["manifest"][name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(BackupRefused):
        manifest.read(folder, MASTER)


def test_a_backup_under_another_name_is_refused(folder: Path) -> None:
    moved = folder.rename(folder.with_name("b2"))
    with pytest.raises(BackupRefused, match="holds the backup b1"):
        manifest.read(moved, MASTER)


def test_files_are_compared_with_the_manifest(folder: Path) -> None:
    made, path = manifest.read(folder, MASTER), folder / "user-service.dump.sealed"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(BackupRefused, match="bytes"):
        manifest.check_files(folder, made)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BackupRefused, match="was changed"):
        manifest.check_files(folder, made)
    path.unlink()
    with pytest.raises(BackupRefused, match="missing"):
        manifest.check_files(folder, made)
    escaping = made.model_copy(update={"parts": [made.parts[0].model_copy(update={"file": "../b1/manifest.json"})]})
    with pytest.raises(BackupRefused, match="missing"):
        manifest.check_files(folder, escaping)


def test_unfinished_backups_are_listed_as_such(folder: Path) -> None:
    (folder.parent / "b2.partial").mkdir()
    found = {path.name: made is not None for path, made in manifest.listed(folder.parent)}
    assert found == {"b1": True, "b2.partial": False}
