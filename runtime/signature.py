"""Signatures: who made a bundle. Ed25519 (RFC 8032) over the bytes of `manifest.json`, which holds the hash of every other file.

Hashes say that a bundle is whole; only a signature says whose it is. It lies beside the manifest and says nothing of itself that is
trusted: the key that counts is the one the user names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
_ALGORITHM = "ed25519"
_CONTEXT = b"shortcast bundle manifest\n"
"""Signed before the manifest, so that a signature made for anything else does not fit."""
_MOST_BYTES = 4096


def sign_bundle(root: Path, key: Path) -> str:
    """Signs a bundle's manifest as it lies there.

    Args:
        root: the bundle's directory.
        key: an Ed25519 private key in PEM form, unencrypted, as `openssl genpkey -algorithm ed25519` writes it.

    Returns:
        The public key, 64 hexadecimal digits.

    Raises:
        BundleError: the key cannot be used, or the directory is no bundle.
    """
    private = _private_key(key)
    public = private.public_key().public_bytes_raw().hex()
    signature = private.sign(_CONTEXT + _read(root / MANIFEST)).hex()
    plain = {"algorithm": _ALGORITHM, "public_key": public, "signature": signature}
    aside = root.with_name(f".{root.name}.{SIGNATURE}")
    aside.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(root / SIGNATURE)
    return public


def require_signature(root: Path, key: Path) -> None:
    """Does nothing where the manifest is signed with a key; nothing of the bundle need have been parsed before.

    Args:
        root: the bundle's directory.
        key: the Ed25519 public key that counts: a PEM or OpenSSH file.

    Raises:
        BundleError: there is no signature, it is another key's, or the manifest is not what was signed.
    """
    from cryptography.exceptions import InvalidSignature

    public = _public_key(key)
    if not (root / SIGNATURE).is_file():
        raise BundleError(f"{root} is not signed, and a signature by {key} is required; its maker signs it with `shortcast sign`")
    signer, signature = _read_signature(root)
    wanted = public.public_bytes_raw().hex()
    if signer != wanted:
        raise BundleError(f"{root} is signed by {signer[:16]}…, not by {wanted[:16]}… of {key}")
    try:
        public.verify(signature, _CONTEXT + _read(root / MANIFEST))
    except InvalidSignature as error:
        raise BundleError(f"{root}: {MANIFEST} is not what {wanted[:16]}… signed") from error


def signer_of(root: Path) -> str | None:
    """The public key a bundle says it is signed with, unchecked; None where it is not signed."""
    return _read_signature(root)[0] if (root / SIGNATURE).is_file() else None


def _read_signature(root: Path) -> tuple[str, bytes]:
    path = root / SIGNATURE
    try:
        plain = json.loads(_read(path))
        if set(plain) != {"algorithm", "public_key", "signature"} or plain["algorithm"] != _ALGORITHM:
            raise ValueError(f"expected algorithm {_ALGORITHM}, public_key and signature")
        return bytes.fromhex(plain["public_key"]).hex(), bytes.fromhex(plain["signature"])
    except (AttributeError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is not a signature: {error}") from error


def _read(path: Path) -> bytes:
    try:
        if path.name == SIGNATURE and path.stat().st_size > _MOST_BYTES:
            raise BundleError(f"{path} is not a signature: it has {path.stat().st_size:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    key = _loaded(path, "private")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    key = _loaded(path, "public")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path}: expected an Ed25519 public key, got {type(key).__name__}")
    return key


def _loaded(path: Path, kind: str) -> object:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise BundleError('signatures need the package cryptography: pip install "shortcast[sign]"') from error
    try:
        content = path.read_bytes()
        if kind == "private":
            return serialization.load_pem_private_key(content, password=None)
        if content.startswith(b"ssh-"):
            return serialization.load_ssh_public_key(content)
        return serialization.load_pem_public_key(content)
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        first = str(error).strip().split("\n")[0]
        raise BundleError(f"{path} is not an unencrypted {kind} key in PEM form: {first}") from error
