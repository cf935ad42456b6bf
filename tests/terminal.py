"""A command at a terminal of its own, as a person sees it and types to it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import TracebackType
from typing import Self

from commands import VEYRA

SECONDS = 15.0
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])"
)
CTRL_C, CTRL_D, BACKSPACE, UP = "\x03", "\x04", "\x7f", "\x1b[A"


class Terminal:
    """Runs `veyra` with a pseudo-terminal as its standard streams and controlling terminal.

    Args:
        args: the arguments.
        out: a file that standard output goes to instead.
    """

    def __init__(self, *args: str, out: Path | None = None) -> None:
        self._keys, screen = pty.openpty()
        self._size(24, 80)
        self._data = b""
        self._seen = 0
        into = screen if out is None else os.open(out, os.O_WRONLY | os.O_CREAT, 0o600)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, str(VEYRA), *args],
            stdin=screen,
            stdout=into,
            stderr=screen,
            env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        for descriptor in {screen, into}:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        os.close(self._keys)

    @property
    def shown(self) -> str:
        """Everything that appeared so far."""
        return self._data.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        """Type, as from a keyboard."""
        os.write(self._keys, text.encode())

    def paste(self, text: str) -> None:
        """Paste, as a terminal does that was asked to mark where a paste begins and ends; fails where it was not."""
        if self.shown.count("\x1b[?2004h") <= self.shown.count("\x1b[?2004l"):
            msg = "nobody has asked for pastes to be marked"
            raise AssertionError(msg)
        self.type(f"\x1b[200~{text}\x1b[201~")

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as its user would: the process is told by SIGWINCH."""
        self._size(rows, columns)

    def wait_for(self, text: str) -> str:
        """Return what appeared until and with `text`, counted from the last such call; fails where it does not come."""
        while True:
            place = self.shown.find(text, self._seen)
            if place >= 0:
                begun, self._seen = self._seen, place + len(text)
                return self.shown[begun : self._seen]
            if not self._read():
                msg = f"{text!r} did not appear after {self.shown[self._seen :]!r}"
                raise AssertionError(msg)

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C until a text appears: a signal that comes just before Python waits for a key waits for one, too."""
        for _ in range(int(SECONDS)):
            self.type(CTRL_C)
            if text in self.shown[self._seen :] or (self._is_ready(1.0) and self._read()):
                break
        self.wait_for(text)

    def end(self) -> int:
        """Read on until the process has ended, and return its status."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        try:
            data = os.read(self._keys, 65536) if self._is_ready(SECONDS) else b""
        except OSError:  # Linux: the last one to hold the terminal has gone
            data = b""
        self._data += data
        return bool(data)

    def _is_ready(self, seconds: float) -> bool:
        return bool(select.select([self._keys], [], [], seconds)[0])

    def _size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._keys, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
