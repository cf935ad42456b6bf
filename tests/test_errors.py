from __future__ import annotations

import copy
import pickle

import pytest

from veyra import errors
from veyra.types import ModelResponse

RESPONSE = ModelResponse("hello", "m", "b", 1.0, 7, 2, "req-1")


def _made(kind: type[errors.VeyraError]) -> errors.VeyraError:
    if issubclass(kind, errors.CallTimeoutError):
        return kind("slow", phase="total", limit=3.5)
    if issubclass(kind, errors.OutputMismatchError):
        return kind("wrong", response=RESPONSE, partial="he")
    if issubclass(kind, errors.AuditWriteError):
        return kind("full", response=RESPONSE)
    if issubclass(kind, errors.ToolRunError):
        return kind("enough", reason="steps")
    if issubclass(kind, errors.ProviderError):
        return kind("no", provider="p", status=429, retry_after=2.0, request_id="r", partial="he")
    return kind("no")


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.VeyraError)]
)
def test_an_error_goes_through_pickle_whole(kind: type[errors.VeyraError], again: object) -> None:
    """Every error can be copied and sent to another process, with all that it says."""
    error = _made(kind)
    assert callable(again)
    other = again(error)
    assert type(other) is kind
    assert (str(other), other.args) == (str(error), error.args)
    assert vars(other) == vars(error)
