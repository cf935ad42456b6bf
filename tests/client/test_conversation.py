"""Conversations: what is asked with each prompt, what is kept of it and when, and what a file gives back."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.stalling import Stalling
from veyra import AuditLog, Client, Conversation, Message, ModelResponse, get_backend
from veyra.client.conversation_file import Saved, read, write
from veyra.errors import InvalidRequestError, ServerError
from veyra.models.gate import Gate
from veyra.models.mock import MockBackend
from veyra.types import Finish, Media, Opaque, Part, Reasoning, Text, ToolCall, ToolResult


def gate(backend: MockBackend | Stalling, log: AuditLog | None = None) -> Gate:
    return Gate(backend, log or AuditLog.memory())


def roles(chat: Conversation) -> list[str]:
    return [message.role for message in chat.messages]


# ------------------------------------------------------------------------------------------------- asking


async def test_each_prompt_is_asked_with_all_that_was_said() -> None:
    """The second prompt goes out after the first and its answer, with the system text and the conversation's options."""
    mock = MockBackend(["one", "two"])
    chat = Conversation(gate(mock), system="Be brief.", max_tokens=7)
    assert (await chat.send("first")).content == "one"
    assert (await chat.send("second", max_tokens=9)).content == "two"
    assert [message.text for message in mock.last.messages] == ["first", "one", "second"]
    assert (mock.last.system, mock.last.max_tokens, mock.calls[0].max_tokens) == ("Be brief.", 9, 7)
    assert [message.text for message in chat.messages] == ["first", "one", "second", "two"]


async def test_a_streamed_turn_is_kept_when_finish_is_handed_out() -> None:
    """Before `Finish` the conversation is as it was; with it the turn is kept and the response there, for client and backend."""
    for asker in (gate(MockBackend("one two")), Client(MockBackend("one two"))):
        chat = Conversation(asker)
        async with chat.stream("Hi") as answered:
            async for event in answered:
                assert roles(chat) == (["user", "assistant"] if isinstance(event, Finish) else [])
                if isinstance(event, Finish):
                    assert answered.response.content == "one two"
        assert chat.messages[-1].text == "one two"


async def test_what_was_appended_is_asked_without_a_prompt() -> None:
    """`append` asks nobody; `send()` asks with what is there; several messages can be one prompt."""
    mock = MockBackend(["one", "two"])
    chat = Conversation(gate(mock), messages=[Message("user", "a")])
    chat.append(Message("assistant", "b"), Message("user", "c"))
    assert mock.calls == []
    await chat.send()
    await chat.send([Message("user", "d"), Message("user", "e")])
    assert [message.text for message in mock.last.messages] == ["a", "b", "c", "one", "d", "e"]


async def test_an_option_given_as_none_is_taken_away_for_one_prompt() -> None:
    """None in `send` means that the conversation's option is not given."""
    mock = MockBackend()
    chat = Conversation(gate(mock), system="Be brief.", temperature=0.5)
    await chat.send("Hi", temperature=None, system=None)  # type: ignore[arg-type]  # not given, as everywhere
    assert (mock.last.temperature, mock.last.system) == (None, None)
    await chat.send("Hi")
    assert (mock.last.temperature, mock.last.system) == (0.5, "Be brief.")


async def test_the_providers_blocks_go_back() -> None:
    """What the provider signed is part of the turn that is sent with the next prompt."""
    block = Opaque("anthropic", b'{"type":"thinking","signature":"x"}')
    signed = ModelResponse("one", "m", "mock", 0.0, 1, 1, None, finish_reason="stop", parts=(block,))
    mock = MockBackend([signed, "two"])
    chat = Conversation(gate(mock))
    await chat.send("first")
    await chat.send("second")
    assert mock.last.messages[1].native == (block,)


async def test_an_answer_without_anything_in_it_adds_no_turn() -> None:
    """An empty answer leaves the prompt as the last message: an empty turn would be refused when it is sent back."""
    empty = ModelResponse("", "m", "mock", 0.0, 1, 0, None, finish_reason="content_filter")
    chat = Conversation(gate(MockBackend([empty, "two"])))
    await chat.send("first")
    assert roles(chat) == ["user"]


