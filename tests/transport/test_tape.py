"""Tapes: what is recorded while it runs, what is played, what misses, and the file that keeps it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import virtual
from asking import ask, ask_in_pieces, post
from loopback import CLOSE, STALL, Loopback, chunk, reply
from veyra import AuditLog, get_backend
from veyra.errors import AuditCorruptError, IncompleteStreamError, InvalidRequestError, ProviderError, TapeMissError
from veyra.transport import tape_format
from veyra.transport.base import Head, Outgoing
from veyra.transport.http import HttpTransport
from veyra.transport.recording import Piece, Recording
from veyra.transport.script import Answer, Refuse, ScriptedTransport
from veyra.transport.tape import MODES, RecordingTransport, Tape, TapedTransport, TapeTransport
from veyra.transport.tape_log import Log
from veyra.types import Secret, TextDelta
from wires import HELLO, WIRES

URL = "http://provider.invalid/v1/chat"
KEY = "sk-canary-0123456789"


def recording(body: Any = None, *pieces: bytes, path: str = "/v1/chat", **more: Any) -> Recording:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    arrived = tuple(Piece(number * 1_000_000_000, data) for number, data in enumerate(pieces, 1))
    head = more.pop("head", Head(200, {"content-type": "application/json"}))
    return Recording(method="POST", path=path, body=sent, head=head, pieces=arrived, **more)


def asked(body: Any, url: str = URL) -> Outgoing:
    return post(url, body if isinstance(body, bytes) else json.dumps(body).encode())


async def missed(tape: Tape, request: Outgoing) -> list[str]:
    with pytest.raises(TapeMissError) as caught:
        await ask(TapeTransport(tape), request)
    return str(caught.value).splitlines()


# ------------------------------------------------------------------------------------------------ playing


async def test_a_recording_is_played_piece_by_piece() -> None:
    """The answer comes with its head and in the very pieces in which it was recorded."""
    transport = TapeTransport(Tape((recording({"a": 1}, b"on", b"e", head=Head(201, {"x": "y"})),)))
    async with transport.open(asked({"a": 1})) as incoming:
        assert incoming.head == Head(201, {"x": "y"})
        assert [data async for data in incoming.chunks()] == [b"on", b"e"]
    transport.assert_finished()


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        (b'{"a":1,"b":[true,null]}', b'{ "b" : [true, null], "a" : 1.0 }'),
        (b"", b""),
        (b"\xff not json", b"\xff not json"),
        (b"1e2", b"100"),
        (b"9" * 5000, b"9" * 5000),
        (b"[" * 100_000, b"[" * 100_000),
    ],
)
async def test_the_same_request_is_answered(kept: bytes, now: bytes) -> None:
    """JSON counts by its value: spaces, order of keys and how a number is written do not matter; other bytes count exactly."""
    assert (await ask(TapeTransport(Tape((recording(kept, b"x"),))), asked(now)))[1] == b"x"


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": None}, {}),
        ({"a": "1"}, {"a": 1}),
        ({"a": 1.5}, {"a": 1.25}),
        (b"text", b"text "),
        (b"\xff", b"\"b'\\\\xff'\""),
    ],
)
async def test_another_request_is_not(kept: Any, now: Any) -> None:
    """What differs in a value, a type, an order or a byte is another request."""
    assert await missed(Tape((recording(kept),)), asked(now))


async def test_a_request_of_any_depth_is_matched() -> None:
    """However deeply a body is nested, it is the same as itself and another than one with something else inside."""
    for depth in range(1, 1_200, 13):
        one, other = (b"[" * depth + inside + b"]" * depth for inside in (b"1", b"2"))
        assert (await ask(TapeTransport(Tape((recording(one, b"x"),))), asked(one)))[1] == b"x"
        assert await missed(Tape((recording(one),)), asked(other))


async def test_method_and_path_count_and_the_host_does_not() -> None:
    """A request to another path, query included, is another request; to another host it is the same."""
    tape = Tape((recording({}, b"x", path="/v1/chat?alt=sse"),))
    assert (await missed(tape, asked({})))[1] == '  path: recorded "/v1/chat?alt=sse", asked "/v1/chat"'
    assert (await ask(TapeTransport(tape), asked({}, "https://elsewhere.invalid/v1/chat?alt=sse")))[1] == b"x"
    get = Outgoing(method="GET", url=URL)
    assert (await missed(Tape((recording(b""),)), get))[1] == '  method: recorded "POST", asked "GET"'


async def test_equal_requests_are_answered_in_their_order_and_each_once() -> None:
    """Several recordings of the same request are played in turn; then there is none left."""
    same = recording({}, b"1")
    tape = Tape((same, recording({}, b"2"), same))
    transport = TapeTransport(tape)
    assert [(await ask(transport, asked({})))[1] for _ in range(3)] == [b"1", b"2", b"1"]
    with pytest.raises(TapeMissError, match=r"each recording of this POST /v1/chat was played \(there are 3\)"):
        transport.open(asked({}))


async def test_a_miss_names_the_fields_in_which_the_nearest_differs() -> None:
    """A miss names the nearest recording and each field that differs, with both values."""
    far = recording({"model": "m", "messages": [{"role": "user", "content": "Hello!"}], "a": 1, "b": 2, "c": 3}, b"")
    near = recording({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "top_p": 1}, b"")
    now = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}], "seed": 7}
    assert await missed(Tape((far, near)), asked(now)) == [
        "no recording answers this POST /v1/chat; the nearest, number 2 of 2, differs in",
        '  body.messages[0].content: recorded "Hello", asked "Hello!"',
        "  body.top_p: recorded 1, asked nothing",
        "  body.seed: recorded nothing, asked 7",
    ]


async def test_of_several_near_recordings_the_likest_is_shown() -> None:
    """Where several recordings differ in as many fields, the one whose text is likest is compared."""
    tape = Tape((recording({"say": "bonjour"}), recording({"say": "good morning"}), recording({"say": "x"})))
    assert "number 2 of 3" in (await missed(tape, asked({"say": "good evening"})))[0]


async def test_a_miss_shows_where_long_values_begin_to_differ_and_not_all_fields() -> None:
    """Long values are cut around the first character that differs; of many fields the first are named."""
    lines = await missed(Tape((recording({"a": "x" * 500 + "left"}),)), asked({"a": "x" * 500 + "right"}))
    assert lines[1] == f'  body.a: recorded …{"x" * 59}left", asked …{"x" * 58}right"'
    lines = await missed(Tape((recording({str(n): n for n in range(20)}),)), asked({}))
    assert (len(lines), lines[-1]) == (10, "  and in 12 fields more")


async def test_an_empty_tape_says_so() -> None:
    """A tape without recordings says that it is empty."""
    assert await missed(Tape(), asked({})) == ["the tape is empty, so nothing answers POST /v1/chat: record it first"]


async def test_a_miss_through_a_backend_is_an_error_that_is_not_tried_again() -> None:
    """A miss reaches the caller of a backend as it is, on record, and says that trying again is no use."""
    log = AuditLog.memory()
    async with get_backend("ollama", model="m", transport=TapeTransport(Tape()), audit=log) as backend:
        with pytest.raises(TapeMissError) as caught:
            await backend.generate("Hi")
    assert (caught.value.retryable, [row.error for row in log.attempts()]) == (False, ["tape_miss"])


async def test_what_was_not_played_can_be_asserted() -> None:
    """Recordings that were not played, and exchanges that were not left, fail the assertion, by name."""
    transport = TapeTransport(Tape((recording({"a": 1}, b"x"), recording({"a": 2}, b"y", path="/v1/other"))))
    async with transport.open(asked({"a": 1})):
        assert [str(one) for one in transport.unused] == ["POST /v1/other"]
        with pytest.raises(AssertionError, match="1 of 2 recordings were not played: POST /v1/other"):
            transport.assert_finished()
        await ask(transport, asked({"a": 2}, "http://provider.invalid/v1/other"))
        with pytest.raises(AssertionError, match="1 exchanges are still open"):
            transport.assert_finished()
    transport.assert_finished()


@pytest.mark.parametrize(("end", "words"), [("cut", "broke off here"), ("left", "stops here")])
async def test_an_answer_that_did_not_end_does_not_end(end: Any, words: str) -> None:
    """A recorded answer that was cut, or left early, gives what came of it and then an error that says which."""
    transport = TapeTransport(Tape((recording({}, b"begin", end=end),)))
    arrived, error = await ask_in_pieces(transport, asked({}))
    assert arrived == b"begin"
    assert isinstance(error, IncompleteStreamError)
    assert words in str(error)


def test_pieces_come_at_their_time_where_that_is_wanted() -> None:
    """A paced tape lets each piece come as long after the request as it did; otherwise nothing waits."""

    async def times(*, paced: bool) -> list[float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with TapeTransport(Tape((recording({}, b"a", b"b"),)), paced=paced).open(asked({})) as incoming:
            return [loop.time() - began async for _ in incoming.chunks()]

    assert virtual.run(times(paced=True)) == [1.0, 2.0]
    assert virtual.run(times(paced=False)) == [0.0, 0.0]


async def test_what_http_refuses_is_refused() -> None:
    """A request that could not be sent is refused as HTTP refuses it, not taken for a miss."""
    with pytest.raises(InvalidRequestError, match="method must be GET or POST"):
        await ask(TapeTransport(Tape()), Outgoing(method="PUT", url=URL))


# ----------------------------------------------------------------------------------------------- recording


async def test_pieces_are_handed_on_as_they_come_while_recording() -> None:
    """The first piece reaches the reader before the server sends the second; both are recorded with their time."""
    got_first = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"first"))
        await got_first.wait()
        writer.write(chunk(b"second") + b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        transport = RecordingTransport(HttpTransport())
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat?x=1"
        async with transport.open(post(url)) as incoming:
            async for data in incoming.chunks():
                if data == b"first":
                    got_first.set()
        await transport.aclose()
    (kept,) = transport.tape.recordings
    assert (kept.path, kept.body, kept.end) == ("/v1/chat?x=1", b"{}", "end")
    assert [piece.data for piece in kept.pieces] == [b"first", b"second"]
    assert 0 < kept.pieces[0].after < kept.pieces[1].after


async def test_an_early_stop_is_recorded_as_one() -> None:
    """What the caller did not read is not on the tape, and the tape says that it was left."""
    inner = ScriptedTransport([Answer(chunks=[b"a", b"b", b"c"])])
    transport = RecordingTransport(inner)
    async with transport.open(asked({})) as incoming:
        chunks = incoming.chunks()
        assert await anext(chunks) == b"a"
    (kept,) = transport.tape.recordings
    assert ([piece.data for piece in kept.pieces], kept.end, inner.left_early) == ([b"a"], "left", 1)


async def test_a_cut_is_recorded_as_one() -> None:
    """A connection that breaks gives the caller what came and the error, and the tape the same."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with Loopback([(head + chunk(b"begin"), CLOSE)]) as server:
        transport = RecordingTransport(HttpTransport())
        live = await ask_in_pieces(transport, post(f"{server.url}/v1/chat"))
        await transport.aclose()
    played = await ask_in_pieces(TapeTransport(transport.tape), post(URL))
    assert live[0] == played[0] == b"begin"
    assert type(live[1]) is type(played[1]) is IncompleteStreamError
    assert transport.tape.recordings[0].end == "cut"


