"""The conformance suite: our own backends pass it, and no check of it is vacuous."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.request import Request, urlopen

import pytest

from testing import broken
from veyra import BaseModelBackend, MockBackend, ModelResponse
from veyra.errors import InvalidRequestError
from veyra.models.registry import make_backend
from veyra.testing import conformance
from veyra.testing.badge import badge
from veyra.testing.conformance import Check, Make, Speaks, Subject, checks, result_of, run
from veyra.testing.stage import Stage

CHECKS = {check.name: check for check in checks()}
OURS: dict[str, Subject] = {
    "mock": Subject(make=MockBackend),
    "openai chat": Subject(make=partial(make_backend, "openai", api="chat"), speaks="openai_chat"),
    "openai responses": Subject(make=partial(make_backend, "openai", api="responses"), speaks="openai_responses"),
    "anthropic": Subject(make=partial(make_backend, "anthropic"), speaks="anthropic"),
    "gemini": Subject(make=partial(make_backend, "gemini"), speaks="gemini"),
    "ollama": Subject(make=partial(make_backend, "ollama"), speaks="ollama"),
    "groq": Subject(make=partial(make_backend, "groq"), speaks="openai_chat"),
}


@pytest.mark.parametrize("name", OURS)
def test_our_own_backends_pass(name: str) -> None:
    """Every check that applies is passed; nothing is excused."""
    report = run(OURS[name])
    assert [(result.check.name, result.reason) for result in report.results if result.verdict == "failed"] == []
    assert report.count("passed") >= (90 if name != "mock" else 25)


def test_there_are_checks_enough_and_each_says_what_must_hold() -> None:
    """At least sixty, their names their own, each with its sentence."""
    assert len(CHECKS) == len(checks()) >= 60
    assert all(check.says.endswith(".") and check.group for check in CHECKS.values())
    assert set(broken.PLAIN) | set(broken.OVER_HTTP) == set(CHECKS)


def _verdicts(name: str, chosen: list[Check]) -> dict[str, str]:
    """Return the checks that the backend which is broken for one of them fails, and why."""
    speaks: Speaks | None = "openai_chat" if name in broken.OVER_HTTP else None
    report = run(Subject(make=broken.subject_of(name), speaks=speaks), chosen)
    return {result.check.name: result.reason for result in report.results if result.verdict == "failed"}


@pytest.mark.parametrize("name", CHECKS)
def test_a_broken_backend_fails_its_check(name: str) -> None:
    """A backend that is broken in one respect fails the check of it, and passes those of the same group."""
    alike = [check for check in checks() if check.group == CHECKS[name].group]
    failed = _verdicts(name, alike)
    assert list(failed) == [name], failed
    assert failed[name]


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", CHECKS)
def test_a_broken_backend_fails_no_other_check(name: str) -> None:
    """Of all checks it fails exactly that one."""
    failed = _verdicts(name, list(checks()))
    assert list(failed) == [name], failed


class TwoMethods(BaseModelBackend):
    """The least that the ADR asks for."""

    name = "two-methods"

    async def generate(self, prompt: object, **options: object) -> ModelResponse:
        return ModelResponse("Hello.", "m", "two-methods", 1.0, 1, 1, None)

    async def health_check(self) -> bool:
        return True


def test_a_backend_of_two_methods_passes_what_applies() -> None:
    """It has nothing to show on the wire, and the report says so."""
    report = run(Subject(make=TwoMethods))
    assert report.ok
    reasons = {result.reason for result in report.results if result.verdict == "not applicable"}
    assert reasons == {"the backend does not talk HTTP in a format of the fault server"}


class TwoMethodsOverHttp(BaseModelBackend):
    """The least that the ADR asks for, of a backend that talks HTTP."""

    name = "openai"

    def __init__(self, **options: Any) -> None:
        self._wire = make_backend("openai", api="chat", **options)

    async def generate(self, prompt: str, **options: Any) -> ModelResponse:
        return await self._wire.generate(prompt, **options)

    async def health_check(self) -> bool:
        return await self._wire.health_check()

    async def aclose(self) -> None:
        await self._wire.aclose()


def test_a_backend_of_two_methods_that_talks_http_passes_what_applies() -> None:
    """What it sends and makes of answers and errors is checked; that it shows no events and bytes is said, and is no failure."""
    report = run(Subject(make=TwoMethodsOverHttp, speaks="openai_chat"))
    assert [(result.check.name, result.reason) for result in report.results if result.verdict == "failed"] == []
    assert report.count("passed") >= 75
    left = {result.check.name: result.reason for result in report.results if result.verdict == "not applicable"}
    assert {"what-came-is-on-record", "a-cut-stream-is-incomplete", "hands-text-on-in-pieces"} <= left.keys()
    assert set(left.values()) == {"a backend of two methods shows no events, and no bytes"}


class BlockingHttp(TwoMethods):
    """Speaks Chat Completions with a library that blocks."""

    def __init__(self, *, base_url: str, api_key: str, model: str) -> None:
        self._url = f"{base_url}/chat/completions"
        self._key, self._model = api_key, model

    async def generate(self, prompt: object, **options: object) -> ModelResponse:
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        turns = [{"role": "user", "content": str(prompt)}]
        body = json.dumps({"model": self._model, "messages": turns}).encode()
        with urlopen(Request(self._url, body, headers), timeout=5) as answer:  # noqa: ASYNC210  (that is what is wrong with it)
            text = json.load(answer)["choices"][0]["message"]["content"]
        return ModelResponse(text, self._model, self.name, 1.0, 1, 1, None)


def test_a_backend_that_blocks_its_event_loop_is_answered_and_told() -> None:
    """The server does not live on the loop that is blocked: the suite goes on, and says what is wrong."""
    chosen = [CHECKS[name] for name in ("answers-with-a-response", "sends-the-prompt", "waiting-does-not-block")]
    report = run(Subject(make=BlockingHttp, speaks="openai_chat"), chosen)
    assert [result.verdict for result in report.results] == ["passed", "passed", "failed"]
    assert "nothing else ran for" in report.results[-1].reason


def test_a_check_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that blocks its thread for good fails the check, and holds up nobody."""
    monkeypatch.setattr(conformance, "LIMIT", 0.05)
    monkeypatch.setattr(conformance, "_GRACE", 0.05)
    free = threading.Event()

    def hold(_: Stage) -> None:
        free.wait()

    check = replace(CHECKS["has-a-name"], run=hold)
    result = result_of(check, OURS["mock"])
    free.set()
    assert (result.verdict, result.reason) == (
        "failed",
        "it did not end within 0.05 s, and blocks the thread of its event loop",
    )


