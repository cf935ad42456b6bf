"""Every error Veyra raises.

    VeyraError
    ├── UnknownBackendError           no backend has that name (also a KeyError, as the lookup of ADR-0001)
    ├── ConfigError                   a setting in a file or a variable is wrong; says where
    ├── ProviderError                 one attempt failed; says where, how, and whether to try again
    │   ├── AuthenticationError       no key, or the provider refuses it
    │   ├── PermissionDeniedError     the key may not do this
    │   ├── QuotaError                out of credit or over a spend limit; waiting does not help
    │   ├── NotFoundError             no such model or route
    │   ├── InvalidRequestError       the request is wrong; found here (status None) or by the provider
    │   │   ├── ContextLengthError    more tokens than the model takes
    │   │   ├── ContentPolicyError    refused for what it says
    │   │   ├── UnsupportedParameterError   this model does not take that option
    │   │   └── TapeMissError         no recording on a tape answers it
    │   ├── RateLimitError            too fast; see retry_after
    │   ├── OverloadedError           the provider has no room now
    │   ├── ServerError               the provider failed
    │   ├── ConnectionFailedError     no connection, or it broke before an answer began
    │   ├── CallTimeoutError          took too long; phase says which clock ran out
    │   ├── IncompleteStreamError     the answer was cut before its terminal marker; see partial
    │   ├── MalformedResponseError    the answer cannot be understood
    │   │   └── OutputMismatchError   the answer does not fit the type that was asked for; carries it
    │   └── BackendError              a backend broke its contract or raised something of its own
    ├── CircuitOpenError              refused here: the target failed too often lately
    ├── BudgetExceededError           refused here: it would cost more than is allowed
    ├── ToolRunError                  a run of tools ended before the model's answer; says why
    └── AuditError
        ├── AuditUnavailableError     the intent could not be recorded, so nothing was sent
        ├── AuditWriteError           the outcome could not be recorded; carries the answer that was paid for
        └── AuditCorruptError         the log was damaged or altered, and is not written to

The kinds and what maps to them: wire facts, section 7. No message of an error ever holds a key, and none
quotes more of a provider's body than `EXCERPT_LIMIT` characters.
"""

from __future__ import annotations

from copyreg import __newobj__  # type: ignore[attr-defined]  # makes an object without its __init__; pickle's own
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from veyra.types import AttemptRecord, EmbeddingResponse, ModelResponse, ToolRun

EXCERPT_LIMIT = 500
"""Characters of a provider's body that an error message quotes at most."""


