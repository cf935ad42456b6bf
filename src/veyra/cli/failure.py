"""What a person is told when something failed, and the exit status that goes with it.

0 is success; 1, the call or the check failed; 2, the command was used wrongly and nothing was asked.
"""

from __future__ import annotations

from typing import IO, Any

import click

from veyra import config, errors
from veyra.cli import show
from veyra.config import KeySource
from veyra.models.endpoints import ENDPOINTS, Endpoint

_HINTS: tuple[tuple[type[errors.VeyraError], str], ...] = (  # the first class that fits counts
    (errors.PermissionDeniedError, "the key is known but may not do this: ask for access, or use another key"),
    (errors.QuotaError, "waiting does not help: add credit or raise the limit at the provider"),
    (errors.NotFoundError, "check the model's name (-m) and the address (--base-url)"),
    (errors.ContextLengthError, "shorten the prompt or split it"),
    (errors.UnsupportedParameterError, "leave the option out, or ask another model"),
    (errors.RateLimitError, "wait a little and try again"),
    (errors.OverloadedError, "the provider is busy: try again later"),
    (errors.ServerError, "the failure is the provider's: try again later"),
    (errors.IncompleteStreamError, "what came is not the whole answer: try again"),
    (errors.MalformedResponseError, "check that the address (--base-url) is right and speaks this backend's format"),
    (errors.BudgetExceededError, "allow more with --budget, or shorter answers with --max-tokens"),
    (errors.AuditWriteError, "the call was made, and may be billed"),
    (errors.AuditCorruptError, "veyra audit verify says more"),
    (errors.AuditUnavailableError, "record elsewhere with --audit DIR, or nowhere with --audit off"),
)


class Failure(click.ClickException):
    """Ends the command with a message and a hint, status 1."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002  (click's signature; failures go to standard error)
        """Print the failure."""
        show.failure(self.message, self.hint)


class Misuse(Failure):
    """Ends the command, used wrongly, with status 2."""

    exit_code = 2


def explain(error: errors.VeyraError) -> Failure:
    """Return what the person at the command is told about an error of the library."""
    wrong_use = isinstance(error, errors.UnknownBackendError | errors.ConfigError) or (
        isinstance(error, errors.InvalidRequestError) and error.status is None
    )
    return (Misuse if wrong_use else Failure)(_message(error), _hint(error))


def _endpoint(provider: str | None) -> Endpoint | None:
    return next((row for row in ENDPOINTS.values() if row.flags.provider == provider), None)


def _source(endpoint: Endpoint | None) -> KeySource | None:
    """Return where settings say that a vendor's key is; None where they say nothing."""
    return None if endpoint is None else config.load().key_source(endpoint.name)


def _message(error: errors.VeyraError) -> str:
    match error:
        case errors.AuthenticationError(status=None, provider=str(provider)):
            endpoint = _endpoint(provider)
            if _source(endpoint) is not None:
                return error.message
            return f"no API key for {provider if endpoint is None else endpoint.name}"
        case errors.CallTimeoutError(phase=phase, limit=limit):
            what = {
                "connect": "no connection stood",
                "first_token": "no answer began",
                "between_events": "the answer stalled: nothing came",
                "total": "the answer was not complete",
            }
            return f"{error.provider or 'the backend'}: {what[phase]} within {limit:g} s"
        case errors.ProviderError(request_id=str(request_id)) if request_id not in error.message:
            return f"{error.message} (request {request_id})"
        case _:
            return error.message


def _hint(error: errors.VeyraError) -> str | None:
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)
    match error:
        case errors.AuthenticationError(status=status, provider=provider):
            endpoint = _endpoint(provider)
            source = _source(endpoint)
            if source is not None:  # where there is no key, the message says where it was looked for
                hint = None if status is None else f"check the key in {source.shown}"
            elif endpoint is not None and endpoint.key_variable is not None:
                hint = f"set {endpoint.key_variable}" if status is None else f"check the key in {endpoint.key_variable}"
        case errors.RateLimitError(retry_after=float() | int() as seconds):
            hint = f"wait {seconds:g} s and try again"
        case errors.BudgetExceededError(reason="price"):
            hint = 'leave --budget out, or set client.budget.unpriced = "allow" (VEYRA_CLIENT_BUDGET_UNPRICED=allow)'
        case errors.CallTimeoutError(phase="total"):
            hint = "allow more with --timeout SECONDS"
        case _:
            pass
    if isinstance(error, errors.ProviderError) and error.ambiguous:
        billed = "the provider may have done the work, and may bill it"
        return billed if hint is None else f"{hint}; {billed}"
    return hint
