"""Lists of models: what is asked, what is read of each provider's words, and every recorded list."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus
from corpus import Row
from veyra.errors import AuthenticationError, MalformedResponseError, ProviderError
from veyra.transport.base import Head
from veyra.types import ModelInfo
from veyra.wire.anthropic import Anthropic
from veyra.wire.anthropic_models import AnthropicModels
from veyra.wire.base import Flags
from veyra.wire.gemini_models import GeminiModels
from veyra.wire.ollama_models import OllamaModels
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_models import OpenAIModels
from veyra.wire.routes import Inventory, Page

OPENAI, ANTHROPIC, GEMINI, OLLAMA = OpenAIModels(), AnthropicModels(), GeminiModels(), OllamaModels()
FORMS: dict[str, Inventory] = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}
FLAGS = Flags(provider="test", api_version="2023-06-01")
OK = Head(200, {})


def page(form: Inventory, body: Any) -> Page:
    return form.page(OK, json.dumps(body).encode(), FLAGS)


def one(form: Inventory, told: Any) -> ModelInfo:
    (model,) = page(form, {"models" if form in {GEMINI, OLLAMA} else "data": [told]}).models
    return model


def test_openai_tells_four_things() -> None:
    """Id, date, owner and the day of the end are read; what is not told is None."""
    model = one(OPENAI, {"id": "gpt-x", "created": 1700000000, "owned_by": "openai", "shutdown_date": "2026-12-11"})
    assert (model.id, model.owned_by) == ("gpt-x", "openai")
    assert model.created == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert model.retires_at == datetime(2026, 12, 11, tzinfo=UTC)
    assert (model.context_window, model.max_output, model.lifecycle, model.capabilities) == (None, None, None, {})


def test_a_router_tells_what_is_supported_and_so_what_is_not() -> None:
    """OpenRouter's lists are whole: what is not among them is a no."""
    model = one(
        OPENAI,
        {
            "id": "a/b",
            "context_length": 400000,
            "top_provider": {"max_completion_tokens": 128000},
            "architecture": {"input_modalities": ["text", "image", "file"]},
            "supported_parameters": ["tools", "structured_outputs"],
            "expiration_date": "2026-12-31",
        },
    )
    assert (model.context_window, model.max_output) == (400000, 128000)
    assert model.capabilities == {
        "image": True,
        "audio": False,
        "document": True,
        "tools": True,
        "reasoning": False,
        "output": True,
    }
    assert model.retires_at == datetime(2026, 12, 31, tzinfo=UTC)


def test_other_words_for_the_context_are_understood() -> None:
    """Mistral, vLLM and llama.cpp have a word of their own each."""
    for told in ({"max_context_length": 7}, {"max_model_len": 7}, {"meta": {"n_ctx": 7, "n_ctx_train": 9}}):
        assert one(OPENAI, {"id": "m", **told}).context_window == 7


def test_mistral_tells_what_a_model_can() -> None:
    """Each of Mistral's words is ours, True or False; a day of deprecation is not taken for one of retirement."""
    can = {"completion_chat": True, "function_calling": False, "vision": True, "fine_tuning": True, "audio": None}
    model = one(OPENAI, {"id": "m", "capabilities": can, "deprecation": "2026-08-31T12:00:00Z"})
    assert model.capabilities == {"chat": True, "tools": False, "image": True}
    assert model.retires_at is None


def test_anthropic_tells_limits_capabilities_and_the_end() -> None:
    """Limits, the tree of capabilities, lifecycle and the day of retirement are read; the epoch is no date."""
    model = one(
        ANTHROPIC,
        {
            "id": "claude-x",
            "display_name": "Claude X",
            "created_at": "1970-01-01T00:00:00Z",
            "max_input_tokens": 1000000,
            "max_tokens": 128000,
            "lifecycle": "deprecated",
            "retires_at": "2026-11-30T00:00:00-08:00",
            "capabilities": {
                "image_input": {"supported": True},
                "pdf_input": {"supported": False},
                "thinking": {"supported": True, "types": {}},
                "structured_outputs": None,
            },
        },
    )
    assert (model.name, model.created, model.lifecycle) == ("Claude X", None, "deprecated")
    assert (model.context_window, model.max_output) == (1000000, 128000)
    assert model.retires_at == datetime(2026, 11, 30, 8, tzinfo=UTC)
    assert model.capabilities == {"image": True, "document": False, "reasoning": True}


