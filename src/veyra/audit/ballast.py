"""The ballast: a file that keeps room on the disk for the outcomes of calls under way.

When the disk is full, calls are refused before anything is sent; but those already sent will end, and their answers are
paid for. Then the ballast is given up, and their outcomes are written into the room it leaves. Calls are refused until
it has been made again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from veyra.audit.files import created, write_all

FILE: Final = "ballast"
SIZE: Final = 4 << 20


def is_kept(directory: Path) -> bool:
    """Tell whether the room is there."""
    return os.access(f"{directory}/{FILE}", os.F_OK)


def keep(directory: Path) -> None:
    """Take up the room, unless it is taken (the log's lock is held).

    Durable: posix_fallocate, then as `created`. Where the file system cannot reserve room, zeros are written.

    Raises:
        OSError: there is no room (ENOSPC, EDQUOT), or the file cannot be made.
    """
    if is_kept(directory):
        return
    with created(directory / FILE) as fd:
        _reserve(fd)


def give_up(directory: Path) -> bool:
    """Give the room back: unlink (the log's lock is held). Tell whether there was any."""
    try:
        (directory / FILE).unlink()
    except FileNotFoundError:
        return False
    return True


if sys.platform == "darwin":

    def _reserve(fd: int) -> None:
        write_all(fd, bytes(SIZE))

else:

    def _reserve(fd: int) -> None:
        os.posix_fallocate(fd, 0, SIZE)