async def test_a_clients_calls_are_made_with_the_conversations_id() -> None:
    """All prompts of a conversation go to the target that its id leads to, where the client routes."""
    mocks = [MockBackend(model=f"m{number}") for number in range(4)]
    client = Client(*mocks, routing="weighted", audit="memory")
    for number in range(8):
        chat = Conversation(client, id=f"chat-{number}")
        asked = {(await chat.send("Hi")).model for _ in range(4)}
        assert len(asked) == 1
    assert len([mock for mock in mocks if mock.calls]) > 1


# --------------------------------------------------------------------------------- what leaves it as it was


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_prompt_that_fails_leaves_it_as_it_was(*, stream: bool) -> None:
    """After an error the conversation has neither prompt nor answer, and the prompt can be sent again."""
    chat = Conversation(gate(MockBackend(["one", ServerError("down"), "two"])))
    await chat.send("first")
    before = chat.messages
    with pytest.raises(ServerError):
        if stream:
            async with chat.stream("second") as answered:
                async for _ in answered:
                    pass
        else:
            await chat.send("second")
    assert chat.messages is before
    assert (await chat.send("second")).content == "two"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_prompt_that_is_cancelled_leaves_it_as_it_was(*, stream: bool) -> None:
    """A cancelled task, whole or in the middle of a stream, leaves nothing in the conversation; the record says cancelled."""
    log = AuditLog.memory()
    backend = Stalling()
    chat = Conversation(gate(backend, log))

    async def ask() -> None:
        if stream:
            async with chat.stream("stall") as answered:
                async for _ in answered:
                    pass
        else:
            await chat.send("stall")

    task = asyncio.create_task(ask())
    while not backend.is_stalled.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chat.messages == ()
    assert [row.status for row in log.attempts()] == ["cancelled"]
    await chat.send("Hi")
    assert roles(chat) == ["user", "assistant"]


async def test_a_reply_that_is_left_early_leaves_it_as_it_was() -> None:
    """An answer that is not read to its end is no turn."""
    chat = Conversation(gate(Stalling()))
    async with chat.stream("Hi") as answered:
        async for _ in answered:
            break
    assert chat.messages == ()
    async with chat.stream("Hi"):
        pass
    assert chat.messages == ()


async def test_one_prompt_at_a_time() -> None:
    """While an answer is on its way a second prompt, and an appended message, are refused; the first is not disturbed."""
    chat = Conversation(gate(Stalling()))
    async with chat.stream("Hi") as answered:
        async for event in answered:
            if isinstance(event, Finish):
                continue
            with pytest.raises(InvalidRequestError, match="one at a time"):
                await chat.send("Too soon")
            with pytest.raises(InvalidRequestError, match="one at a time"):
                chat.append(Message("user", "Too soon"))
    assert roles(chat) == ["user", "assistant"]


async def test_a_stream_that_was_overtaken_is_refused() -> None:
    """A reply that is read only after the conversation went on would undo a turn: it is refused before anything is sent."""
    log = AuditLog.memory()
    chat = Conversation(gate(Stalling(), log))
    late = chat.stream("late")
    await chat.send("Hi")
    async with late:
        with pytest.raises(InvalidRequestError, match="gone on"):
            async for _ in late:
                pass
    assert len(list(log.attempts())) == 1
    assert len(chat.messages) == 2


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"id": ""}, "id is a non-empty str"),
        ({"id": 3}, "id is a non-empty str"),
        ({"system": 3}, "system text is a str, not int"),
        ({"messages": ["Hi"]}, "made of Message, not of str"),
    ],
)
def test_wrong_values_are_named(given: dict[str, Any], complaint: str) -> None:
    """What a conversation cannot be made with is said when it is made."""
    with pytest.raises(InvalidRequestError, match=complaint):
        Conversation(get_backend("mock"), **given)


