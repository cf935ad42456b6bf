"""Vectors: what the three formats send, what they read, and every recorded answer against a plain reading of its body."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus
from corpus import Row
from veyra.errors import (
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    ServerError,
)
from veyra.models.endpoints import ENDPOINTS
from veyra.transport.base import Head
from veyra.types import EmbedRequest
from veyra.wire.base import Flags
from veyra.wire.gemini import Gemini
from veyra.wire.gemini_embeddings import GeminiEmbeddings
from veyra.wire.ollama import Ollama
from veyra.wire.ollama_embeddings import OllamaEmbeddings
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_embeddings import OpenAIEmbeddings
from veyra.wire.routes import Embedding

OPENAI, OLLAMA, GEMINI = OpenAIEmbeddings(), OllamaEmbeddings(), GeminiEmbeddings()
FORMS: dict[str, Embedding] = {"openai": OPENAI, "ollama": OLLAMA, "gemini": GEMINI}
FLAGS = Flags(provider="test")
OK = Head(200, {})


def sent(form: Embedding, flags: Flags = FLAGS, **asked: Any) -> tuple[str, dict[str, Any]]:
    encoded = form.encode(EmbedRequest(**{"texts": ("a", "b"), "model": "m"} | asked), flags)
    return encoded.path, json.loads(encoded.body)


def openai(*vectors: Any, **more: Any) -> bytes:
    return json.dumps({"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)], **more}).encode()


def single(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


# ---------------------------------------------------------------------------------------------- what is sent


@pytest.mark.parametrize(
    ("form", "flags", "asked", "path", "body"),
    [
        (OPENAI, FLAGS, {}, "/embeddings", {"model": "m", "input": ["a", "b"]}),
        (
            OPENAI,
            Flags(provider="test", vectors="base64"),
            {"dimensions": 8, "extra": {"user": "u"}},
            "/embeddings",
            {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 8, "user": "u"},
        ),
        (OPENAI, Flags(provider="test", vectors="int8"), {}, "/embeddings", {"model": "m", "input": ["a", "b"]}),
        (
            OPENAI,
            Flags(provider="test", vectors="base64"),
            {"extra": {"encoding_format": "float"}},
            "/embeddings",
            {"model": "m", "input": ["a", "b"], "encoding_format": "float"},
        ),
        (OLLAMA, FLAGS, {}, "/api/embed", {"model": "m", "input": ["a", "b"], "truncate": False}),
        (
            OLLAMA,
            FLAGS,
            {"dimensions": 8, "extra": {"truncate": True, "keep_alive": "1h"}},
            "/api/embed",
            {"model": "m", "input": ["a", "b"], "truncate": True, "keep_alive": "1h", "dimensions": 8},
        ),
        (
            GEMINI,
            FLAGS,
            {"dimensions": 8, "extra": {"taskType": "RETRIEVAL_QUERY"}},
            "/v1beta/models/m:batchEmbedContents",
            {
                "requests": [
                    {
                        "model": "models/m",
                        "content": {"role": "user", "parts": [{"text": text}]},
                        "outputDimensionality": 8,
                        "taskType": "RETRIEVAL_QUERY",
                    }
                    for text in ("a", "b")
                ]
            },
        ),
    ],
)
def test_what_is_sent(form: Embedding, flags: Flags, asked: Any, path: str, body: Any) -> None:
    """Each text is asked for, options go where the format has them, and `extra` goes as it is, last."""
    assert sent(form, flags, **asked) == (path, body)


def test_a_long_text_is_not_cut_silently() -> None:
    """Ollama would cut a text to its context; it is told not to, which is reported as applied, unless the caller says."""
    assert OLLAMA.encode(EmbedRequest(texts=("a",), model="m"), FLAGS).applied == {"truncate": False}
    request = EmbedRequest(texts=("a",), model="m", extra={"truncate": True})
    assert OLLAMA.encode(request, FLAGS).applied == {}


def test_what_has_no_json_form_is_refused() -> None:
    """Something in `extra` that JSON cannot say is told before anything is sent."""
    for form in FORMS.values():
        with pytest.raises(InvalidRequestError, match="no JSON form"):
            form.encode(EmbedRequest(texts=("a",), model="m", extra={"x": object()}), FLAGS)


# ---------------------------------------------------------------------------------------------- what is read


def test_numbers_and_base64_are_read_by_what_they_are() -> None:
    """A server that passes over the wish for base64, or answers with it unasked, is understood."""
    found = OPENAI.decode(OK, openai([0.5, 1], single(-0.25, 3)), FLAGS)
    assert found.vectors == ((0.5, 1.0), (-0.25, 3.0))


def test_signed_bytes_are_read_where_the_endpoint_sends_them() -> None:
    """Base64 that stands for signed bytes is not taken for single-precision numbers."""
    written = base64.b64encode(bytes([1, 255, 128, 127])).decode()
    assert OPENAI.decode(OK, openai(written), Flags(provider="p", vectors="int8")).vectors == (
        (1.0, -1.0, -128.0, 127.0),
    )


def test_vectors_are_put_in_the_order_of_their_index() -> None:
    """The order of an answer is its indexes', not its lines'; without any index it is the lines'."""
    body = {"data": [{"index": 1, "embedding": [1]}, {"index": 0, "embedding": [0]}]}
    assert OPENAI.decode(OK, json.dumps(body).encode(), FLAGS).vectors == ((0.0,), (1.0,))
    body = {"data": [{"embedding": [1]}, {"embedding": [0]}]}
    assert OPENAI.decode(OK, json.dumps(body).encode(), FLAGS).vectors == ((1.0,), (0.0,))


