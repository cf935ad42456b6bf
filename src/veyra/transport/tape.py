"""Tapes: recorded exchanges, transports that play and record them, and the file they are kept in.

1. A request is answered by the recording with the same method, path and body (`recording.canonical`), and by nothing else.
   Each recording is played once; several of the same request are played in their order.
2. Pieces are played as they arrived, and the end as it was: a cut body is cut, and one that was left early goes no further.
3. Recording delays nothing: each piece is handed on as it comes, and noted.
4. No key is on a tape. Headers of requests are not recorded, nor those of answers that might carry one; a key of
   `Outgoing.secret_headers` that turns up anywhere else is replaced by as many `*`.
5. Only exchanges that got an answer are recorded: where no connection was made there is nothing to play.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, assert_never, get_args

from veyra.errors import IncompleteStreamError, InvalidRequestError, TapeMissError
from veyra.transport import checks, tape_format, tape_log
from veyra.transport.base import Head, Incoming, Outgoing, Transport
from veyra.transport.fields import Difference, differences
from veyra.transport.recording import End, Piece, Recording, canonical, kept_headers, key, path_of
from veyra.transport.tape_log import Log

Mode: TypeAlias = Literal["auto", "record", "replay", "off"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

_SHORTEST: Final = 6
"""A key shorter than this is not looked for: it would mask innocent text."""
_FIELDS: Final = 8
"""Differing fields that a miss names at most."""
_COMPARED: Final = 4_000
"""Characters of two requests that are compared to tell which is nearer."""


@dataclass(frozen=True, slots=True)
class Tape:
    """Recorded exchanges, in the order in which they were begun."""

    recordings: tuple[Recording, ...] = ()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a tape from its file.

        Raises:
            InvalidRequestError: there is no file, or it is no tape; the message says where it is wrong.
        """
        try:
            return cls(tape_format.read(Path(path).read_bytes()))
        except OSError as error:
            msg = f"the tape {os.fspath(path)} cannot be read: {error.strerror or error}"
        except ValueError as error:
            msg = f"the tape {os.fspath(path)} cannot be read: {error}"
        raise InvalidRequestError(msg)

    @classmethod
    def from_log(cls, log: Log, *ids: int | str) -> Self:
        """Return the exchanges of attempts in a log (an `AuditLog`).

        Args:
            log: where they are on record.
            ids: which: the sequence number of an entry, or an id, or its beginning, of an entry or of a call; without any, all
                that got an answer.

        Raises:
            InvalidRequestError: an id names no attempt that got an answer.
            AuditError: the log cannot be read.
        """
        return cls(tape_log.recordings(log, ids))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tape to its file, in the place of what was there; the file is whole at every moment.

        Raises:
            OSError: it cannot be written.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"{target.name}.{os.getpid()}.new")
        try:
            fresh.write_bytes(tape_format.write(self.recordings))
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ playing


class TapeTransport(Transport):
    """Plays a tape; never touches a network.

    Args:
        tape: what is played.
        paced: let each piece come as long after the request as it did when it was recorded; otherwise they come at once.

    Attributes:
        is_open: how many exchanges are open now.

    Raises (on opening):
        TapeMissError: no recording answers the request, or all that do were played.
        InvalidRequestError: what http would refuse as well.
    """

    def __init__(self, tape: Tape, *, paced: bool = False) -> None:
        self.is_open = 0
        self._recordings = tape.recordings
        self._paced = paced
        self._left: dict[str, deque[int]] = {}
        for place, recording in enumerate(tape.recordings):
            self._left.setdefault(_key_of(recording), deque()).append(place)

    def open(self, request: Outgoing) -> _Playing:
        """Answer from the tape; see `Transport.open`."""
        checks.check(request)
        wanted = _asked(request)
        try:
            place = self._left[key(wanted)].popleft()
        except (KeyError, IndexError):
            raise TapeMissError(self._miss(wanted)) from None
        return _Playing(self, self._recordings[place], paced=self._paced)

    def can_play(self, request: Outgoing) -> bool:
        """Tell whether a recording that was not played yet answers the request."""
        return bool(self._left.get(key(_asked(request))))

    @property
    def unused(self) -> tuple[Recording, ...]:
        """The recordings that were not played, in the order of the tape."""
        return tuple(self._recordings[place] for place in sorted(chain(*self._left.values())))

    def assert_finished(self) -> None:
        """Assert that every recording was played and every exchange left."""
        unused = self.unused
        shown = ", ".join(map(str, unused[:_FIELDS])) + (", ..." if len(unused) > _FIELDS else "")
        assert not unused, f"{len(unused)} of {len(self._recordings)} recordings were not played: {shown}"
        assert not self.is_open, f"{self.is_open} exchanges are still open"

    def _miss(self, wanted: dict[str, object]) -> str:
        what = f"{wanted['method']} {wanted['path']}"
        if not self._recordings:
            return f"the tape is empty, so nothing answers {what}: record it first"
        played = len([recording for recording in self._recordings if _key_of(recording) == key(wanted)])
        if played:
            return f"each recording of this {what} was played (there are {played}), and it is asked for once more"
        number, differing = _nearest(wanted, self._recordings)
        lines = [f"  {difference.describe('recorded', 'asked')}" for difference in differing[:_FIELDS]]
        if len(differing) > _FIELDS:
            lines.append(f"  and in {len(differing) - _FIELDS} fields more")
        head = f"no recording answers this {what}; the nearest, number {number} of {len(self._recordings)}, differs in"
        return "\n".join([head, *lines])


