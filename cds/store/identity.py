"""Patients, users and orders as keyed hashes: the same thing gives the same text, nobody can turn it back.

The key belongs to the site. Without it a hash of a patient number could be guessed by trying all numbers, so
it never lies in the database: it is a setting, or a file of its own that only the service's account reads.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from enum import StrEnum
from pathlib import Path

from cds.settings import PREFIX, SettingsError

SHORTEST_KEY = 16  # characters
_BYTES = 16  # of the digest that are kept: 128 bits tell any two patients apart


class Kind(StrEnum):
    """What is hashed. Part of the hash, so that a patient and a user of one id differ."""

    PATIENT = "patient"
    USER = "user"
    ORDER = "order"
    TOKEN = "token"


class Identity:
    """Hashes with one site key."""

    def __init__(self, key: str) -> None:
        if len(key) < SHORTEST_KEY:
            raise SettingsError(f"{PREFIX}SITE_KEY: at least {SHORTEST_KEY} characters are needed")
        self._key = key.encode()

    def of(self, kind: Kind, *parts: str) -> str:
        """32 hex digits; "" where there is nothing to hash."""
        if not any(parts):
            return ""
        text = "\x1f".join((kind.value, *parts)).encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).digest()[:_BYTES].hex()


def site_key(given: str, path: Path) -> str:
    """The configured key, else that of the file, which is made on first use. Raises SettingsError."""
    if given:
        return given
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise SettingsError(f"{PREFIX}SITE_KEY_FILE: {path}: {error.strerror}") from None
    key = secrets.token_hex(32)
    with os.fdopen(made, "w", encoding="ascii") as file:
        file.write(key + "\n")
    return key


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}SITE_KEY_FILE: {path}: {type(error).__name__}") from None