@pytest.mark.parametrize("error", [SystemExit(3), TimeoutError("too slow"), KeyboardInterrupt()])
def test_what_a_backend_raises_ends_its_check_alone(error: BaseException) -> None:
    """Be it an error that ends processes: it is the reason of this check, by its name."""

    class Raising(TwoMethods):
        async def generate(self, prompt: object, **options: object) -> ModelResponse:
            raise error

    report = run(Subject(make=Raising), [CHECKS["content-is-text"], CHECKS["has-a-name"]])
    assert [result.verdict for result in report.results] == ["failed", "passed"]
    assert report.results[0].reason == f"{type(error).__name__}: {error}"


def test_what_cannot_be_made_fails_every_check() -> None:
    """An error of the backend's own is what came of the check, and no error of the suite."""

    def make() -> BaseModelBackend:
        msg = "no licence"
        raise RuntimeError(msg)

    result = result_of(CHECKS["has-a-name"], Subject(make=make))
    assert (result.verdict, result.reason) == ("failed", "RuntimeError: no licence")


def test_an_unknown_format_is_refused() -> None:
    """The error lists the formats."""
    with pytest.raises(InvalidRequestError, match="openai_chat, openai_responses, anthropic, gemini, ollama"):
        Subject(make=MockBackend, speaks="bedrock")  # type: ignore[arg-type]


def test_the_badge_says_how_many() -> None:
    """The picture is the same for the same report, and counts what applies."""
    chosen = [CHECKS["has-a-name"], CHECKS["health-is-a-bool"], CHECKS["reads-text"]]
    good, bad = run(OURS["mock"], chosen), run(Subject(make=broken.PLAIN["has-a-name"]), chosen)
    assert "2 of 2 checks" in badge(good)
    assert "1 of 2 checks" in badge(bad)
    assert badge(good) == badge(run(OURS["mock"], chosen))


def test_making_a_backend_is_all_that_is_asked_of_it() -> None:
    """A subject's `make` is called anew for each check."""
    made: list[int] = []

    def make() -> BaseModelBackend:
        made.append(1)
        return MockBackend()

    typed: Make = make
    run(Subject(make=typed), [CHECKS["has-a-name"], CHECKS["is-a-backend"]])
    assert len(made) == 2