class _Playing(Incoming):
    """A recording that is being played."""

    def __init__(self, transport: TapeTransport, recording: Recording, *, paced: bool) -> None:
        self._transport = transport
        self._recording = recording
        self._paced = paced
        self.head = recording.head

    async def __aenter__(self) -> Self:
        self._transport.is_open += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.is_open -= 1

    async def chunks(self) -> AsyncIterator[bytes]:
        at = 0
        for piece in self._recording.pieces:
            await asyncio.sleep((piece.after - at) / 1e9 if self._paced else 0)  # at least, let others run
            at = piece.after
            if piece.data:
                yield piece.data
        match self._recording.end:
            case "end":
                return
            case "cut":
                msg = "the recorded answer broke off here"
            case "left":
                msg = "the recording stops here: when it was made, the answer was not read on"
            case _:
                assert_never(self._recording.end)
        raise IncompleteStreamError(msg)


def _asked(request: Outgoing) -> dict[str, object]:
    """Return a request's canonical form, as it would stand on a tape: with its keys masked."""
    secrets = _secrets(request)
    return canonical(request.method, _masked_text(path_of(request.url), secrets), _masked(request.body, secrets))


def _key_of(recording: Recording) -> str:
    return key(canonical(recording.method, recording.path, recording.body))


def _nearest(wanted: dict[str, object], recordings: Sequence[Recording]) -> tuple[int, list[Difference]]:
    """Return the number, from 1, of the recording that differs in the fewest fields, and these; of several, the likest."""
    ways: list[tuple[int, float, int, list[Difference]]] = []
    for number, recording in enumerate(recordings, 1):
        found = list(differences(canonical(recording.method, recording.path, recording.body), wanted))
        ways.append((len(found), 0.0, number, found))
    fewest = min(ways)[0]
    text = key(wanted)[:_COMPARED]
    matcher = SequenceMatcher(None, b=text, autojunk=False)

    def likeness(number: int) -> float:
        matcher.set_seq1(_key_of(recordings[number - 1])[:_COMPARED])
        return matcher.quick_ratio()

    near = [(likeness(number), -number, found) for size, _, number, found in ways if size == fewest]
    _, number, found = max(near, key=lambda way: way[:2])
    return -number, found


# ----------------------------------------------------------------------------------------------- recording


class RecordingTransport(Transport):
    """Hands every exchange on to another transport and records it while it runs.

    Args:
        transport: where requests go. It is closed with this one.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._numbers = count()
        self._done: dict[int, Recording] = {}

    @property
    def tape(self) -> Tape:
        """What was recorded until now: the exchanges that were left, in the order in which they were begun."""
        return Tape(tuple(recording for _, recording in sorted(self._done.items(), key=lambda item: item[0])))

    def open(self, request: Outgoing) -> _Recorded:
        """Send the request on; see `Transport.open`."""
        return _Recorded(self, next(self._numbers), request, self._transport.open(request))

    def keep(self, number: int, recording: Recording) -> None:
        """Note an exchange that was left."""
        self._done[number] = recording

    async def aclose(self) -> None:
        """Close what the other transport holds on the running event loop."""
        await self._transport.aclose()


class _Recorded(Incoming):
    """An exchange that is being recorded."""

    def __init__(
        self,
        transport: RecordingTransport,
        number: int,
        request: Outgoing,
        exchange: AbstractAsyncContextManager[Incoming],
    ) -> None:
        self._transport = transport
        self._number = number
        self._request = request
        self._exchange = exchange
        self._pieces: list[Piece] = []
        self._end: End = "left"

    async def __aenter__(self) -> Self:
        self._began = time.monotonic_ns()
        self._incoming = await self._exchange.__aenter__()
        self.head = self._incoming.head
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._transport.keep(self._number, self._recording())
        return await self._exchange.__aexit__(kind, error, trace)

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._incoming.chunks():
                self._pieces.append(Piece(time.monotonic_ns() - self._began, data))
                yield data
        except IncompleteStreamError:
            self._end = "cut"
            raise
        self._end = "end"

    def _recording(self) -> Recording:
        secrets, request, head = _secrets(self._request), self._request, self.head
        headers = {name: _masked_text(value, secrets) for name, value in kept_headers(head.headers).items()}
        return Recording(
            method=request.method,
            path=_masked_text(path_of(request.url), secrets),
            body=_masked(request.body, secrets),
            head=Head(head.status, headers),
            pieces=_masked_pieces(self._pieces, secrets),
            end=self._end,
        )


def _secrets(request: Outgoing) -> tuple[bytes, ...]:
    """Return the keys of a request as they may turn up elsewhere: a header's whole value, and what follows `Bearer `."""
    values = [secret.reveal() for secret in request.secret_headers.values()]
    found = {text.encode() for value in values for text in (value, value.rpartition(" ")[2])}
    return tuple(sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True))


