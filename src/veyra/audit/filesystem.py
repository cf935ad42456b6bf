"""Where a log may lie: not on a network or FUSE file system, unless somebody insists.

There, a lock may hold on one machine only, and a sync may return before anything is kept. Nothing that the log promises
would be true, and nothing would show it.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_REFUSED: Final = re.compile(r"nfs\d*|cifs|smb\w*|afs|ceph|lustre|glusterfs|fuse(\.\w+|blk)?")


def require_local(directory: Path) -> None:
    """Do nothing where `directory`, or what of it exists, is on a file system of this machine.

    Where the system does not say what is mounted (no /proc), nothing is refused.

    Raises:
        OSError: it is on a network or FUSE file system.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    kind = kind_of(os.path.realpath(directory), mounts)
    if _REFUSED.fullmatch(kind):
        why = f"it is on a file system of the kind {kind}, where locks and syncs may not hold"
        raise OSError(errno.EOPNOTSUPP, why, str(directory))


def kind_of(path: str, mounts: str) -> str:
    """Return the kind of the file system that the absolute `path` is on; empty where `mounts` does not tell.

    Args:
        path: with no symbolic link in it.
        mounts: what /proc/self/mountinfo says (proc(5)); of two on one place the later one counts.
    """
    found, length = "", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ", 1)[0]
        if len(fields) < 5:
            continue
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4])
        if len(point) >= length and (path == point or path.startswith(point.rstrip("/") + "/")):
            found, length = kind, len(point)
    return found