async def test_no_key_is_recorded() -> None:
    """Headers are left out, and a key that is sent in the body, comes back, or is torn between two pieces is masked."""
    said = f"you sent {KEY}"
    chunks = [said[:-5].encode(), said[-5:].encode() + b" again"]
    head = {"x-request-id": KEY, "set-cookie": "session=1", "content-type": "text/plain"}
    inner = ScriptedTransport([Answer(headers=head, chunks=chunks)])
    transport = RecordingTransport(inner)
    body = json.dumps({"note": KEY}).encode()
    request = post(
        f"{URL}/{KEY}", body, headers={"x-any": "1"}, secret_headers={"authorization": Secret(f"Bearer {KEY}")}
    )
    live = await ask(transport, request)
    assert live[1] == said.encode() + b" again"
    written = tape_format.write(transport.tape.recordings)
    assert KEY.encode() not in written
    assert b"cookie" not in written
    assert b"x-any" not in written
    (kept,) = transport.tape.recordings
    assert kept.head.headers == {"x-request-id": "*" * len(KEY), "content-type": "text/plain"}
    assert [len(piece.data) for piece in kept.pieces] == [len(data) for data in chunks]
    assert (await ask(TapeTransport(transport.tape), request))[1] == said.replace(
        KEY, "*" * len(KEY)
    ).encode() + b" again"