@pytest.mark.parametrize("asker", ["mock", None, MockBackend()], ids=["str", "None", "without a gate"])
def test_who_cannot_be_asked_on_record_is_refused(asker: Any) -> None:
    """A conversation needs a client or what `get_backend` returns, so that its calls are on record."""
    with pytest.raises(InvalidRequestError, match="needs a Client, or what get_backend"):
        Conversation(asker)


@pytest.mark.parametrize("prompt", ["", "  ", b"Hi", 3, ["Hi"]])
async def test_a_wrong_prompt_is_refused_at_once(prompt: Any) -> None:
    """A prompt that is empty or of another type raises before anything is asked, streamed or not."""
    chat = Conversation(gate(mock := MockBackend()))
    with pytest.raises(InvalidRequestError, match="prompt"):
        await chat.send(prompt)
    with pytest.raises(InvalidRequestError, match="prompt"):
        chat.stream(prompt)
    with pytest.raises(InvalidRequestError, match="option"):
        chat.stream("Hi", max_tokns=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert mock.calls == []


# ------------------------------------------------------------------------------------------------ on disk

_texts = st.text(st.characters(), max_size=20)  # with lone surrogates, which models do produce
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)
_opaque = st.builds(Opaque, _texts, st.binary(max_size=30))
_parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, _texts),
    st.builds(Reasoning, _texts, st.none() | _texts),
    st.builds(ToolCall, _texts, _texts, st.none() | st.dictionaries(_texts, _json, max_size=3), _texts),
    st.builds(ToolResult, _texts, _texts, st.none() | _texts, st.booleans()),
    st.builds(
        Media,
        kind=st.sampled_from(["image", "audio", "document"]),
        media_type=st.none() | _texts,
        data=st.none() | st.binary(max_size=30),
        url=st.none() | _texts,
        file_id=st.none() | _texts,
        name=st.none() | _texts,
    ),
    _opaque,
)
_messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    _texts | st.lists(_parts, max_size=4),
    st.lists(_opaque, max_size=2).map(tuple),
)


@given(saved=st.builds(Saved, st.text(min_size=1), st.none() | _texts, st.lists(_messages, max_size=4).map(tuple)))
def test_a_file_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, saved: Saved) -> None:
    """Whatever a conversation holds, parts, bytes, native blocks and strange text, comes back equal."""
    path = tmp_path_factory.getbasetemp() / "chat.json"
    write(path, saved)
    assert read(path) == saved
    assert path.read_bytes().isascii()