def excerpt(body: bytes | str) -> str:
    """Return the start of a provider's body for an error message: one line, printable, bounded."""
    text = body[: EXCERPT_LIMIT * 4].decode("utf-8", "replace") if isinstance(body, bytes) else body
    line = " ".join(text[: EXCERPT_LIMIT * 2].split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return line if len(line) <= EXCERPT_LIMIT else line[: EXCERPT_LIMIT - 1] + "…"


def near(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean ...?` for the names nearest to a misspelt one, or `.` where there is none."""
    from difflib import get_close_matches  # noqa: PLC0415  (only who misspells waits for it)

    by_lower = {known.lower(): known for known in names}
    close = [by_lower[found] for found in get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "."


class VeyraError(Exception):
    """The root of every error that Veyra raises.

    Attributes:
        message: what was wrong and what to do about it.
        attempts: the attempts of a `Client`'s call that ended so, in order; empty where none was made.
        run: of a run of tools that ended so, what was answered and executed before; None where nothing was.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.attempts: tuple[AttemptRecord, ...] = ()
        self.run: ToolRun | None = None

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Copy and pickle with every attribute, whatever the class's own arguments are: errors cross processes."""
        return __newobj__, (type(self), *self.args), self.__dict__


class UnknownBackendError(VeyraError, KeyError):
    """No backend is registered under the name asked for; the message lists the names nearest to it."""


class ConfigError(VeyraError):
    """A setting in a file, a variable or a profile's name is wrong. The message begins with where, and shows no secret.

    Attributes:
        path: the file, or None where the setting came from elsewhere.
        line: the line of it, from 1, or None where no line is to blame.
    """

    def __init__(self, message: str, *, path: Path | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class ProviderError(VeyraError):
    """One attempt at one backend failed.

    Attributes:
        provider: who was asked, in OpenTelemetry's spelling (`openai`, `anthropic`, `ollama`, ...), or None.
        model: the model asked for, or None.
        status: the HTTP status, or None where there was none. An error inside a stream keeps the stream's own
            status (200), so decide by the class, never by this number.
        provider_type, provider_code: the provider's own words for the error, untouched, or None.
        request_id: the provider's id for the exchange, or None.
        retryable: the same request may succeed if it is sent again later.
        ambiguous: the provider may have done the work, and may bill it.
        retry_after: seconds the provider asked to wait, or None where it did not say.
        partial: the text received before the failure; empty where there was none.
    """

    kind: ClassVar[str] = "provider_error"
    """The error's name in the audit log (`error.type`)."""
    default_retryable: ClassVar[bool] = False
    default_ambiguous: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        provider_type: str | None = None,
        provider_code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        ambiguous: bool | None = None,
        retry_after: float | None = None,
        partial: str = "",
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status = status
        self.provider_type = provider_type
        self.provider_code = provider_code
        self.request_id = request_id
        self.retryable = self.default_retryable if retryable is None else retryable
        self.ambiguous = self.default_ambiguous if ambiguous is None else ambiguous
        self.retry_after = retry_after
        self.partial = partial


class AuthenticationError(ProviderError):
    """No key was given, or the provider does not accept it."""

    kind = "authentication"


class PermissionDeniedError(ProviderError):
    """The key is known but may not do this."""

    kind = "permission"


class QuotaError(ProviderError):
    """The account is out of credit or over a spend limit. Never cleared by waiting, so never retryable."""

    kind = "quota"


class NotFoundError(ProviderError):
    """The model or the route does not exist, or is not to be seen with this key."""

    kind = "not_found"


class InvalidRequestError(ProviderError):
    """The request is wrong: status None where Veyra found it before sending, otherwise the provider's."""

    kind = "invalid_request"


class ContextLengthError(InvalidRequestError):
    """The prompt, or prompt and answer together, are longer than the model takes."""

    kind = "context_length"


class ContentPolicyError(InvalidRequestError):
    """The provider refuses the request for what it says."""

    kind = "content_policy"


class UnsupportedParameterError(InvalidRequestError):
    """The model or the dialect does not take an option that was set."""

    kind = "unsupported_parameter"


class TapeMissError(InvalidRequestError):
    """No recording on the tape that is played answers the request; the message says how it differs from the nearest."""

    kind = "tape_miss"


class RateLimitError(ProviderError):
    """Too many requests or tokens in a time; `retry_after` says how long to wait, where the provider told."""

    kind = "rate_limited"
    default_retryable = True


class OverloadedError(ProviderError):
    """The provider has no capacity at the moment (503 of a full queue, 529)."""

    kind = "overloaded"
    default_retryable = True


class ServerError(ProviderError):
    """The provider, or something in front of it, failed."""

    kind = "server"
    default_retryable = True


class ConnectionFailedError(ProviderError):
    """No connection could be made (refused, name unknown, TLS), or it broke before an answer began.

    `ambiguous` is true where the request had been sent when the connection broke.
    """

    kind = "connection"
    default_retryable = True


class CallTimeoutError(ProviderError):
    """A clock ran out: `phase` is `connect`, `first_token`, `between_events` or `total`; `limit` is in seconds."""

    kind = "timeout"
    default_retryable = True
    default_ambiguous = True

    def __init__(self, message: str, *, phase: str, limit: float, model: str | None = None) -> None:
        super().__init__(message, model=model, ambiguous=phase != "connect")
        self.phase = phase
        self.limit = limit


class IncompleteStreamError(ProviderError):
    """The answer ended without the provider's terminal marker; `partial` holds the text that came."""

    kind = "incomplete_stream"
    default_retryable = True
    default_ambiguous = True


class MalformedResponseError(ProviderError):
    """The provider's answer is not what its format says (not JSON, not UTF-8, empty, the wrong shape)."""

    kind = "malformed_response"
    default_ambiguous = True


class OutputMismatchError(MalformedResponseError):
    """The answer came whole but does not fit `output`: the message names the place, `response` is the answer."""

    kind = "output_mismatch"
    default_ambiguous = False

    def __init__(self, message: str, *, response: ModelResponse, partial: str = "") -> None:
        super().__init__(message, partial=partial)
        self.response = response


class BackendError(ProviderError):
    """A backend broke its contract, or raised an exception of its own (kept as `__cause__`)."""

    kind = "backend"


class CircuitOpenError(VeyraError):
    """Refused without an attempt: the target failed too often lately."""


class BudgetExceededError(VeyraError):
    """Refused without an attempt: the call could cost more than the budget has left.

    Attributes:
        reason: `amount`, where that is so; `price`, where the price is not known, so that nobody could tell.
    """

    def __init__(self, message: str, *, reason: Literal["amount", "price"] = "amount") -> None:
        super().__init__(message)
        self.reason = reason


class ToolRunError(VeyraError):
    """A run of tools ended before the model gave its answer; `run` has what was paid for until then.

    Attributes:
        reason: `steps` or `cost`, where that bound was reached; `tool`, where a function raised (kept as `__cause__`).
    """

    def __init__(self, message: str, *, reason: Literal["steps", "cost", "tool"]) -> None:
        super().__init__(message)
        self.reason = reason


class AuditError(VeyraError):
    """The audit log cannot do what a call needs of it."""


class AuditUnavailableError(AuditError):
    """The intent of a call could not be made durable, so the call was refused and nothing was sent."""


class AuditWriteError(AuditError):
    """The outcome of a call could not be made durable.

    `response` (of `embed`: `embedding`) holds the answer that was paid for, if any.
    """

    def __init__(
        self, message: str, *, response: ModelResponse | None = None, embedding: EmbeddingResponse | None = None
    ) -> None:
        super().__init__(message)
        self.response = response
        self.embedding = embedding


class AuditCorruptError(AuditUnavailableError):
    """The log on disk was damaged or altered before its end; it is left as it is and not written to."""