async def test_what_got_no_answer_is_not_recorded() -> None:
    """Where no connection was made the error is handed on, and nothing is on the tape."""
    transport = RecordingTransport(ScriptedTransport([Refuse(), Answer(chunks=[b"x"])]))
    with pytest.raises(ProviderError):
        await ask(transport, asked({}))
    await ask(transport, asked({"a": 1}))
    assert [one.body for one in transport.tape.recordings] == [b'{"a": 1}']


async def test_recordings_stand_in_the_order_in_which_they_were_begun() -> None:
    """An exchange that ends later but began earlier stands earlier."""
    transport = RecordingTransport(ScriptedTransport([Answer(chunks=[b"1"]), Answer(chunks=[b"2"])]))
    async with transport.open(asked(1)):
        await ask(transport, asked(2))
        assert [one.body for one in transport.tape.recordings] == [b"2"]
    assert [one.body for one in transport.tape.recordings] == [b"1", b"2"]


# ----------------------------------------------------------------------------------------------- the file


_bodies = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=20).map(str.encode),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5).map(
        lambda value: json.dumps(value).encode()
    ),
)
_recordings = st.builds(
    Recording,
    method=st.sampled_from(["GET", "POST"]),
    path=st.text(max_size=10),
    body=_bodies,
    head=st.builds(Head, st.integers(100, 999), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)),
    pieces=st.lists(st.builds(Piece, st.integers(0, 2**62), _bodies), max_size=3).map(tuple),
    end=st.sampled_from(["end", "cut", "left"]),
)