def _masked(data: bytes, secrets: Sequence[bytes]) -> bytes:
    """Return bytes with every key in them replaced by as many `*`, so that lengths and offsets stay true."""
    for secret in secrets:
        data = data.replace(secret, b"*" * len(secret))
    return data


def _masked_text(text: str, secrets: Sequence[bytes]) -> str:
    return _masked(text.encode(), secrets).decode()


def _masked_pieces(pieces: Sequence[Piece], secrets: Sequence[bytes]) -> tuple[Piece, ...]:
    """Return the pieces of a body with every key masked, also one that was torn between two of them."""
    whole = b"".join(piece.data for piece in pieces)
    masked = _masked(whole, secrets)
    if masked == whole:
        return tuple(pieces)
    result: list[Piece] = []
    start = 0
    for piece in pieces:
        result.append(replace(piece, data=masked[start : start + len(piece.data)]))
        start += len(piece.data)
    return tuple(result)


# --------------------------------------------------------------------------------------------------- modes


class TapedTransport(Transport):
    """A transport with a tape in a file: what is asked is played, recorded, or both.

        backend = get_backend("openai", model="...", transport=TapedTransport("tests/tapes/hello.jsonl"))

    Closing it, as closing the backend does, writes what was recorded.

    Args:
        path: the file of the tape.
        mode: `auto` plays what is on the tape and records what is not; `record` records everything anew, in the place of what
            was there; `replay` plays and never touches a network; `off` does neither and goes straight to `transport`.
        transport: where requests go that are not played; HTTP unless another is given.
        paced: see `TapeTransport`.

    Raises:
        InvalidRequestError: there is no such mode, the file is no tape, or, in the mode `replay`, there is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "auto",
        transport: Transport | None = None,
        paced: bool = False,
    ) -> None:
        if mode not in MODES:
            msg = f"the mode of a tape is one of {', '.join(MODES)}, not {mode!r}"
            raise InvalidRequestError(msg)
        self.path = Path(path)
        self.mode: Mode = mode
        known = mode == "replay" or (mode == "auto" and self.path.exists())
        self._known = Tape.load(self.path) if known else Tape()
        self._player = TapeTransport(self._known, paced=paced)
        self._transport = None if mode == "replay" else transport or _http()
        self._recorder = None if self._transport is None else RecordingTransport(self._transport)
        self._saved = 0

    @property
    def tape(self) -> Tape:
        """What is on the tape now: what was there and still counts, and what was recorded since."""
        return Tape(self._known.recordings + self._recorded())

    @property
    def unused(self) -> tuple[Recording, ...]:
        """The recordings that were there and were not played."""
        return self._player.unused

    def open(self, request: Outgoing) -> AbstractAsyncContextManager[Incoming]:
        """Play or record, as the mode says; see `Transport.open`."""
        if (
            self._transport is None
            or self._recorder is None
            or (self.mode == "auto" and self._player.can_play(request))
        ):
            return self._player.open(request)
        return (self._transport if self.mode == "off" else self._recorder).open(request)

    def assert_finished(self) -> None:
        """Assert that every recording that was there was played."""
        self._player.assert_finished()

    def save(self) -> None:
        """Write the tape where anything was recorded since it was last written.

        Raises:
            OSError: it cannot be written.
        """
        recorded = len(self._recorded())
        if recorded > self._saved:
            self.tape.save(self.path)
            self._saved = recorded

    async def aclose(self) -> None:
        """Close what the other transport holds on the running event loop, and write the tape as `save` does."""
        if self._transport is not None:
            await self._transport.aclose()
        await asyncio.to_thread(self.save)

    def _recorded(self) -> tuple[Recording, ...]:
        return () if self._recorder is None else self._recorder.tape.recordings


def _http() -> Transport:
    from veyra.transport.http import HttpTransport  # noqa: PLC0415  (loads the HTTP library: not to play a tape)

    return HttpTransport()
