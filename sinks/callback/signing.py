"""Signs callbacks by Standard Webhooks 1.0: `v1` is HMAC-SHA256 with a shared secret, `v1a` is Ed25519."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable

from schemas.errors import InputError

Signer = Callable[[bytes], bytes]
"""Signs the content `id.timestamp.body`; returns one entry of `webhook-signature`."""
_SHARED = "whsec_"
_PRIVATE = "whsk_"


def build_signer(key: str) -> Signer:
    """Returns the signer for a key `whsec_…` (24 to 64 bytes in base64) or `whsk_…` (an Ed25519 seed of 32 bytes, alone
    or followed by its public key). Raises InputError, never with the key in its text."""
    if key.startswith(_SHARED):
        return _build_shared(_decoded(key, _SHARED))
    if key.startswith(_PRIVATE):
        return _build_private(_decoded(key, _PRIVATE))
    raise InputError("is not a signing key; it must begin with whsec_ or whsk_")


def _build_shared(secret: bytes) -> Signer:
    if not 24 <= len(secret) <= 64:
        raise InputError(f"the secret after {_SHARED} has {len(secret)} bytes; it must have 24 to 64")
    return lambda signed: b"v1," + b64encode(hmac.digest(secret, signed, "sha256"))


def _build_private(key: bytes) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if len(key) not in {32, 64}:
        raise InputError(
            f"the key after {_PRIVATE} has {len(key)} bytes; it must have 32, or 64 with its public key"
        )
    private = Ed25519PrivateKey.from_private_bytes(key[:32])
    if key[32:] not in {b"", private.public_key().public_bytes_raw()}:
        raise InputError(f"the public key in the last 32 bytes after {_PRIVATE} is not that of the first 32")
    return lambda signed: b"v1a," + b64encode(private.sign(signed))


def _decoded(key: str, prefix: str) -> bytes:
    text = key.removeprefix(prefix)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"the text after {prefix} is not base64; copy the whole key") from None
