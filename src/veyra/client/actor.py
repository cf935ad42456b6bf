"""On whose behalf a call is made: a pseudonym that only the holder of a key can tie to a person.

The log keeps no raw user ids. What stands there as `veyra.actor` is `hmac:` and the first 128 bits, in hex, of
HMAC-SHA-256(key, "veyra.actor.v1" || 0 || the name in UTF-8). It is the same for the same name under the same key, so the
calls of one person can be found; without the key no name can be guessed and confirmed, and once the key is destroyed
nobody can tell any more who was who.
"""

from __future__ import annotations

import hmac

from veyra.errors import InvalidRequestError
from veyra.types import Secret

MIN_KEY_BYTES = 16


class Pseudonyms:
    """Gives the pseudonyms under one key.

    Args:
        key: 16 bytes or more; a `str` counts as its UTF-8 bytes.

    Raises:
        InvalidRequestError: the key is of another type or too short.
    """

    def __init__(self, key: bytes | str | Secret) -> None:
        value = key.reveal() if isinstance(key, Secret) else key
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            msg = f"actor_key is bytes, a str or a Secret, not {type(key).__name__}"
            raise InvalidRequestError(msg)
        if len(data) < MIN_KEY_BYTES:
            msg = f"actor_key has {MIN_KEY_BYTES} bytes or more, not {len(data)}: make one with secrets.token_bytes(32)"
            raise InvalidRequestError(msg)
        self._key = data

    def __repr__(self) -> str:
        return "<Pseudonyms>"

    def of(self, name: str) -> str:
        """Return what the log calls somebody, and what `veyra audit list --actor` takes.

        Args:
            name: as the application knows a user or a service.

        Raises:
            InvalidRequestError: the name is empty, no `str` or not valid Unicode.
        """
        if not isinstance(name, str) or not name:
            msg = f"actor is a non-empty str, not {'an empty one' if name == '' else type(name).__name__}"
            raise InvalidRequestError(msg)
        try:
            text = name.encode()
        except UnicodeEncodeError as error:
            msg = f"actor is not valid Unicode text: lone surrogate at character {error.start}"
            raise InvalidRequestError(msg) from None
        proof = hmac.digest(self._key, b"veyra.actor.v1\0" + text, "sha256")
        return f"hmac:{proof[:16].hex()}"
