"""How a streamed body is cut into messages: lines of JSON, and server-sent events.

The rules, for any split of the bytes into pieces:

1. A line ends with LF, CR or CRLF; a CRLF may be torn in two. (WHATWG HTML, server-sent events, "parsing".)
2. Bytes are never decoded here, so a split inside a UTF-8 sequence cannot hurt.
3. Work and memory are linear in the bytes: what is incomplete is kept once and looked at once.
4. No line and no event is longer than `MESSAGE_LIMIT`; a sender that never ends one cannot fill the memory.
"""

from __future__ import annotations

from typing import TypeAlias

MESSAGE_LIMIT = 64 * 1024 * 1024
"""Bytes that a line, an event or a whole body may have at most."""

ServerEvent: TypeAlias = tuple[str, bytes]
"""A server-sent event: its name (empty where none was given) and its data, lines joined with LF."""

_CR = 0x0D
_LF = 0x0A
_ENDS = frozenset((_CR, _LF))
_BOM = b"\xef\xbb\xbf"
_SILENT = frozenset((b"", b"id", b"retry"))
"""Fields that are passed over: comments, ids and retry times."""
_BEGINNINGS = (_BOM, b"data:", b"event:", b"error:", b"id:", b"retry:")


class TooLongError(ValueError):
    """A line or an event is longer than `MESSAGE_LIMIT`."""

    def __init__(self) -> None:
        super().__init__(f"longer than {MESSAGE_LIMIT} bytes without an end")


class Lines:
    """Cuts bytes into lines, without their ends."""

    __slots__ = ("_after_cr", "_open")

    def __init__(self) -> None:
        self._open = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the lines they complete.

        Raises:
            TooLongError: the line that has begun is longer than `MESSAGE_LIMIT`.
        """
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == _LF:
                data = data[1:]
        if not data:
            return []
        lines = data.splitlines()
        last = data[-1]
        if last == _CR:
            self._after_cr = True
        tail = b"" if last in _ENDS else lines.pop()
        if self._open and lines:
            self._open += lines[0]
            lines[0] = bytes(self._open)
            self._open.clear()
        if tail:
            self._open += tail
            if len(self._open) > MESSAGE_LIMIT:
                raise TooLongError
        return lines

    def close(self) -> bytes:
        """Return what came after the last line's end."""
        rest = bytes(self._open)
        self._open.clear()
        return rest


class ServerEvents:
    """Cuts bytes into server-sent events: comments, ids and retry times are passed over, a byte order mark too.

    A field `error`, which the standard does not know, is an event of that name: llama.cpp and what is built on it
    report a failure inside a stream so.

    Attributes:
        strange: the first line that is no field of an event; a line that was cut and may have become one is none.
    """

    __slots__ = ("_data", "_first", "_lines", "_more", "_name", "strange")

    def __init__(self) -> None:
        self._lines = Lines()
        self._first = True
        self._name = ""
        self._data: bytes | None = None
        self._more = bytearray()
        self.strange: bytes | None = None

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take the next bytes and return the events they complete; an event without data is none.

        Raises:
            TooLongError: the event that has begun is longer than `MESSAGE_LIMIT`.
        """
        events: list[ServerEvent] = []
        for line in self._lines.feed(data):
            if line:
                self._field(line)
            else:
                self._dispatch(events)
        return events

    def close(self) -> list[ServerEvent]:
        """Return the event that was under way when the bytes ended, if any; it may be cut."""
        events: list[ServerEvent] = []
        rest = self._lines.close()
        if rest and not any(beginning.startswith(rest) for beginning in _BEGINNINGS):
            self._field(rest)
        self._dispatch(events)
        return events

    def _field(self, line: bytes) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"error":
            self._name = "error"
            self._add(value)
        elif self.strange is None and name not in _SILENT:
            self.strange = line

    def _add(self, value: bytes) -> None:
        """Take a line of data. Lines after the first are kept in one piece: most events have one, some very many."""
        if self._data is None:
            self._data = value
            return
        self._more += b"\n" + value
        if len(self._data) + len(self._more) > MESSAGE_LIMIT:
            raise TooLongError

    def _dispatch(self, events: list[ServerEvent]) -> None:
        if self._data is not None:
            data = self._data + self._more if self._more else self._data
            events.append((self._name, data))
            self._data = None
            self._more.clear()
        self._name = ""
