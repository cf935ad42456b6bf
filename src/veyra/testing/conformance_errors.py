"""Checks of what a backend makes of an error that the provider tells: one taxonomy, with all that the provider said."""

from __future__ import annotations

from veyra.errors import (
    EXCERPT_LIMIT,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from veyra.testing.stage import KEY, MODEL, Group, Stage, expect

PROMPT = "What is the weather in Lisbon?"

errors = Group("errors", over_http=True)
waits = Group("waits", over_http=True)
words = Group("words of errors", over_http=True)
GROUPS = (errors, waits, words)


async def failed(stage: Stage, faults: str, *, stream: bool = False) -> ProviderError:
    """Ask, and return the error that comes."""
    async with stage.talk("Sunny.", faults=faults) as talk:
        try:
            if stream:
                async with talk.gate.stream(PROMPT) as reply:
                    async for _ in reply:
                        pass
            else:
                await talk.gate.generate(PROMPT)
        except ProviderError as error:
            return error
    expect(held=False, message=f"with {faults} an answer came, and no error")
    raise AssertionError


async def _expect_status(stage: Stage, status: int, kind: type[ProviderError]) -> None:
    for stream in (False, True):
        error = await failed(stage, f"failure@status={status}" if status != 500 else "failure", stream=stream)
        expect(type(error) is kind, f"status {status} came as {type(error).__name__}: {error}")
        expect(error.status == status, f"status {status} came as {error.status}")


@errors.check
async def status_400(stage: Stage) -> None:
    """400 is `InvalidRequestError`."""
    await _expect_status(stage, 400, InvalidRequestError)


@errors.check
async def status_401(stage: Stage) -> None:
    """401 is `AuthenticationError`."""
    await _expect_status(stage, 401, AuthenticationError)


@errors.check
async def status_403(stage: Stage) -> None:
    """403 is `PermissionDeniedError`."""
    await _expect_status(stage, 403, PermissionDeniedError)


@errors.check
async def status_404(stage: Stage) -> None:
    """404 is `NotFoundError`."""
    await _expect_status(stage, 404, NotFoundError)


@errors.check
async def status_429(stage: Stage) -> None:
    """429 is `RateLimitError`, and worth another try."""
    error = await failed(stage, "rate-limit@after=1")
    expect(type(error) is RateLimitError, f"it came as {type(error).__name__}: {error}")
    expect(error.retryable and not error.ambiguous, f"retryable {error.retryable}, ambiguous {error.ambiguous}")


@errors.check
async def status_500(stage: Stage) -> None:
    """500 is `ServerError`."""
    await _expect_status(stage, 500, ServerError)


@errors.check
async def status_503(stage: Stage) -> None:
    """503 is `ServerError` or `OverloadedError`."""
    error = await failed(stage, "failure@status=503")
    expect(isinstance(error, ServerError | OverloadedError), f"it came as {type(error).__name__}: {error}")


@errors.check
async def status_529(stage: Stage) -> None:
    """529 is `OverloadedError`."""
    error = await failed(stage, "overloaded")
    expect(type(error) is OverloadedError, f"it came as {type(error).__name__}: {error}")


@errors.check
async def a_quota_is_no_rate_limit(stage: Stage) -> None:
    """Out of credit is `QuotaError`, which no waiting mends, though its status may be that of a rate limit."""
    error = await failed(stage, "quota")
    expect(type(error) is QuotaError and not error.retryable, f"it came as {type(error).__name__}: {error}")


@errors.check_of("openai_chat", "openai_responses", "anthropic", "gemini")
async def a_spend_limit_is_no_rate_limit(stage: Stage) -> None:
    """A limit of spending is `QuotaError`."""
    error = await failed(stage, "spend-limit")
    expect(type(error) is QuotaError and not error.retryable, f"it came as {type(error).__name__}: {error}")


@errors.check
async def a_page_of_html(stage: Stage) -> None:
    """A 502 with a page of HTML, from something in between, is `ServerError`."""
    error = await failed(stage, "html-502")
    expect(type(error) is ServerError and error.status == 502, f"it came as {type(error).__name__}: {error}")


# ------------------------------------------------------------------------------------------------- waits


@waits.check
async def a_wait_in_seconds(stage: Stage) -> None:
    """`retry-after` in seconds is told."""
    found = (await failed(stage, "rate-limit@after=7")).retry_after
    expect(found == 7, f"retry_after is {found}, asked for were 7 s")


@waits.check
async def a_wait_in_milliseconds(stage: Stage) -> None:
    """`retry-after-ms` is told in seconds."""
    found = (await failed(stage, "rate-limit@ms=1500")).retry_after
    expect(found == 1.5, f"retry_after is {found}, asked for were 1,500 ms")


@waits.check
async def a_wait_until_a_date(stage: Stage) -> None:
    """`retry-after` as a date is told in seconds from now."""
    found = (await failed(stage, "rate-limit@date=120")).retry_after
    expect(found is not None and 60 <= found <= 121, f"retry_after is {found}, asked for were about 120 s")


@waits.check
async def a_long_wait(stage: Stage) -> None:
    """A wait of hours is told as it is: whether to wait is not for the backend to say."""
    found = (await failed(stage, "rate-limit@after=9999")).retry_after
    expect(found == 9999, f"retry_after is {found}, asked for were 9999 s")


@waits.check
async def no_wait_is_made_up(stage: Stage) -> None:
    """Where the provider asks for no wait, none is told."""
    found = (await failed(stage, "rate-limit")).retry_after
    expect(found is None, f"retry_after is {found}, and nobody asked for a wait")


# ------------------------------------------------------------------------------------------------- words


@words.check
async def an_error_says_who_was_asked(stage: Stage) -> None:
    """`provider` and `model` are set."""
    error = await failed(stage, "failure@status=400")
    expect(error.provider and error.model == MODEL, f"provider is {error.provider!r}, model {error.model!r}")


@words.check_of("openai_chat", "openai_responses", "anthropic")
async def an_error_has_the_request_id(stage: Stage) -> None:
    """`request_id` is the provider's."""
    found = (await failed(stage, "failure@status=400")).request_id
    expect(found == "req_000001", f"request_id is {found!r}")


@words.check
async def an_error_is_bounded(stage: Stage) -> None:
    """An error quotes a little of a body that is no JSON, on one line."""
    message = str(await failed(stage, "html-502"))
    right = len(message) <= 2 * EXCERPT_LIMIT and "\n" not in message
    expect(right, f"the message has {len(message):,} characters, and {message.count(chr(10))} ends of lines")


@words.check
async def an_error_does_not_show_the_key(stage: Stage) -> None:
    """Neither message nor fields of an error hold the key."""
    error = await failed(stage, "failure@status=401")
    shown = repr((str(error), error.args, vars(error)))
    expect(KEY not in shown, "the error holds the key")


@words.check_of_events
async def an_error_is_on_record(stage: Stage) -> None:
    """A failed attempt is on record with its kind and its status."""
    kind = None
    async with stage.talk("Sunny.", faults="failure@status=400") as talk:
        try:
            await talk.gate.generate(PROMPT)
        except ProviderError as error:
            kind = error.kind
        (row,) = talk.log.attempts()
        leaves = [entry.leaf for entry in talk.log.entries() if entry.leaf["kind"] == "call.outcome"]
    status = leaves[0]["attributes"].get("http.response.status_code")
    expect(
        (row.status, row.error, status) == ("error", kind, 400), f"the record says {row.status}, {row.error}, {status}"
    )