@pytest.mark.parametrize("indexes", [(0, 0), (1, 2), (None, 0), (-1, 0)])
def test_indexes_that_do_not_say_which_is_whose_are_malformed(indexes: tuple[int | None, ...]) -> None:
    """A vector is never given to a text that it may not belong to."""
    body = json.dumps({"data": [{"index": index, "embedding": [1]} for index in indexes]}).encode()
    with pytest.raises(MalformedResponseError, match="which text is whose"):
        OPENAI.decode(OK, body, FLAGS)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (OPENAI, b""),
        (OPENAI, b"  \xef\xbb\xbf"),
        (OPENAI, b"{"),
        (OPENAI, b"[]"),
        (OPENAI, b"<html>"),
        (OPENAI, b"{}"),
        (OPENAI, b"\xff"),
        (OPENAI, b"[" * 100_000),
        (OPENAI, openai([])),
        (OPENAI, openai([1], [1, 2])),
        (OPENAI, openai([1, None])),
        (OPENAI, openai(["1"])),
        (OPENAI, openai("AAA")),
        (OPENAI, openai("AAAA")),
        (OPENAI, openai("é!")),
        (OPENAI, openai("")),
        (OPENAI, openai(single(1, math.nan))),
        (OPENAI, openai(single(1, -math.inf))),
        (OPENAI, b'{"data": [{"index": "0", "embedding": [1]}]}'),
        (OLLAMA, b"{}"),
        (OLLAMA, b'{"embeddings": [1]}'),
        (OLLAMA, b'{"embeddings": [[1], []]}'),
        (OLLAMA, b'{"embeddings": [["AAAAAA=="]]}'),
        (GEMINI, b"{}"),
        (GEMINI, b'{"embeddings": [{}]}'),
        (GEMINI, b'{"embeddings": [{"values": [1]}, {"values": [1, 2]}]}'),
    ],
)
def test_what_is_no_answer_is_malformed(form: Embedding, body: bytes) -> None:
    """Anything else than vectors of numbers, all of one length, is an error of ours, with the beginning of the body."""
    with pytest.raises(MalformedResponseError):
        form.decode(OK, body, FLAGS)


@pytest.mark.parametrize(
    ("form", "body", "kind"),
    [
        (OPENAI, {"error": {"message": "busy", "code": "server_is_overloaded"}}, OverloadedError),
        (OLLAMA, {"error": "runner died"}, ServerError),
        (GEMINI, {"error": {"status": "NOT_FOUND", "message": "no"}}, NotFoundError),
    ],
)
def test_an_error_inside_a_success_is_told(form: Embedding, body: Any, kind: type[ProviderError]) -> None:
    """An error that comes with status 200 is the provider's error, by its own words."""
    with pytest.raises(kind):
        form.decode(OK, json.dumps(body).encode(), FLAGS)


def test_unknown_is_not_zero() -> None:
    """Usage and model that are not stated are None."""
    for form, body in (
        (OPENAI, b'{"data": [{"embedding": [1]}]}'),
        (OLLAMA, b'{"embeddings": [[1]]}'),
        (GEMINI, b'{"embeddings": [{"values": [1]}]}'),
        (GEMINI, b'{"embedding": {"values": [1]}}'),
    ):
        found = form.decode(OK, body, FLAGS)
        assert (found.vectors, found.usage.input_total, found.model, found.request_id) == (((1.0,),), None, None, None)


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1)
)
def test_single_precision_is_exact(numbers: list[list[float]]) -> None:
    """Numbers that come as bytes, or as the decimals that Python writes for them, are the same floats."""
    as_bytes = OPENAI.decode(OK, openai(*(single(*vector) for vector in numbers)), FLAGS).vectors
    as_decimals = OPENAI.decode(OK, openai(*numbers), FLAGS).vectors
    assert as_bytes == as_decimals == tuple(map(tuple, numbers))


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_errors_of_ours(body: bytes) -> None:
    """Whatever comes, it is read or it is a `ProviderError`."""
    for form in FORMS.values():
        with suppress(ProviderError):
            form.decode(OK, body, FLAGS)


