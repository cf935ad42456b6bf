"""The fault server: who answers, what goes wrong, what it saw."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import pytest

import virtual
from asking import ask, ask_in_pieces, post
from pairs import PAIRS
from serving import Scripted
from veyra.errors import (
    ConnectionFailedError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    RateLimitError,
)
from veyra.models.mock import MockBackend
from veyra.models.mock_reply import MockReply
from veyra.models.registry import get_backend
from veyra.testing import faults
from veyra.testing.server import FaultServer, Seen
from veyra.testing.server_http import Received
from veyra.testing.server_journal import Journal
from veyra.transport.faults import KINDS, Fault
from veyra.transport.http import HttpTransport
from veyra.transport.script import Answer, ScriptedTransport
from veyra.types import Event, Finish, TextDelta, Usage
from veyra.wire.wording import Wording

KEY = "sk-canary-0123456789"
CHAT, RESPONSES, MESSAGES, OLLAMA = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"
GEMINI = "/v1beta/models/m:generateContent"
HELLO = [{"role": "user", "content": "Hi ☀"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    RESPONSES: {"input": "Hi ☀"},
    MESSAGES: {"messages": HELLO, "max_tokens": 9},
    OLLAMA: {"messages": HELLO},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "Hi ☀"}]}]},
}
"""A request of each format, without its model and `stream`."""


async def no_time(seconds: float) -> None:
    """Wait without waiting."""
    await asyncio.sleep(0)


def asked(path: str, *, stream: bool, **fields: object) -> bytes:
    """Return the body of a request."""
    return json.dumps({"model": "m", "stream": stream, **BODIES[path], **fields}).encode()


def place(path: str, *, stream: bool) -> str:
    """Return where a request goes: to stream is said in Gemini's paths."""
    return "/v1beta/models/m:streamGenerateContent?alt=sse" if stream and path == GEMINI else path


