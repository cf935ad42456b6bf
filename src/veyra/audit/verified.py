"""How far a log was verified: what the next verification needs to go on from there. Kept outside the log's directory.

It is taken at a checkpoint that was found right, so that nothing in it can still change. It is as good as the place it
is kept in: whoever can write to it can make a verification begin after what was altered. It is no substitute for reading
all of the log from time to time, because what was altered on disk after it was verified lies before it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from veyra.audit.files import created, make_folder, write_all
from veyra.audit.tree import Tree
from veyra.audit.walk import Place
from veyra.errors import AuditError

_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The state of a verification at a checkpoint.

    Attributes:
        origin: of the log.
        last, hash: where the last entry is that the checkpoint covers, and its leaf's hash.
        peaks: the compact range of the tree that ends with it.
        due: the running number that is due next, by session.
        ended: the sessions that have ended.
        open: the intents without an outcome.
    """

    origin: str
    last: Place
    hash: bytes
    peaks: tuple[bytes, ...]
    due: dict[str, int]
    ended: frozenset[str]
    open: frozenset[str]

    @property
    def tree(self) -> Tree:
        """The tree of the entries that were verified, to grow on."""
        return Tree(self.last.seq + 1, self.peaks)


def read(file: Path) -> Verified | None:
    """Return what `write` wrote to `file`; None where there is no file.

    Raises:
        AuditError: the file holds something else, or cannot be read.
    """
    try:
        fields = json.loads(file.read_bytes())
        if fields["v"] != _VERSION:
            msg = f"{file}: of version {fields['v']}, not {_VERSION}"
            raise AuditError(msg)
        return _verified(fields)
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"{file}: {error.strerror}"
        raise AuditError(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{file}: not what an earlier verification wrote; remove it to verify from the beginning"
        raise AuditError(msg) from error


def write(file: Path, state: Verified) -> None:
    """Keep `state` in `file`. Durable: see `files.created`.

    Raises:
        OSError: it cannot be written.
    """
    fields = {
        "v": _VERSION,
        "origin": state.origin,
        "last": state.last,
        "hash": state.hash.hex(),
        "peaks": [peak.hex() for peak in state.peaks],
        "due": state.due,
        "ended": sorted(state.ended),
        "open": sorted(state.open),
    }
    make_folder(file.absolute().parent)
    with created(file) as fd:
        write_all(fd, json.dumps(fields).encode("ascii"))


def _verified(fields: dict[str, Any]) -> Verified:
    last = Place(*map(int, fields["last"]))
    if min(last) < 0:
        raise ValueError
    state = Verified(
        origin=str(fields["origin"]),
        last=last,
        hash=bytes.fromhex(fields["hash"]),
        peaks=tuple(map(bytes.fromhex, fields["peaks"])),
        due={str(sid): int(number) for sid, number in fields["due"].items()},
        ended=frozenset(map(str, fields["ended"])),
        open=frozenset(map(str, fields["open"])),
    )
    Tree(last.seq + 1, state.peaks)  # raises where they do not fit one another
    return state