# ---------------------------------------------------------------------------------------------- recordings

_NOT_OURS = {
    "openai-embeddings-ddfba36ef4": "a report of usage, of another route",
    "vertex-embeddings-c9e2e87b60": "Vertex's `:predict`, a route of its own",
    "vertex-embeddings-dbc44d91a0": "Vertex's `:predict`, a route of its own",
    "vertex-embeddings-9f2959e682": "Vertex's `:predict`, a route of its own",
    "ollama-embeddings-eb95f6af70": "the older `/api/embeddings`, with one vector under another name",
}
"""Recordings of routes that are not asked here, and what they are."""

_DIALECTS = {"openai": OpenAIChat(), "ollama": Ollama(), "gemini": Gemini()}


def _rows() -> list[Row]:
    return corpus.rows("embeddings*", "ollama-embeddings*")


def _form(row: Row) -> str:
    if row["id"].startswith(("ollama-embed-", "ollama-embeddings-")):
        return "ollama"
    return "gemini" if row["provider"] == "gemini" else "openai"


def _flags(row: Row) -> Flags:
    endpoint = ENDPOINTS.get(row["provider"])
    return Flags(provider=row["provider"]) if endpoint is None else endpoint.flags


def _plain(row: Row) -> tuple[list[list[float]], int | None]:
    """Return vectors and tokens by a reading that shares nothing with ours."""
    body = json.loads(corpus.body(row))
    if _form(row) == "ollama":
        return body["embeddings"], body.get("prompt_eval_count")
    if _form(row) == "gemini":
        items = body.get("embeddings") or [body["embedding"]]
        return [item["values"] for item in items], body.get("usageMetadata", {}).get("promptTokenCount")
    vectors = []
    for item in sorted(body["data"], key=lambda item: item.get("index", 0)):
        vector = item["embedding"]
        if isinstance(vector, str):
            data = base64.b64decode(vector)
            code = "b" if row["provider"] == "perplexity" else "f"
            vector = [number for (number,) in struct.iter_unpack(f"<{code}", data)]
        vectors.append(vector)
    return vectors, body.get("usage", {}).get("prompt_tokens")


def test_every_recorded_answer_is_read_as_it_stands() -> None:
    """Vectors, order, tokens and model of every recording are those of a plain reading; errors are errors of ours."""
    counts: Counter[str] = Counter()
    for row in _rows():
        form, flags = FORMS[_form(row)], _flags(row)
        head = Head(row["response"]["status"], corpus.headers(row))
        if row["id"] in _NOT_OURS:
            with pytest.raises(ProviderError):
                form.decode(head, corpus.body(row), flags)
            counts["of another route"] += 1
            continue
        if head.status >= 300:
            error = _DIALECTS[_form(row)].failure(head, corpus.body(row), flags)
            assert type(error) is not ProviderError, row["id"]
            assert error.status == head.status, row["id"]
            counts["errors"] += 1
            continue
        found = form.decode(head, corpus.body(row), flags)
        vectors, tokens = _plain(row)
        assert found.vectors == tuple(tuple(map(float, vector)) for vector in vectors), row["id"]
        assert found.usage.input_total == tokens, row["id"]
        assert found.model == json.loads(corpus.body(row)).get("model"), row["id"]
        asked = ((row["request"] or {}).get("body") or {}).get("input")
        if isinstance(asked, list) and asked and isinstance(asked[0], str):
            assert len(found.vectors) == len(asked), row["id"]
        counts["equal"] += 1
    print(dict(counts), _NOT_OURS)
    assert sum(counts.values()) == 78
    assert counts["of another route"] == len(_NOT_OURS)
    assert counts["equal"] >= 58


def test_recorded_errors_have_their_classes() -> None:
    """A model that is not there, a batch too large, a server that embeds nothing: each is its own error."""
    by_id = {row["id"]: row for row in _rows()}
    for name, kind, retryable in (
        ("openai-embeddings-27f6b8feb7", NotFoundError, False),
        ("mistral-embeddings-2b9b470335", InvalidRequestError, False),
        ("llamacpp-embeddings-db3ffbbf68", ServerError, False),
        ("llamacpp-embeddings-f2808157d5", ServerError, True),
    ):
        row = by_id[name]
        error = OpenAIChat().failure(
            Head(row["response"]["status"], corpus.headers(row)), corpus.body(row), _flags(row)
        )
        assert (type(error), error.retryable) == (kind, retryable), name
