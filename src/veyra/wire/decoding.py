"""Decoders that every dialect needs: for an answer that comes whole, and for a stream."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from veyra.errors import IncompleteStreamError, ProviderError
from veyra.types import Event
from veyra.wire.base import Decoder
from veyra.wire.failures import Origin
from veyra.wire.framing import MESSAGE_LIMIT, ServerEvents, TooLongError
from veyra.wire.halves import Halves, Named, mended
from veyra.wire.reading import read

_BODY_BEGINS = frozenset((b"{", b"[", b'"', b"<"))
_TOO_DEEP = "the answer is nested too deeply"
_BOM = b"\xef\xbb\xbf"


class WholeBody(Decoder):
    """Collects a body and reads it at its end."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._body = bytearray()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Keep the bytes; nothing is yielded before `close`.

        Raises:
            MalformedResponseError: the body is longer than `MESSAGE_LIMIT`.
        """
        self._body += data
        if len(self._body) > MESSAGE_LIMIT:
            what = f"the body is longer than {MESSAGE_LIMIT} bytes"
            raise self._origin.malformed(what)
        return iter(())

    def close(self) -> Iterator[Event]:
        """Read the body: JSON, perhaps with whitespace before it, as some send to keep the connection alive.

        Raises:
            MalformedResponseError: it is empty or not what the format says.
            ProviderError: it reports an error.
        """
        body = bytes(self._body).removeprefix(_BOM).strip()
        if not body:
            what = "the body is empty"
            raise self._origin.malformed(what)
        events: list[Event] = []
        try:
            self.read(mended(body), events)
        except RecursionError:
            raise self._origin.malformed(_TOO_DEEP, body) from None
        self.done = True
        yield from events

    @abstractmethod
    def read(self, body: bytes, out: list[Event]) -> None:
        """Append the events of the answer that `body`, stripped and not empty, stands for."""


class Streamed(Decoder):
    """Reads an answer as it comes; a dialect says what the bytes mean (`take`) and when it is over (`end`)."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what the bytes complete, and only then raise what is wrong with them; see `Decoder.feed`."""
        return self._run(self.take, data)

    def close(self) -> Iterator[Event]:
        """Yield what is left, and raise where the terminal marker did not come; see `Decoder.close`."""
        return self._run(self.end)

    def _run(self, step: Callable[..., None], *data: bytes) -> Iterator[Event]:
        events: list[Event] = []
        failure: ProviderError | None = None
        if not self.done:
            try:
                step(*data, events)
            except TooLongError as error:
                failure = self._origin.malformed(f"a message in the stream is {error}", partial=self.partial)
            except RecursionError:
                failure = self._origin.malformed(_TOO_DEEP, partial=self.partial)
            except ProviderError as error:
                failure = error
        yield from events
        if failure is not None:
            raise failure

    @property
    @abstractmethod
    def partial(self) -> str:
        """The text so far."""

    @abstractmethod
    def take(self, data: bytes, out: list[Event]) -> None:
        """Append the events that `data` completes; those appended before an error is raised are handed on."""

    @abstractmethod
    def end(self, out: list[Event]) -> None:
        """Append the events that the end of the body completes, or raise `IncompleteStreamError`."""


class EventStream(Streamed):
    """Reads server-sent events, or a whole body where that comes instead.

    A provider may answer a request for a stream with a whole body (an error, or because it cannot stream), and its
    content type is not always true. So the first byte that means something decides: JSON and HTML begin as no event
    stream does.
    """

    marker: ClassVar[bytes] = b""
    """The data of a terminal event that is not JSON, where the dialect has one."""

    def __init__(self, origin: Origin, whole: WholeBody) -> None:
        super().__init__(origin)
        self._events = ServerEvents()
        self._halves = Halves()
        self._whole = whole
        self._begun = False
        self._is_told = False
        self._is_whole = False

    def take(self, data: bytes, out: list[Event]) -> None:
        """Read the events that `data` completes, as soon as it is clear that there are events."""
        if not self._begun:
            data = data.lstrip()
            self._begun = bool(data)
            self._is_whole = data[:1] in _BODY_BEGINS
        if self._is_whole:
            self._whole.feed(data)
            return
        events = self._events.feed(data)
        self._is_told = self._is_told or bool(events)
        for name, body in events:
            if self._halves.passes(body):
                self.event(name, body, out)
            else:
                self._mended(self._halves.take(name, body), out)
            if self.done:
                return

    def end(self, out: list[Event]) -> None:
        """Read an event that only lacks its end; one that is cut is not looked at."""
        if self._is_whole:
            out.extend(self._whole.close())
            self.done = True
            return
        cut = False
        events = self._events.close()
        if not (self._is_told or events):
            self._untold()
        last = [message for event in events for message in self._halves.take(*event)]
        for name, body in last + self._halves.close():
            cut = body.strip() != self.marker and read(body) is None
            if not cut and not self.done:
                self.event(name, body, out)
        if not self.done:
            self.stop(out, cut=cut)

    def _untold(self) -> None:
        """Raise what is wrong with a body in which no event came, where more is known of it than that it ended."""
        if not self._begun:
            what = "the stream is empty: not one event came"
            raise self._origin.error(IncompleteStreamError, what)
        if self._events.strange is not None:
            what = "not a stream of events"
            raise self._origin.malformed(what, self._events.strange)

    def _mended(self, messages: Iterable[Named], out: list[Event]) -> None:
        for name, body in messages:
            if not self.done:
                self.event(name, body, out)

    @abstractmethod
    def event(self, name: str, body: bytes, out: list[Event]) -> None:
        """Append what an event adds, and set `done` where it is the terminal marker."""

    @abstractmethod
    def stop(self, out: list[Event], *, cut: bool) -> None:
        """End without a terminal marker: raise `IncompleteStreamError`, unless the endpoint sends none.

        Args:
            out: where to append the end.
            cut: the last event was not whole.
        """