@given(st.lists(_recordings, max_size=3).map(tuple))
def test_the_file_keeps_every_byte(recordings: tuple[Recording, ...]) -> None:
    """What is written is read back the same, whatever the bytes are, a line for each exchange."""
    written = tape_format.write(recordings)
    assert tape_format.read(written) == recordings
    assert written.count(b"\n") == len(recordings) + 1


@pytest.mark.parametrize(
    "body", [b'{\n "a": 1\n}', b'{"a":1}\r', b" 1", b"[1]\n", b'"\xe2\x80\xa8"', b'"\xff"', b"NaN", b'"\\ud800"']
)
def test_json_that_is_no_line_is_kept_byte_for_byte(body: bytes) -> None:
    """JSON with line breaks or spaces around it, and what only looks like JSON, is kept as it was sent."""
    kept = tape_format.write([recording(body)])
    assert kept.count(b"\n") == 2
    assert tape_format.read(kept)[0].body == body


def test_the_file_is_for_people() -> None:
    """JSON and text stand as they are; what is no UTF-8 stands as base64."""
    one = recording(b'{"say":"h\xc3\xa9"}', b"data: caf\xc3\xa9\n\n", b"\xc3", head=Head(200, {}))
    assert tape_format.write([one]).decode() == (
        '{"veyra.tape":1}\n'
        '{"request":{"method":"POST","path":"/v1/chat","json":{"say":"hé"}},"response":{"status":200,"headers":{},'
        '"body":[[1000000000,"data: café\\n\\n"],[2000000000,{"base64":"ww=="}]],"end":"end"}}\n'
    )


def test_a_tape_is_saved_and_loaded(tmp_path: Path) -> None:
    """A tape is written to its file, directories included, over what was there, and leaves no other file."""
    path = tmp_path / "tapes" / "one.jsonl"
    for tape in (Tape((recording({"a": 1}, b"x"),)), Tape((recording({"a": 2}, b"y"),))):
        tape.save(path)
        assert Tape.load(path) == tape
    assert [file.name for file in path.parent.iterdir()] == ["one.jsonl"]


