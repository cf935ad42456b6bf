"""The conformance suite under pytest: subclass `BackendContract`, and every check is a test.

class TestMyBackend(BackendContract):
    speaks = "openai_chat"            # leave it out for a backend that does not talk HTTP

    def make(self, **options):
        return MyBackend(**options)   # base_url, api_key and model, where `speaks` is set
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from veyra.models.base import BaseModelBackend
from veyra.testing.conformance import Check, Speaks, Subject, checks, result_of


class BackendContract:
    """What a backend must do, as tests of the class that is derived from this.

    Attributes:
        speaks: the format in which the backend talks HTTP; None where it does not, or in another.
        excused: checks that the backend does not pass yet, by name, each with its reason. They are expected to fail, and one
            that passes is a failure: an excuse that is no longer needed goes.
    """

    speaks: ClassVar[Speaks | None] = None
    excused: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def make(self, **options: Any) -> BaseModelBackend:  # noqa: ANN401  (the backend's own options)
        """Return a new backend; where `speaks` is set, `options` are `base_url`, `api_key` and `model`."""

    def test_excuses_name_checks(self) -> None:
        """Every excuse is for a check that there is."""
        unknown = set(self.excused) - {check.name for check in checks()}
        assert not unknown, f"there is no check {', '.join(sorted(unknown))}"

    @pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
    def test_conforms(self, check: Check, request: pytest.FixtureRequest) -> None:
        """The backend passes the check."""
        result = result_of(check, Subject(make=self.make, speaks=self.speaks))
        if check.name in self.excused:
            request.applymarker(pytest.mark.xfail(reason=self.excused[check.name], strict=True))
        if result.verdict == "not applicable":
            pytest.skip(result.reason)
        if result.verdict == "failed":
            pytest.fail(f"{check.says}\n{result.reason}", pytrace=False)