async def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Saved and loaded, it has its id, system text and messages, asks with them, and takes options anew."""
    path = tmp_path / "chat.json"
    mock = MockBackend(["one", "two"])
    chat = Conversation(gate(mock), system="Be brief.", max_tokens=7)
    await chat.send("first")
    chat.save(path)
    loaded = Conversation.load(path, gate(mock), max_tokens=9)
    assert (loaded.id, loaded.system, loaded.messages) == (chat.id, "Be brief.", chat.messages)
    await loaded.send("second")
    assert (mock.last.system, mock.last.max_tokens, len(mock.last.messages)) == ("Be brief.", 9, 3)
    assert Conversation.load(path, gate(mock), system="Be long.").system == "Be long."


def test_a_file_is_the_users_own_and_replaced_in_one_step(tmp_path: Path) -> None:
    """Mode 0600, nothing beside it is left, and what was there is replaced."""
    path = tmp_path / "chat.json"
    path.write_text("something else")
    Conversation(get_backend("mock"), messages=[Message("user", "Hi")]).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["chat.json"]  # noqa: PTH208
    assert read(path).messages == (Message("user", "Hi"),)


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    """Arguments without a JSON form, put in by hand, are an error, and the file stays as it was."""
    path = tmp_path / "chat.json"
    chat = Conversation(get_backend("mock"), messages=[Message("user", "Hi")])
    chat.save(path)
    before = path.read_bytes()
    for strange in (object(), float("nan")):
        chat.append(Message("assistant", [ToolCall("1", "f", {"x": strange})]))
        with pytest.raises(InvalidRequestError, match="cannot be saved"):
            chat.save(path)
    assert path.read_bytes() == before
    with pytest.raises(InvalidRequestError, match="cannot be written: No such file"):
        Conversation(get_backend("mock")).save(tmp_path / "missing" / "chat.json")


def _good() -> dict[str, Any]:
    part = {"type": "text", "text": "Hi"}
    messages = [{"role": "user", "content": [part], "native": []}]
    return {"veyra": "conversation", "version": 1, "id": "x", "system": None, "messages": messages}


def _changed(path: str, value: object) -> bytes:
    """Return a good file with one value replaced, or taken away where it is `...`."""
    whole: Any = _good()
    *steps, last = path.split(".")
    inner = whole
    for step in steps:
        inner = inner[int(step) if step.isdigit() else step]
    if value is ...:
        del inner[last]
    else:
        inner[int(last) if last.isdigit() else last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "line 1: Expecting value"),
        (b"{", "line 1"),
        (json.dumps(_good()).encode()[:-9], "line 1"),
        (b"[]", r"\$: an object is expected"),
        (b"null", r"\$: an object is expected"),
        ('{"veyra": "Gr\u00fc\u00dfe"}'.encode("latin-1"), "byte 13 is not ASCII"),
        (b"\x00\xff" * 50, "not ASCII"),
        (b"[" * 100_000, "nested too deeply"),
        (_changed("version", 2), "of version 2, and this Veyra reads version 1"),
        (_changed("version", "1"), "of version '1'"),
        (_changed("id", ""), r"\$: the id is empty"),
        (_changed("veyra", "log"), r"\$: .*veyra"),
        (_changed("id", ...), r"\$: the key is missing: 'id'"),
        (_changed("extra", 1), r"\$: there is an unknown key: 'extra'"),
        (_changed("messages", {}), r"\$: .*array"),
        (_changed("messages.0", "Hi"), r"\$\.messages\[0\]: an object is expected"),
        (_changed("messages.0.role", "king"), r"\$\.messages\[0\]: .*'king'"),
        (_changed("messages.0.content", 3), r"\$\.messages\[0\]: .*int"),
        (_changed("messages.0.native", [{"dialect": "x", "raw": "!"}]), r"messages\[0\]\.native\[0\]: .*base64"),
        (
            _changed("messages.0.content.0.type", "smell"),
            r"messages\[0\]\.content\[0\]: its type is one of text, .*'smell'",
        ),
        (_changed("messages.0.content.0.type", ["text"]), "its type is one of text"),
        (_changed("messages.0.content.0.text", 3), r"content\[0\]: .*str"),
        (_changed("messages.0.content.0.text", ...), r"content\[0\]: the key is missing: 'text'"),
        (_changed("messages.0.content.0.colour", "red"), r"content\[0\]: there is an unknown key: 'colour'"),
    ],
)
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, data: bytes, complaint: str) -> None:
    """Whatever stands in the file, the error names the file and the place, and nothing else is raised."""
    path = tmp_path / "chat.json"
    path.write_bytes(data)
    with pytest.raises(InvalidRequestError, match=complaint) as caught:
        Conversation.load(path, get_backend("mock"))
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """A missing file and a directory are named with what the system says of them."""
    with pytest.raises(InvalidRequestError, match="cannot be read: No such file or directory"):
        Conversation.load(tmp_path / "chat.json", get_backend("mock"))
    with pytest.raises(InvalidRequestError, match="cannot be read: Is a directory"):
        Conversation.load(tmp_path, get_backend("mock"))


@given(data=st.binary(max_size=200), place=st.integers(min_value=0, max_value=200))
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int) -> None:
    """Bytes written over a good file give a conversation or an `InvalidRequestError`, never another exception."""
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    good = json.dumps(_good()).encode()
    path.write_bytes(good[:place] + data + good[place + len(data) :])
    try:
        read(path)
    except InvalidRequestError:
        return