_LINE = tape_format.write([recording({})]).splitlines()[1]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1 is not"),
        (b"not json", "line 1 is not"),
        (b"\xff\xfe\n", "line 1 is not"),
        (b"[" * 100_000, "line 1 is not"),
        (b'{"veyra.tape":"1"}', "line 1 is not"),
        (b'{"veyra.tape":2}\n', "version 2, and only version 1"),
        (b'{"veyra.tape":1}\n{"request":', "line 2 is not an exchange"),
        (b'{"veyra.tape":1}\n' + _LINE + b"\n" + _LINE[:-9] + b"\n", "line 3 is not an exchange"),
        (
            b'{"veyra.tape":1}\n' + _LINE.replace(b"200", b'"200"'),
            r"Expected `int`, got `str` - at `\$.response.status`",
        ),
        (b'{"veyra.tape":1}\n' + _LINE.replace(b'"end":"end"', b'"end":"never"'), "line 2 is not an exchange"),
        (b'{"veyra.tape":1}\n' + _LINE.replace(b'"json"', b'"text":"x","json"'), "one of json, text and base64"),
        (b'{"veyra.tape":1}\n' + _LINE.replace(b'"json":{}', b'"base64":"?"'), "line 2 is not an exchange"),
        (b'{"veyra.tape":1}\n' + b"[" * 100_000, "line 2 is not an exchange"),
    ],
)
def test_what_is_no_tape_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    """A file that is no tape is refused, with its name and the line where it is wrong."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(data)
    with pytest.raises(InvalidRequestError, match=words) as caught:
        Tape.load(path)
    assert str(path) in str(caught.value)


def test_unknown_fields_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    """A tape with more fields than are known, or blank lines, is read."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(b'{"veyra.tape":1,"by":"me"}\n\n' + _LINE[:-1] + b',"note":1}\n\n')
    assert Tape.load(path) == Tape((recording({}),))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that is not there, or is a directory, is an error in the system's words."""
    with pytest.raises(InvalidRequestError, match="No such file"):
        Tape.load(tmp_path / "none.jsonl")
    with pytest.raises(InvalidRequestError, match="directory"):
        Tape.load(tmp_path)


# ------------------------------------------------------------------------------------------------- modes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a tape that is not there yet."""
    return tmp_path / "tape.jsonl"


def written(path: Path) -> bytes:
    return path.read_bytes()


def numbered(count: int) -> ScriptedTransport:
    return ScriptedTransport([Answer(chunks=[b"live %d" % number]) for number in range(count)])


async def answers(transport: TapedTransport, *bodies: Any) -> list[bytes]:
    found = [(await ask(transport, asked(body)))[1] for body in bodies]
    await transport.aclose()
    return found


async def test_auto_plays_what_is_there_and_records_what_is_not(path: Path) -> None:
    """The first run records; the next plays that, records what is new, and the one after plays all."""
    assert await answers(TapedTransport(path, transport=numbered(2)), 1, 1) == [b"live 0", b"live 1"]
    assert await answers(TapedTransport(path, transport=numbered(1)), 1, 2, 1) == [b"live 0", b"live 0", b"live 1"]
    last = TapedTransport(path, transport=numbered(0))
    assert await answers(last, 1, 1, 2) == [b"live 0", b"live 1", b"live 0"]
    last.assert_finished()


async def test_replay_never_touches_the_network(path: Path) -> None:
    """What is not on the tape is a miss, and nothing is sent or written."""
    await answers(TapedTransport(path, transport=numbered(1)), 1)
    before, inner = written(path), numbered(1)
    transport = TapedTransport(path, mode="replay", transport=inner)
    assert await answers(transport, 1) == [b"live 0"]
    with pytest.raises(TapeMissError):
        await ask(transport, asked(2))
    await transport.aclose()
    assert (inner.sent, written(path)) == ([], before)


