"""The providers' own SDKs for Python and for JavaScript against the fault server: text, streams, tools, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import sdks
from sdks import SDKS, Job, MissingError
from serving import Scripted
from veyra.testing.server import FaultServer
from veyra.types import Event, Finish, TextDelta, ToolCall, ToolCallDelta, Usage

ROOT = Path(__file__).parent.parent.parent

TEXT: list[Event] = [TextDelta("It is "), TextDelta("☀"), TextDelta(" outside."), Finish(reason="stop")]
CALL = ToolCall("call_a", "look", {"at": "sky ☀"}, '{"at": "sky ☀"}')
TOOLS: list[Event] = [
    ToolCallDelta(0, "call_a", "look", '{"at": '),
    ToolCallDelta(0, arguments='"sky ☀"}'),
    Finish(reason="tool_calls", usage=Usage(input_total=3, output_total=4), tool_calls=(CALL,)),
]

ERRORS: dict[str, dict[str, tuple[str, int | None]]] = {
    "failure@status=401": {
        "openai": ("AuthenticationError", 401),
        "anthropic": ("AuthenticationError", 401),
        "ollama": ("ResponseError", 401),
    },
    "failure@status=404": {
        "openai": ("NotFoundError", 404),
        "anthropic": ("NotFoundError", 404),
        "ollama": ("ResponseError", 404),
    },
    "failure@status=400": {
        "openai": ("BadRequestError", 400),
        "anthropic": ("BadRequestError", 400),
        "ollama": ("ResponseError", 400),
    },
    "rate-limit@ms=1": {
        "openai": ("RateLimitError", 429),
        "anthropic": ("RateLimitError", 429),
        "ollama": ("ResponseError", 429),
    },
    "html-502": {
        "openai": ("InternalServerError", 502),
        "anthropic": ("InternalServerError", 502),
        "ollama": ("ResponseError", 502),
    },
}
"""What the SDKs raise, in both languages."""


WORDS: list[Event] = [*[TextDelta("word ")] * 9, Finish(reason="stop")]
INSIDE = "error@event=6,kind=server"

Result: TypeAlias = tuple[Job, dict[str, Any]]


@pytest.fixture(scope="module", params=["python", "javascript"])
def results(request: pytest.FixtureRequest) -> list[Result]:
    """Let every SDK of a language do all its jobs, in one process, and return what came of each."""
    jobs: list[Job] = []
    with (
        FaultServer(Scripted(TEXT)) as text,
        FaultServer(tools := Scripted(TOOLS)) as calls,
        FaultServer(Scripted(WORDS)) as words,
    ):
        for sdk, suffix in SDKS.items():
            for stream in (False, True):
                jobs += [
                    Job(
                        id=len(jobs) + place,
                        sdk=sdk,
                        url=server.url + suffix,
                        stream=stream,
                        tools=server is calls,
                        fault=fault,
                    )
                    for place, (server, fault) in enumerate(
                        [(text, ""), (calls, ""), (words, INSIDE), *((text, error) for error in ERRORS)]
                    )
                ]
        try:
            seen = sdks.run(request.param, jobs)
        except MissingError as error:
            pytest.skip(str(error))
    assert [asked.tools[0].name for asked in tools.requests] == ["look"] * len(SDKS) * 2
    return [(job, seen[job.id]) for job in jobs]


@pytest.mark.timeout(150)  # where the packages for JavaScript are not there yet, they are installed
def test_text_whole_and_streamed(results: list[Result]) -> None:
    """Every SDK reads the text of a whole answer and of a stream, and that it ended well."""
    answered = [(job, seen) for job, seen in results if not job.fault and not job.tools]
    assert len(answered) == 2 * len(SDKS)
    for job, seen in answered:
        assert (seen["text"], seen["error"], seen["calls"]) == ("It is ☀ outside.", None, []), job
        assert seen["finish"] in {"stop", "completed", "end_turn"}, job


@pytest.mark.timeout(150)
def test_tools_whole_and_streamed(results: list[Result]) -> None:
    """Every SDK sends the tools it is given, and reads a call with its arguments, whole and in pieces."""
    answered = [(job, seen) for job, seen in results if job.tools]
    assert len(answered) == 2 * len(SDKS)
    for job, seen in answered:
        ((name, arguments),) = seen["calls"]
        assert (name, json.loads(arguments), seen["error"]) == ("look", {"at": "sky ☀"}, None), job
        assert seen["finish"] in {"tool_calls", "completed", "tool_use", "stop"}, job


@pytest.mark.timeout(150)
def test_errors_before_an_answer(results: list[Result]) -> None:
    """Every SDK raises its own error of the kind, with the status; the message says which fault was asked for."""
    answered = [(job, seen) for job, seen in results if job.fault in ERRORS]
    assert len(answered) == 2 * len(SDKS) * len(ERRORS)
    for job, seen in answered:
        assert (seen["error"], seen["status"]) == ERRORS[job.fault][job.sdk.partition("_")[0]], job
        assert job.fault == "html-502" or job.fault in seen["message"], job


@pytest.mark.timeout(150)
def test_errors_inside_a_stream(results: list[Result]) -> None:
    """Text comes first; then OpenAI's chat, Anthropic's and Ollama's SDKs raise, and OpenAI's Responses tell a failed response."""
    answered = [(job, seen) for job, seen in results if job.fault == INSIDE and job.stream]
    assert len(answered) == len(SDKS)
    for job, seen in answered:
        assert seen["text"].startswith("word "), job
        if job.sdk == "openai_responses":
            assert (seen["error"], seen["finish"]) == (None, "failed")
        else:
            assert seen["error"] is not None, job


def test_the_table_is_of_these_versions() -> None:
    """The page of faults has the table of the SDKs that are tested here: their versions, and a row for each fault."""
    page = (ROOT / "docs" / "testing" / "faults.md").read_text()
    pinned = json.loads((sdks.SOURCES / "package.json").read_text())["dependencies"]
    for name, version in pinned.items():
        assert f"{name} {version}" in page
    constraints = (ROOT / "constraints.txt").read_text()
    for name in ("openai", "anthropic", "ollama"):
        version = re.search(rf"^{name}==(\S+)$", constraints, re.MULTILINE)
        assert version is not None
        assert f"{name} {version[1]}" in page
    table = (ROOT / "scripts" / "fault_table.py").read_text()
    faults = re.findall(r'^    "([^"]+)": _(?:BOTH|STREAMED|WHOLE),$', table, re.MULTILINE)
    assert len(faults) > 20
    rows = page.partition("## What the SDKs make of them")[2]
    assert [fault for fault in faults if rows.count(f"| `{fault}` |") != len(SDKS)] == []
