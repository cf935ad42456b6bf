"""Signing keys: Ed25519 in the note form of Go's sumdb/note, in a file outside the log.

A key file has one line for each key, `PRIVATE KEY+NAME+HASH+BASE64`, and mode 0600. It holds one key; while a rotation
is under way two, the new one first, and checkpoints are signed by both.

`cryptography` is imported by the functions that sign or make a key, and nowhere else.
"""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from veyra import config, environ
from veyra.audit.files import created, make_folder, write_all
from veyra.audit.standalone import ED25519, Checkpoint, Key, Signature, is_key_name, key_id, unbase64
from veyra.errors import AuditError

_PREFIX: Final = "PRIVATE KEY+"
_SEED_SIZE: Final = 32
_MAX_FILE: Final = 65_536


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs; `verifier` is its public half. Its secret is never shown by `repr`."""

    verifier: Key
    _seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """Make a new key called `name`.

        Raises:
            ValueError: no key may be called so (it holds a space or a plus sign, or is empty).
        """
        if not is_key_name(name):
            msg = f"a key's name holds no space and no plus sign, unlike {name!r}"
            raise ValueError(msg)
        return cls._of(name, os.urandom(_SEED_SIZE))

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Return the key that `encode` wrote.

        Raises:
            ValueError: it is none. The message quotes nothing of it.
        """
        fields = text.removeprefix(_PREFIX).split("+", 2)
        msg = "not an Ed25519 signing key in note form"
        try:
            data = unbase64(fields[2])
            key = cls._of(fields[0], data[1:]) if is_key_name(fields[0]) else None
        except (ValueError, IndexError):
            raise ValueError(msg) from None
        if key is None or key.encode() != text:
            raise ValueError(msg)
        return key

    @classmethod
    def _of(cls, name: str, seed: bytes) -> SigningKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  (see above)

        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        return cls(Key(name, key_id(name, public), public), seed)

    def encode(self) -> str:
        """Return the secret form, as it stands in a key file."""
        key = self.verifier
        return f"{_PREFIX}{key.name}+{key.id.hex()}+{b64encode(ED25519 + self._seed).decode('ascii')}"

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of `message`, 64 bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  (see above)

        return Ed25519PrivateKey.from_private_bytes(self._seed).sign(message)

    def signature(self, checkpoint: Checkpoint) -> Signature:
        """Return the line that says that this key signed the checkpoint."""
        return Signature(self.verifier.name, self.verifier.id, self.sign(checkpoint.body))


@dataclass(frozen=True, slots=True)
class Places:
    """Where what must not lie in the log's own directory lies; None stands for the usual place.

    Attributes:
        key: the file with the signing key: else the setting `audit.key`, else a file of the log's name in `veyra/keys` of
            the user's state directory.
        heads: the directory that keeps what was signed last: else the setting `audit.heads`, else `veyra/heads` there.
    """

    key: Path | None = None
    heads: Path | None = None

    def key_of(self, origin: str) -> Path:
        """Return where the signing key of the log `origin` is, if it has one."""
        return self.key or _setting("audit.key") or environ.state_dir() / "keys" / f"{file_name(origin)}.key"

    def key_is_asked_for(self) -> bool:
        """Tell whether somebody named a key file, so that going without one is wrong."""
        return (self.key or _setting("audit.key")) is not None

    def head_of(self, origin: str) -> Path:
        """Return where the checkpoint of the log `origin` that was signed last is kept."""
        heads = self.heads or _setting("audit.heads") or environ.state_dir() / "heads"
        return heads / f"{file_name(origin)}.head"


def _setting(name: str) -> Path | None:
    value = config.load().value(name)
    return value if isinstance(value, Path) else None


def file_name(origin: str) -> str:
    """Return a log's name as it may stand in a file's name: everything but letters, digits and `_.-~` as `%XX`."""
    return quote(origin, safe="")


def read(path: Path) -> tuple[SigningKey, ...]:
    """Return the keys in a key file: one, or the new one and the old one.

    Raises:
        FileNotFoundError: there is no such file.
        AuditError: it cannot be read, or is no key file.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_FILE).decode("utf-8").splitlines()
        keys = tuple(map(SigningKey.parse, lines))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a signing key in note form"
        msg = f"the signing key {path} cannot be used: {reason}"
        raise AuditError(msg) from None
    if len(keys) not in {1, 2}:
        msg = f"the signing key {path} cannot be used: it holds {len(keys)} keys"
        raise AuditError(msg)
    return keys


def write(path: Path, *keys: SigningKey) -> None:
    """Write a key file of mode 0600, durably and in one step (see `files.created`); its directory is made (0700)."""
    make_folder(path.parent)
    with created(path) as fd:
        write_all(fd, "".join(f"{key.encode()}\n" for key in keys).encode())