async def test_replay_needs_a_tape(path: Path) -> None:
    """Without a file the mode `replay` is refused at once."""
    with pytest.raises(InvalidRequestError, match="No such file"):
        TapedTransport(path, mode="replay")


async def test_record_begins_anew(path: Path) -> None:
    """Everything is asked and recorded again, in the place of what was there; without a call the file stays."""
    await answers(TapedTransport(path, transport=numbered(2)), 1, 2)
    before = written(path)
    await answers(TapedTransport(path, mode="record", transport=numbered(0)))
    assert written(path) == before
    transport = TapedTransport(path, mode="record", transport=numbered(1))
    assert await answers(transport, 1) == [b"live 0"]
    assert len(Tape.load(path).recordings) == len(transport.tape.recordings) == 1


async def test_off_does_neither(path: Path) -> None:
    """In the mode `off` requests go straight on, whatever is in the file, and nothing is written."""
    path.write_bytes(b"no tape")  # noqa: ASYNC240  (before anything runs)
    assert await answers(TapedTransport(path, mode="off", transport=numbered(2)), 1, 1) == [b"live 0", b"live 1"]
    assert written(path) == b"no tape"


async def test_unused_recordings_fail_the_assertion(path: Path) -> None:
    """What was on the tape and was not asked for any more is told; it stays on the tape."""
    await answers(TapedTransport(path, transport=numbered(2)), 1, 2)
    transport = TapedTransport(path, transport=numbered(1))
    await answers(transport, 2, 3)
    assert [one.body for one in transport.unused] == [b"1"]
    with pytest.raises(AssertionError, match="1 of 2 recordings were not played"):
        transport.assert_finished()
    assert [one.body for one in Tape.load(path).recordings] == [b"1", b"2", b"3"]


def test_an_unknown_mode_is_refused(path: Path) -> None:
    """A mode that there is not is refused, with those that there are."""
    with pytest.raises(InvalidRequestError, match=", ".join(MODES)):
        TapedTransport(path, mode="once")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WIRES)
async def test_a_backend_is_recorded_over_http_and_played(name: str, path: Path) -> None:
    """A streamed answer that was recorded over HTTP is played with the same events, without a server and without the key."""
    wire = WIRES[name]

    async def told(transport: TapedTransport, url: str, key: str) -> list[str]:
        options = {"model": "m", "api_key": key, "base_url": url, "audit": "memory", **wire.options}
        backend = get_backend(wire.backend, transport=transport, **options)
        async with backend, backend.stream("Hi") as reading:
            return [event.text async for event in reading if isinstance(event, TextDelta)]

    play = reply(headers=wire.head(stream=True), body=wire.stream(HELLO), chunked=True)
    async with Loopback([play]) as server:
        live = await told(TapedTransport(path), server.url, KEY)
    assert KEY.encode() not in written(path)
    assert live == list(HELLO.texts)
    assert await told(TapedTransport(path, mode="replay"), "https://elsewhere.invalid", "another-key") == live


# ------------------------------------------------------------------------------------------------ from a log


class Kept:
    """A log that was altered: one body of each entry is another."""

    def __init__(self, log: AuditLog, name: str, change: Callable[[bytes], bytes]) -> None:
        self._log, self._name, self._change = log, name, change

    def entries(self) -> Iterator[Any]:
        for entry in self._log.entries():
            yield Altered(entry, self._name, self._change)


class Altered:
    def __init__(self, entry: Any, name: str, change: Callable[[bytes], bytes]) -> None:
        self.seq, self.leaf = entry.seq, entry.leaf
        self.parts = [BodyOf(part.name, change(part.data) if part.name == name else part.data) for part in entry.parts]


class BodyOf:
    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, data


async def logged(*steps: Any, stop: bool = False) -> AuditLog:
    """Record streamed calls of Chat Completions, one for each step of a script."""
    log = AuditLog.memory()
    transport = ScriptedTransport(steps)
    async with get_backend("openai", model="m", api="chat", api_key=KEY, transport=transport, audit=log) as backend:
        for number in range(len(steps)):
            try:
                async with backend.stream(f"Hi {number}") as reading:
                    async for event in reading:
                        if stop and isinstance(event, TextDelta):
                            break
            except ProviderError:
                continue
    return log


