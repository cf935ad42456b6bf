"""Decoders that every dialect needs: for an answer that comes whole, for a stream, and one that looks before it decides."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator

from veyra.errors import ProviderError
from veyra.types import Event
from veyra.wire.base import Decoder
from veyra.wire.failures import Origin
from veyra.wire.framing import MESSAGE_LIMIT, TooLongError

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
        self.read(body, events)
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
        return self._run(lambda out: self.take(data, out))

    def close(self) -> Iterator[Event]:
        """Yield what is left, and raise where the terminal marker did not come; see `Decoder.close`."""
        return self._run(self.end)

    def _run(self, step: Callable[[list[Event]], None]) -> Iterator[Event]:
        events: list[Event] = []
        failure: ProviderError | None = None
        if not self.done:
            try:
                step(events)
            except TooLongError as error:
                failure = self._origin.malformed(f"a message in the stream is {error}", partial=self.partial)
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


class Sniffed(Decoder):
    """Decides by the first byte that means something: JSON and HTML begin as no event stream does.

    A provider may answer a request for a stream with a whole body (an error, or because it cannot stream), and the
    content type is not always true.
    """

    def __init__(self, stream: Callable[[], Decoder], whole: Callable[[], Decoder]) -> None:
        self._stream = stream
        self._whole = whole
        self._head = bytearray()
        self._chosen: Decoder | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        """Hand the bytes on as soon as it is clear to whom."""
        if self._chosen is None:
            self._head += data
            start = bytes(self._head).removeprefix(_BOM).lstrip()
            if not start:
                return
            self._chosen = self._whole() if start[0] in b"{[<" else self._stream()
            data = bytes(self._head)
        yield from self._chosen.feed(data)
        self.done = self._chosen.done

    def close(self) -> Iterator[Event]:
        """Close the decoder that was chosen; a body of nothing but whitespace is a stream that never began."""
        chosen = self._chosen or self._stream()
        yield from chosen.close()
        self.done = chosen.done