def test_gemini_tells_methods() -> None:
    """The name loses its collection, which `model=` does not need; methods say what a model can."""
    told = {
        "name": "models/gemini-x",
        "displayName": "Gemini X",
        "inputTokenLimit": 5,
        "outputTokenLimit": 6,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "thinking": True,
    }
    model = one(GEMINI, told)
    assert (model.id, model.name, model.context_window, model.max_output) == ("gemini-x", "Gemini X", 5, 6)
    assert model.capabilities == {"chat": True, "embeddings": False, "reasoning": True}
    assert one(GEMINI, {"name": "tunedModels/mine"}).id == "tunedModels/mine"


def test_ollama_tells_the_rest_when_asked() -> None:
    """The list names what is installed; `/api/show` says what a model can and what context it was made for."""
    model = one(OLLAMA, {"name": "qwen3:latest", "model": "qwen3:latest", "modified_at": "2026-03-08T21:07:29Z"})
    assert model == ModelInfo(id="qwen3:latest", raw=model.raw)
    question = OLLAMA.details(model, FLAGS)
    assert question is not None
    assert (question.method, question.path, json.loads(question.body)) == (
        "POST",
        "/api/show",
        {"model": "qwen3:latest"},
    )
    shown = {
        "capabilities": ["completion", "tools", "insert"],
        "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
    }
    known = OLLAMA.detailed(model, OK, json.dumps(shown).encode(), FLAGS)
    assert known.context_window == 40960
    assert {name for name, can in known.capabilities.items() if can} == {"chat", "tools"}
    assert known.raw == model.raw
    older = OLLAMA.detailed(model, OK, b'{"license": "x"}', FLAGS)
    assert (older.capabilities, older.context_window) == ({}, None)


def test_only_ollama_needs_a_question_for_each_model() -> None:
    """The other lists tell all there is."""
    for form in (OPENAI, ANTHROPIC, GEMINI):
        assert form.details(ModelInfo(id="m"), FLAGS) is None


def test_pages_follow_each_other() -> None:
    """Each format's cursor leads to the next page, quoted, with the headers that the first one had; the last has none."""
    assert ANTHROPIC.first(FLAGS).path == "/v1/models?limit=1000"
    following = page(ANTHROPIC, {"data": [], "has_more": True, "last_id": "a/b"}).following
    assert following is not None
    assert following.path == "/v1/models?limit=1000&after_id=a%2Fb"
    assert following.headers == ANTHROPIC.first(FLAGS).headers == {"anthropic-version": "2023-06-01"}
    following = page(GEMINI, {"models": [], "nextPageToken": "Ch9t=&x"}).following
    assert following is not None
    assert following.path == "/v1beta/models?pageSize=1000&pageToken=Ch9t%3D%26x"
    following = page(OPENAI, {"data": [], "has_more": True, "last_id": "z"}).following
    assert following is not None
    assert following.path == "/models?after=z"
    for form, body in (
        (ANTHROPIC, {"data": [], "has_more": False, "last_id": "z"}),
        (OPENAI, {"data": [], "last_id": "z"}),
        (OPENAI, {"data": [], "has_more": True}),
        (GEMINI, {"models": [], "nextPageToken": ""}),
        (GEMINI, {}),
        (OLLAMA, {"models": []}),
    ):
        assert page(form, body) == Page(models=())


def test_what_is_told_is_kept() -> None:
    """The provider's own JSON for a model is kept byte for byte, what is not understood among it."""
    for form in FORMS.values():
        told = b'{"id":"m", "name":"m","model": "m" , "novelty":{"x":[1.50]}}'
        (model,) = form.page(OK, b'{"data":[%b],"models":[%b]}' % (told, told), FLAGS).models
        assert model.raw is not None
        assert (model.raw.dialect, model.raw.raw) == (form.name, told)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1]", b'{"data": [1], "models": [1]}', b'{"data": [{}], "models": [{}]}']
)
def test_what_is_no_list_is_an_error(form: Inventory, body: bytes) -> None:
    """A body of another shape, or a model without an id, is malformed."""
    with pytest.raises(MalformedResponseError):
        form.page(OK, body, FLAGS)