async def exchange(server: FaultServer, path: str, body: bytes, **headers: str) -> bytes:
    """Send a request over a connection of its own and return all the bytes that come back."""
    fields = {"content-length": str(len(body)), "connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


# --------------------------------------------------------------------------------------------- who answers


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_backend_answers_in_every_format(path: str, stream: bool) -> None:
    """The words of the backend come back in each format, and it was asked what the request says."""
    backend = MockBackend("Hello ☀")
    async with FaultServer(backend) as server:
        answer = await exchange(server, place(path, stream=stream), asked(path, stream=stream))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert "☀".encode() in answer
    (request,) = backend.calls
    assert (request.model, request.stream, request.messages[-1].text) == ("m", stream, "Hi ☀")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_backend_is_an_answer(path: str, stream: bool) -> None:
    """What a backend raises before its first event is told with its status; after it, inside the answer."""
    error = RateLimitError("too fast", retry_after=2.0)
    async with FaultServer(Scripted([error])) as server:
        answer = await exchange(server, place(path, stream=stream), asked(path, stream=stream))
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests")
    assert b"retry-after: 2\r\n" in answer
    async with FaultServer(Scripted([TextDelta("So far"), QuotaError("no credit")])) as server:
        answer = await exchange(server, place(path, stream=stream), asked(path, stream=stream))
    assert answer.startswith(b"HTTP/1.1 200 OK" if stream else b"HTTP/1.1 4")
    assert (b"So far" in answer) is stream
    assert b"no credit" in answer


async def test_an_answer_that_does_not_fit_its_schema_ends_as_ever() -> None:
    """A model that does not keep to the schema of a request gives a whole answer, as a provider's would."""
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    async with FaultServer(Scripted([TextDelta("no JSON"), Finish(reason="stop")])) as server:
        for stream in (False, True):
            answer = await exchange(server, CHAT, asked(CHAT, stream=stream, response_format=schema))
            assert b"no JSON" in answer
            assert b'"finish_reason":"stop"' in answer


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "load"),
        ({"messages": []}, "load"),
        ({"messages": [], "stream": False}, "load"),
        ({"keep_alive": "10m"}, "load"),
        ({"keep_alive": 0}, "unload"),
        ({"keep_alive": 0.0}, "unload"),
        ({"keep_alive": "0s"}, "unload"),
    ],
)
async def test_ollama_loads_a_model_where_nothing_is_asked(fields: dict[str, Any], word: str) -> None:
    """Without a message Ollama's server loads the model, or unloads it, and says so in one object; nobody is asked."""
    backend = MockBackend()
    async with FaultServer(backend) as server:
        answer = await exchange(server, OLLAMA, json.dumps({"model": "m", **fields}).encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"content-type: application/json; charset=utf-8" in head
    told = json.loads(body)
    assert (told["done"], told["done_reason"], told["message"]) == (True, word, {"role": "assistant", "content": ""})
    assert "eval_count" not in told
    backend.assert_not_called()


async def test_a_request_without_a_turn_is_answered() -> None:
    """System text alone is a request in OpenAI's formats, as is an answer that goes on from an earlier one."""
    backend = MockBackend()
    async with FaultServer(backend) as server:
        alone = {"model": "m", "messages": [{"role": "system", "content": "Say hello."}]}
        on = {"model": "m", "previous_response_id": "resp_1"}
        for path, body in ((CHAT, alone), (RESPONSES, on)):
            assert b"no model was asked" in await exchange(server, path, json.dumps(body).encode())
    backend.assert_called(2)


async def test_a_tape_answers_instead() -> None:
    """A transport without a network can answer: its bytes go out as they are, its cuts and its misses are told."""
    pair = PAIRS["openai_chat"]
    head, pieces = pair.written([TextDelta("From tape"), Finish(reason="stop")], stream=True)
    whole = Answer(headers={**head.headers, "content-length": "7"}, chunks=pieces)
    tape = ScriptedTransport([whole, whole.cut_after(50), whole, whole])
    async with FaultServer(tape=tape, faults="ok; ok; truncate@event=1; error@event=1; ok") as server:
        transport = HttpTransport()
        url = f"{server.url}{CHAT}?v=1"
        assert (await ask(transport, post(url, asked(CHAT, stream=True))))[1] == b"".join(pieces)
        arrived, error = await ask_in_pieces(transport, post(url))
        assert (arrived, type(error).__name__) == (b"".join(pieces)[:50], "IncompleteStreamError")
        truncated = (await ask(transport, post(url)))[1]
        assert b"".join(pieces).startswith(truncated)
        assert truncated.count(b"\n\n") == 1
        assert b"server_is_overloaded" in (await ask(transport, post(url, asked(CHAT, stream=True))))[1]
        await transport.aclose()
    assert [request.url.partition("://")[2] for request in tape.sent] == [f"tape{CHAT}?v=1"] * 4
    assert tape.sent[0].body == asked(CHAT, stream=True)


async def test_what_a_tape_refuses_is_an_answer() -> None:
    """An error of ours that opening gives is told in the vendor's form."""
    tape = ScriptedTransport(faults.parse_script("refuse; overloaded"))
    async with FaultServer(tape=tape) as server:
        answer = await exchange(server, MESSAGES, asked(MESSAGES, stream=False))
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"the script refused it" in answer
        assert b'"type":"error"' in answer
        assert (await exchange(server, MESSAGES, asked(MESSAGES, stream=False))).startswith(b"HTTP/1.1 400 ")


def test_a_backend_and_a_tape_are_too_many() -> None:
    """There is one place where answers come from."""
    with pytest.raises(InvalidRequestError, match="not from both"):
        FaultServer(MockBackend(), tape=ScriptedTransport([]))


@pytest.mark.parametrize(
    ("target", "begins"),
    [
        ("/v1/models/m:generateContent", b"{"),
        ("/v1alpha/models/m:streamGenerateContent?alt=sse", b"data: {"),
        ("/v1beta/models/m:streamGenerateContent", b"[{"),
        ("/v1beta/models/m:streamGenerateContent?alt=json", b"[{"),
    ],
)
async def test_gemini_answers_as_its_path_says(target: str, begins: bytes) -> None:
    """In every version of the API: whole, as server-sent events, or as an array; without a body's model, by the path's."""
    backend = MockBackend("Hello ☀")
    async with FaultServer(backend) as server:
        transport = HttpTransport()
        head, body = await ask(transport, post(server.url + target, json.dumps(BODIES[GEMINI]).encode()))
        await transport.aclose()
    assert (head.status, body.startswith(begins)) == (200, True)
    assert "☀".encode() in body
    assert backend.last.model == "m"


async def test_a_key_in_a_query_is_taken_and_not_kept() -> None:
    """`?key=`, as some of Gemini's clients send it, is answered; the journal has it nowhere, and neither gets a tape."""
    sun = "AIza%20canary%2F0123"
    target = f"/v1/models/m:streamGenerateContent?key={sun}&alt=sse"
    body = json.dumps({**BODIES[GEMINI], "x_key": "AIza canary/0123"}).encode()
    async with FaultServer() as server:
        assert b"200 OK" in await exchange(server, target, body, x_note=sun)
        assert b"200 OK" in await exchange(server, "/v1beta/models/m:generateContent?key=k", body)
        first, second = server.journal
    assert first.path == "/v1/models/m:streamGenerateContent?key=***&alt=sse"
    assert second.path == "/v1beta/models/m:generateContent?key=***"
    assert b"canary" not in first.body
    assert "canary" not in repr(first)
    tape = ScriptedTransport([Answer(headers={"content-type": "application/json"}, chunks=[b"{}"])] * 2)
    async with FaultServer(tape=tape) as server:
        await exchange(server, target, body)
        await exchange(server, GEMINI + "?key=k", body)
    assert [request.url for request in tape.sent] == [
        "http://tape/v1/models/m:streamGenerateContent?alt=sse",
        f"http://tape{GEMINI}",
    ]


async def test_a_caller_that_leaves_ends_the_answer() -> None:
    """The backend is told to stop as soon as the caller hangs up, and the journal says so."""
    backend = Scripted([TextDelta("Hello")], then_wait=True)
    told: list[Seen] = []
    async with FaultServer(backend, told=told.append) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = asked(CHAT, stream=True)
        writer.write(f"POST {CHAT} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"Hello")
        assert server.journal[0].ended is None
        writer.close()
        await backend.stopped.wait()
        while not told:
            await asyncio.sleep(0)
    assert told == list(server.journal)
    assert (told[0].status, told[0].ended) == (200, "left")


# ------------------------------------------------------------------------------------------ what goes wrong


async def test_a_script_goes_on_by_calls_alone() -> None:
    """Each call of a model takes the next step; lists and wrong paths take none; after the end nothing goes wrong."""
    async with FaultServer(faults="overloaded; ok; failure@status=401") as server:
        urls = [f"{server.url}/api/version", f"{server.url}/v1/nothing"]
        transport = HttpTransport()
        statuses: list[int] = []
        for _ in range(4):
            for url in urls:
                await ask(transport, post(url))
            statuses.append(
                (await ask(transport, post(server.openai_url + "/chat/completions", asked(CHAT, stream=False))))[
                    0
                ].status
            )
        await transport.aclose()
    assert statuses == [529, 200, 401, 200]
    assert [seen.fault for seen in server.journal if seen.path == CHAT] == [
        "overloaded",
        None,
        "failure@status=401",
        None,
    ]


async def test_a_request_asks_for_its_own_fault() -> None:
    """The header goes before the script, which then waits; `ok` is no fault; any path takes it; a wrong one is told."""
    async with FaultServer(faults="overloaded") as server:
        first = await exchange(server, CHAT, asked(CHAT, stream=False), x_veyra_fault="ok")
        second = await exchange(server, CHAT, asked(CHAT, stream=False), x_veyra_fault="failure@status=403")
        third = await exchange(server, "/api/show", b'{"model":"m"}', x_veyra_fault="html-502")
        wrong = await exchange(server, MESSAGES, b"", x_veyra_fault="cot@event=1")
        last = await exchange(server, CHAT, asked(CHAT, stream=False))
    statuses = [answer.split(b" ")[1] for answer in (first, second, third, wrong, last)]
    assert statuses == [b"200", b"403", b"502", b"400", b"529"]
    assert b"fault 'cot': there is none; there are cut" in wrong
    assert b'"type":"error"' in wrong


async def test_a_plan_is_a_script_without_end() -> None:
    """A plan drawn from a seed gives each call its step."""
    steps = faults.plan(seed=3, rate=0.5, choices=[faults.Overloaded()])
    async with FaultServer(faults=steps) as server:
        statuses = [(await exchange(server, CHAT, asked(CHAT, stream=False)))[9:12] == b"529" for _ in range(20)]
    again = faults.plan(seed=3, rate=0.5, choices=[faults.Overloaded()])
    assert statuses == [next(again) is not None for _ in range(20)]


async def test_a_fault_in_the_place_of_an_answer_asks_nobody() -> None:
    """Where the model would not have been asked, the backend is not."""
    backend = MockBackend("Hello")
    async with FaultServer(backend, faults="rate-limit@date=30; refuse; reset", now=lambda: 1_700_000_000.0) as server:
        limited = await exchange(server, CHAT, asked(CHAT, stream=True))
        assert b"retry-after: Tue, 14 Nov 2023 22:13:50 GMT\r\n" in limited
        assert await exchange(server, CHAT, asked(CHAT, stream=True)) == b"reset"
        assert await exchange(server, CHAT, asked(CHAT, stream=True)) == b"reset"
    assert backend.calls == []
    assert [seen.ended for seen in server.journal] == ["answered", "broken", "broken"]


async def test_waiting_is_in_the_hands_of_the_caller() -> None:
    """A slow head and the pauses of what repeats go through `sleep`, which may let no time pass."""
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    async with FaultServer(faults="slow-head@seconds=90; ping-only@every=15", sleep=noted) as server:
        assert b"200 OK" in await exchange(server, CHAT, asked(CHAT, stream=False))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = asked(MESSAGES, stream=True)
        writer.write(f"POST {MESSAGES} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(3):
            await reader.readuntil(b"event: ping")
        writer.close()
    assert waits[:4] == [90.0, 15.0, 15.0, 15.0]


@pytest.mark.parametrize("fault", ["stall", "no-connection", "stall@event=1", "ping-only", "endless"])
async def test_what_never_ends_ends_with_the_server(fault: str) -> None:
    """Answers under way are ended when the context is left, with nothing left behind."""
    async with FaultServer(faults=fault) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = asked(CHAT, stream=True)
        writer.write(f"POST {CHAT} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        while not server.journal:
            await asyncio.sleep(0)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        while True:
            await reader.readuntil(b"\n")
    writer.close()
    assert server.journal[0].ended == "left"


async def test_an_address_refuses() -> None:
    """While the server runs there is an address at which every connection is refused; outside there is none."""
    server = FaultServer()
    with pytest.raises(InvalidRequestError, match="inside its context only"):
        _ = server.refusing_url
    async with server:
        transport = HttpTransport()
        _, error = await ask_in_pieces(transport, post(server.refusing_url))
        await transport.aclose()
    assert isinstance(error, ConnectionFailedError)
    assert not error.ambiguous


# ------------------------------------------------------------------------------------- the same everywhere

PLAYED = [
    *(kind.name for kind in KINDS if kind not in {faults.Cut, faults.Truncate}),
    *("cut@event=2", "cut@byte=40", "truncate@event=2", "truncate@byte=40", "split-utf8@seed=7"),
    *(
        "invalid-json@event=3",
        "rate-limit@after=2",
        "rate-limit@ms=300",
        "rate-limit@date=30",
        "error@event=2,kind=server",
    ),
]
"""Faults of every kind."""
FOR_EVER = {"stall", "no-connection", "ping-only", "endless"}

WRITTEN = "f55c51bd4855bf7b3fd964d8921db0e8780291ad03253448d243077d49b55639"
"""SHA-256 over all bytes that the server sends for these, in every format, streamed and not."""


async def test_the_same_seed_gives_the_same_bytes() -> None:
    """Every fault that ends, in every format, gives the same bytes on every run and machine, from the first to the last."""
    digest = sha256()
    backend = MockBackend("It is ☀ outside, I am told.")
    async with FaultServer(backend, now=lambda: 1_700_000_000.0, sleep=no_time) as server:
        for path in BODIES:
            for stream in (False, True):
                for fault in ["ok", *(fault for fault in PLAYED if fault not in FOR_EVER)]:
                    sent = await exchange(
                        server, place(path, stream=stream), asked(path, stream=stream), x_veyra_fault=fault
                    )
                    digest.update(sent)
    assert digest.hexdigest() == WRITTEN


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_the_mocks_script_is_played_on_the_wire(path: str, stream: bool) -> None:
    """A reply with a fault, and a mock with faults, put the same bytes on the wire as the server's own fault does."""
    text = "It is ☀ outside, I am told."
    ending = [fault for fault in PLAYED if fault not in FOR_EVER]
    own, replies, steps = (
        MockBackend(text),
        MockBackend([MockReply(text, fault=faults.parse(fault)) for fault in ending]),
        MockBackend(text, faults="\n".join(ending)),
    )
    came: list[list[bytes]] = []
    for backend, script in ((own, "\n".join(ending)), (replies, ""), (steps, "")):
        async with FaultServer(backend, faults=script, now=lambda: 1_700_000_000.0, sleep=no_time) as server:
            came.append(
                [await exchange(server, place(path, stream=stream), asked(path, stream=stream)) for _ in ending]
            )
            assert [seen.fault for seen in server.journal] == ending
            assert {seen.ended for seen in server.journal} == {"answered", "broken"}
    assert dict(zip(ending, came[1], strict=True)) == dict(zip(ending, came[0], strict=True))
    assert came[2] == came[1]


async def test_the_servers_own_fault_goes_before_the_mocks() -> None:
    """Where a request asks for a fault itself, the reply's is not played; a fault that never ends waits, as ever."""
    mock = MockBackend(MockReply("Hello", fault=faults.Stall()))
    async with FaultServer(mock) as server:
        assert b"529" in await exchange(server, CHAT, asked(CHAT, stream=True), x_veyra_fault="overloaded")
        cut = await exchange(server, CHAT, asked(CHAT, stream=True), x_veyra_fault="cut@event=1")
        assert cut.startswith(b"HTTP/1.1 200")
        waiting = asyncio.create_task(exchange(server, CHAT, asked(CHAT, stream=True)))
        while len(server.journal) < 3 or server.journal[2].fault is None:
            await asyncio.sleep(0)
    await waiting
    assert [(seen.fault, seen.ended) for seen in server.journal] == [
        ("overloaded", "answered"),
        ("cut@event=1", "broken"),
        ("stall", "left"),
    ]


APIS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": ("openai", {"api": "chat"}),
    "openai_responses": ("openai", {"api": "responses"}),
    "anthropic": ("anthropic", {}),
    "ollama": ("ollama", {}),
    "gemini": ("gemini", {}),
}
"""The backend of each dialect."""

EVENTS: list[Event] = [
    TextDelta("It is "),
    TextDelta("☀ outside"),
    Finish(reason="stop", usage=Usage(input_total=3, output_total=4)),
]
OVER_HTTP = ["ok", *(f for f in PLAYED if f not in {"refuse", "no-connection", "endless"}), "endless@every=1"]
"""Faults that do the same over HTTP as in process; a connection that stands cannot be refused any more."""


async def outcomes(dialect: str, steps: Sequence[str], *, stream: bool, **options: Any) -> list[object]:
    """Ask a backend of ours once for each step, and return what came of it."""
    results: list[object] = []
    name, api = APIS[dialect]
    async with get_backend(name, model="m", api_key=KEY, audit="memory", **api, **options) as backend:
        for _ in steps:
            try:
                if stream:
                    async with backend.stream("Hi") as reply:
                        async for _ in reply:
                            pass
                    response = reply.response
                else:
                    response = await backend.generate("Hi")
                results.append((response.content, response.finish_reason))
            except ProviderError as error:
                results.append((type(error).__name__, error.status, error.ambiguous, error.retry_after, error.partial))
    return results


@pytest.mark.parametrize("dialect", APIS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_script_does_the_same_in_process_and_over_http(dialect: str, stream: bool) -> None:
    """The same faults bring a backend of ours to the same outcomes over the fake transport and over the server."""
    pair = PAIRS[dialect]
    head, pieces = pair.written(EVENTS, stream=stream)
    now = 1_700_000_000.0
    script = faults.parse_script("\n".join(OVER_HTTP))

    async def in_process() -> list[object]:
        form = Wording(pair.server, request_id="req_1", encoder=pair.encoder(stream=stream), streamed=stream)
        answer = Answer(status=head.status, headers=head.headers, chunks=pieces)
        transport = ScriptedTransport(script, answer=answer, form=form, now=now)
        return await outcomes(dialect, OVER_HTTP, stream=stream, transport=transport)

    async def over_http() -> list[object]:
        async with FaultServer(Scripted(EVENTS), faults=script, now=lambda: now) as server:
            url = server.openai_url if dialect.startswith("openai") else server.url
            return await outcomes(dialect, OVER_HTTP, stream=stream, base_url=url)

    expected = virtual.run(in_process())
    assert dict(zip(OVER_HTTP, virtual.run(over_http()), strict=True)) == dict(zip(OVER_HTTP, expected, strict=True))
    assert len({repr(result) for result in expected}) > 8


# -------------------------------------------------------------------------------------------- what it saw


async def test_the_journal_tells_what_was_asked() -> None:
    """Each request is there with method, path, headers, body, fault and status; over HTTP it is told the same."""
    async with FaultServer(faults="ok; overloaded") as server:
        await exchange(server, f"{CHAT}?a=b", asked(CHAT, stream=False), X_Other="1")
        await exchange(server, MESSAGES, asked(MESSAGES, stream=False))
        await exchange(server, "/nowhere", b"\xff no JSON")
        first, second, third = server.journal
        told = json.loads(await asyncio.to_thread(_get, f"{server.url}/_veyra/journal"))
    assert (first.number, first.method, first.path, first.fault, first.status) == (1, "POST", f"{CHAT}?a=b", None, 200)
    assert first.headers["x-other"] == "1"
    assert first.json["messages"] == HELLO
    assert (second.fault, second.status, second.ended) == ("overloaded", 529, "answered")
    assert (third.status, third.record()["body"]) == (404, "\ufffd no JSON")
    with pytest.raises(ValueError, match="utf-8"):
        _ = third.json
    assert told == [seen.record() for seen in (first, second, third)]


def _get(url: str) -> bytes:
    with urlopen(url) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("authorization", f"Bearer {KEY}", "Bearer ***"),
        ("Authorization", KEY, "***"),
        ("x-api-key", KEY, "***"),
        ("api-key", KEY, "***"),
        ("x-goog-api-key", KEY, "***"),
        ("cookie", f"session={KEY}", "***"),
        ("x-auth-token", KEY, "***"),
    ],
)
async def test_no_key_is_in_the_journal(name: str, value: str, shown: str) -> None:
    """A key is masked in its header, and wherever else in the request it turns up."""
    told: list[Seen] = []
    async with FaultServer(told=told.append) as server:
        key = value.removeprefix("Bearer ")
        body = asked(CHAT, stream=False, user=key)
        await exchange(server, f"{CHAT}?key={key}", body, **{name: value, "x-copy": f"<{key}>"})
        (seen,) = server.journal
        over_http = await asyncio.to_thread(_get, f"{server.url}/_veyra/journal")
    assert seen.headers[name.lower()] == shown
    assert KEY not in repr(seen) + repr(told) + over_http.decode()
    assert seen.headers["x-copy"] == "<***>"


async def test_the_journal_is_bounded() -> None:
    """Of a long body the first part is kept."""
    body = asked(CHAT, stream=False, user="x" * 2_000_000)
    async with FaultServer() as server:
        await exchange(server, CHAT, body)
    assert server.journal[0].body == body[: 1024 * 1024]


def test_old_entries_make_room() -> None:
    """The last entries are kept, as many as may be, fewer of large ones; what comes late for one that is gone is dropped."""
    told: list[Seen] = []
    journal = Journal(told.append, entries=3, kept=100)
    for size in (1, 2, 3, 4):
        journal.open(Received("POST", "/", {}, bytes(size)), None)
    journal.note(1, status=200, ended="answered")
    journal.close(1)
    journal.note(4, status=200, ended="answered")
    assert [(seen.number, seen.ended) for seen in journal()] == [(2, None), (3, None), (4, "answered")]
    journal.open(Received("POST", "/", {}, bytes(94)), None)
    assert [seen.number for seen in journal()] == [4, 5]
    journal.close(5)
    assert [(seen.number, seen.ended) for seen in told] == [(5, "left")]


# ------------------------------------------------------------------------------------------------ contexts


def test_code_that_blocks_uses_a_thread() -> None:
    """In a plain `with` the server runs in a thread, which is gone afterwards."""
    before = threading.active_count()
    with FaultServer(MockBackend("Hello")) as server:
        request = UrlRequest(server.openai_url + "/chat/completions", data=asked(CHAT, stream=False))
        with urlopen(request) as answer:
            assert json.loads(answer.read())["choices"][0]["message"]["content"] == "Hello"
        assert repr(server) == f"<fault server at {server.url}, 1 requests>"
    assert threading.active_count() == before


def test_a_port_that_is_taken_is_an_error() -> None:
    """Where it cannot listen, entering says so, in a thread as on a loop."""

    async def enter(port: int) -> None:
        async with FaultServer(port=port):
            raise AssertionError

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), FaultServer(port=port):
            raise AssertionError
        with pytest.raises(OSError, match="in use"):
            asyncio.run(enter(port))


async def test_other_addresses_are_served_where_asked() -> None:
    """IPv6 stands in brackets in a URL."""
    async with FaultServer(host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        transport = HttpTransport()
        assert (await ask(transport, post(f"{server.url}/api/embed", b'{"model":"m","input":"x"}')))[0].status == 200
        await transport.aclose()


def test_steps_that_are_no_faults_are_refused() -> None:
    """A script with a mistake is refused before anything is served."""
    with pytest.raises(InvalidRequestError, match=r"one of byte and event \(line 2\)"):
        FaultServer(faults="ok\ncut")


@pytest.mark.parametrize("fault", [faults.Cut(event=1), faults.Overloaded()])
async def test_values_are_steps_as_texts_are(fault: Fault) -> None:
    """Steps may be given as values."""
    async with FaultServer(faults=[None, fault]) as server:
        await exchange(server, CHAT, asked(CHAT, stream=True))
        await exchange(server, CHAT, asked(CHAT, stream=True))
    assert [seen.fault for seen in server.journal] == [None, str(fault)]
