"""Signatures: only the key that is named counts, and only for the bytes it signed."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shortcast.errors import BundleError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.signature import sign_bundle, signer_of

PEM = serialization.Encoding.PEM


def written_key(folder: Path, name: str, key: Ed25519PrivateKey) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return written_key(tmp_path, "key", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture
def signed(demo: Path, tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    bundle = Path(shutil.copytree(demo, tmp_path / "signed.shortcast"))
    sign_bundle(bundle, keys[0])
    return bundle


def test_a_signed_bundle_opens_with_its_key_and_without_any(signed: Path, keys: tuple[Path, Path]) -> None:
    assert Bundle.open(signed, signed_by=keys[1]).manifest == Bundle.open(signed).manifest
    assert signer_of(signed) == Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw().hex()


def test_an_openssh_key_is_read_as_well(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    public = serialization.load_pem_public_key(keys[1].read_bytes())
    ssh = tmp_path / "id_ed25519.pub"
    ssh.write_bytes(public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
    Bundle.open(signed, signed_by=ssh)


def test_an_unsigned_bundle_is_refused_where_a_signature_is_required(demo: Path, keys: tuple[Path, Path]) -> None:
    assert signer_of(demo) is None
    with pytest.raises(BundleError, match="is not signed"):
        Bundle.open(demo, signed_by=keys[1])


def test_another_key_is_refused(signed: Path, tmp_path: Path) -> None:
    _, other = written_key(tmp_path, "other", Ed25519PrivateKey.generate())
    with pytest.raises(BundleError, match="is signed by 03a107bff3ce10be…, not by"):
        Bundle.open(signed, signed_by=other)


def test_a_manifest_rewritten_with_a_right_id_is_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    """What hashes alone cannot see: everything made consistent again by someone without the key."""
    from dataclasses import replace

    manifest = replace(Bundle.open(signed).manifest, name="better").with_id()
    (signed / "manifest.json").write_text(manifest.dumps())
    assert Bundle.open(signed).manifest.name == "better"
    with pytest.raises(BundleError, match=r"manifest\.json is not what .* signed"):
        Bundle.open(signed, signed_by=keys[1])


def test_a_key_that_signs_its_own_change_is_still_another_key(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, _ = written_key(tmp_path, "attacker", Ed25519PrivateKey.generate())
    sign_bundle(signed, private)
    with pytest.raises(BundleError, match="is signed by"):
        Bundle.open(signed, signed_by=keys[1])
    stated = json.loads((signed / "manifest.sig").read_text())
    stated["public_key"] = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw().hex()
    (signed / "manifest.sig").write_text(json.dumps(stated))
    with pytest.raises(BundleError, match="is not what"):
        Bundle.open(signed, signed_by=keys[1])


def test_every_byte_of_the_signature_counts(signed: Path, keys: tuple[Path, Path]) -> None:
    """White space aside, which JSON lets anyone add, a changed byte is refused in one sentence."""
    path = signed / "manifest.sig"
    content = path.read_bytes()
    for position, byte in enumerate(content):
        if chr(byte).isspace():
            continue
        path.write_bytes(content[:position] + bytes([byte ^ 1]) + content[position + 1 :])
        with pytest.raises(BundleError) as caught:
            Bundle.open(signed, signed_by=keys[1])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"algorithm": "none"}', b" " * 5000])
def test_what_is_no_signature_is_said_to_be_none(signed: Path, keys: tuple[Path, Path], content: bytes) -> None:
    (signed / "manifest.sig").write_bytes(content)
    with pytest.raises(BundleError, match="is not a signature"):
        Bundle.open(signed, signed_by=keys[1])


@pytest.mark.parametrize("kind", ["absent", "garbage", "public", "another curve", "encrypted"])
def test_a_key_that_cannot_sign_is_one_sentence(signed: Path, keys: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.pem"
    encryption = serialization.BestAvailableEncryption(b"word") if kind == "encrypted" else serialization.NoEncryption()
    contents = {
        "garbage": b"garbage",
        "public": keys[1].read_bytes(),
        "another curve": ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption),
        "encrypted": Ed25519PrivateKey.generate().private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption),
    }
    if kind != "absent":
        path.write_bytes(contents[kind])
    before = (signed / "manifest.sig").read_bytes()
    with pytest.raises(BundleError, match=r"bad\.pem") as caught:
        sign_bundle(signed, path)
    assert "\n" not in str(caught.value)
    assert (signed / "manifest.sig").read_bytes() == before