def test_no_list_at_all_is_an_error() -> None:
    """A body without the list is malformed; Gemini leaves out a list that is empty."""
    for form in (OPENAI, ANTHROPIC, OLLAMA):
        with pytest.raises(MalformedResponseError, match="no list"):
            form.page(OK, b"{}", FLAGS)


def test_an_error_inside_a_success_is_told() -> None:
    """An error that comes with status 200 is the provider's error, by its own words."""
    body = b'{"error": {"type": "authentication_error", "status": "UNAUTHENTICATED", "message": "who?"}}'
    for form in (OPENAI, ANTHROPIC, GEMINI):
        with pytest.raises(AuthenticationError):
            form.page(OK, body, FLAGS)
    with pytest.raises(ProviderError):
        OLLAMA.page(OK, b'{"error": "who?"}', FLAGS)


@pytest.mark.parametrize("date", ["soon", "", 1e300, -1e18, True, [], {}, "2026-13-01"])
def test_a_date_that_is_none_is_not_told(date: Any) -> None:
    """What cannot be read as a time is None, and the model is listed all the same."""
    assert one(OPENAI, {"id": "m", "created": date, "shutdown_date": date}) == ModelInfo(
        id="m", raw=one(OPENAI, {"id": "m", "created": date, "shutdown_date": date}).raw
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "name",
                    "model",
                    "created",
                    "capabilities",
                    "architecture",
                    "top_provider",
                    "meta",
                    "thinking",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=3))
def test_any_json_raises_only_errors_of_ours(told: Any) -> None:
    """Whatever a model's fields are, the list is read or it is a `ProviderError`."""
    for form in FORMS.values():
        with suppress(ProviderError):
            page(form, {"data": told, "models": told})


# ---------------------------------------------------------------------------------------------- recordings


def _rows() -> list[Row]:
    lists = [
        row
        for row in corpus.rows("misc", "misc-sdk", "ollama-o*")
        if row["endpoint"] in {"models", "openai-models", "tags"}
    ]
    return [row for row in lists if "/models/" not in (row["request"] or {"path": ""})["path"]]  # one model is no list


def _form(row: Row) -> Inventory:
    if row["provider"] == "ollama":
        return OLLAMA if row["endpoint"] == "tags" else OPENAI
    return FORMS.get(row["provider"], OPENAI)


def _body(row: Row) -> bytes:
    """Return a recorded body; a list that a recorder kept as the SDK's objects is put together again."""
    if row["fidelity"] != "sdk":
        return corpus.body(row)
    lines = (line[6:] for line in corpus.body(row).decode().splitlines() if line.startswith("data: {"))
    return f'{{"data": [{",".join(lines)}]}}'.encode()


def test_every_recorded_list_is_read() -> None:
    """Each recorded list gives as many models as it has, under their ids, with limits and raw JSON as they stand."""
    counts: Counter[str] = Counter()
    for row in _rows():
        head, body, form = Head(row["response"]["status"], corpus.headers(row)), _body(row), _form(row)
        if head.status >= 300:
            dialect = Anthropic() if form is ANTHROPIC else OpenAIChat()
            assert isinstance(dialect.failure(head, body, FLAGS), AuthenticationError), row["id"]
            counts["errors"] += 1
            continue
        found = form.page(head, body, FLAGS).models
        plain = json.loads(body)
        plain = plain["data"] if "data" in plain else plain["models"]
        ids = [model.get("id") or model.get("model") or model["name"].removeprefix("models/") for model in plain]
        assert [model.id for model in found] == ids, row["id"]
        for model, told in zip(found, plain, strict=True):
            assert model.raw is not None
            assert json.loads(model.raw.raw) == told
            limits = [
                told.get(n) for n in ("context_length", "max_context_length", "max_input_tokens", "inputTokenLimit")
            ]
            assert model.context_window == next((n for n in limits if n), model.context_window)
        counts["lists"] += 1
        counts["models"] += len(found)
    print(dict(counts))
    assert (counts["lists"], counts["errors"]) == (18, 2)
    assert counts["models"] > 800


def test_recorded_details_are_read() -> None:
    """What `/api/show` told of three models is in them."""
    found = [
        OLLAMA.detailed(ModelInfo(id="m"), OK, corpus.body(row), FLAGS)
        for row in corpus.rows("ollama-other")
        if row["endpoint"] == "show"
    ]
    assert [model.context_window for model in found] == [131072] * 3
    assert [model.capabilities.get("tools") for model in found] == [True, None, None]