def streamed(**more: Any) -> Answer:
    return Answer(headers=WIRES["chat"].head(stream=True), chunks=WIRES["chat"].stream(HELLO), **more)


async def test_a_log_is_a_store_of_recordings() -> None:
    """The exchanges of a log are a tape that answers the same calls, piece by piece."""
    log: Log = await logged(streamed(), Refuse(), streamed())
    tape = Tape.from_log(log)
    assert [one.path for one in tape.recordings] == ["/v1/chat/completions"] * 2
    assert [piece.data for piece in tape.recordings[0].pieces] == WIRES["chat"].stream(HELLO)
    assert KEY.encode() not in tape_format.write(tape.recordings)
    transport = TapeTransport(tape)
    backend = get_backend("openai", model="m", api="chat", api_key="k", transport=transport, audit="memory")
    async with backend, backend.stream("Hi 2") as reading:
        assert [event.text async for event in reading if isinstance(event, TextDelta)] == list(HELLO.texts)


async def test_some_attempts_of_a_log_are_chosen_by_number_or_id() -> None:
    """An id, its beginning or a number names an entry or a call; what names none with an answer is told."""
    log = await logged(streamed(), Refuse(), streamed())
    first, refused, last = log.attempts()
    assert Tape.from_log(log, last.seq) == Tape.from_log(log, last.id) == Tape.from_log(log, last.call)
    assert Tape.from_log(log, last.outcome or "", str(first.seq)) == Tape.from_log(log)
    with pytest.raises(InvalidRequestError, match=f"named by '{refused.id}', 'nobody'$"):
        Tape.from_log(log, first.id, refused.id, "nobody")
    with pytest.raises(InvalidRequestError, match=r"named by ''$"):
        Tape.from_log(log, "")


@pytest.mark.parametrize(
    ("step", "stop", "end"),
    [
        (streamed(), False, "end"),
        (streamed(), True, "left"),
        (streamed().cut_after(300), False, "cut"),
        (Answer(headers=WIRES["chat"].head(stream=True), chunks=WIRES["chat"].stream(HELLO)[:2]), False, "end"),
        (Answer(headers={"content-type": "application/json"}, chunks=[b"{"], end="cut"), False, "cut"),
        (Answer(status=500, chunks=[b"no"]), False, "end"),
    ],
)
async def test_how_an_answer_ended_is_told_from_how_the_attempt_did(step: Any, stop: bool, end: str) -> None:
    """A cancelled attempt left its answer; an answer that broke off was cut; all others came to their end."""
    log = await logged(step, stop=stop)
    assert [one.end for one in Tape.from_log(log).recordings] == [end]


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("meta", lambda _: b"{", "cannot be read"),
        ("meta", lambda _: b'{"status":"x","headers":{},"arrivals":[]}', "cannot be read"),
        ("meta", lambda _: b'{"status":200,"headers":{},"arrivals":[[-1,0],[1,0]]}', "does not fit"),
        ("response.wire", lambda data: data[:-1], "does not fit"),
        ("meta", lambda data: data.replace(b'"arrivals":[[', b'"arrivals":[[9'), "does not fit"),
    ],
)
async def test_a_body_that_was_altered_is_told(part: str, change: Callable[[bytes], bytes], words: str) -> None:
    """Bodies that do not fit each other are the log's damage, named with the entry."""
    log = await logged(streamed())
    with pytest.raises(AuditCorruptError, match=f"'meta' of entry 1 .*{words}|{words}"):
        Tape.from_log(Kept(log, part, change))


async def test_stalled_answers_are_left_on_the_tape() -> None:
    """An answer whose caller gave up waiting holds what had come, and says that it was left."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with Loopback([(head + chunk(b"begin"), STALL)]) as server:
        transport = RecordingTransport(HttpTransport())
        async with transport.open(post(f"{server.url}/v1/chat")) as incoming:
            chunks = incoming.chunks()
            assert await anext(chunks) == b"begin"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(chunks)
        await transport.aclose()
    assert transport.tape.recordings[0].end == "left"
