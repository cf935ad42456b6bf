"""Tells at the end of a run how many recorded exchanges were compared."""

from __future__ import annotations

from collections import Counter

import pytest

TALLY = pytest.StashKey[Counter[tuple[str, str]]]()
"""Exchanges by dialect and result: equal, excused or different."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(TALLY, Counter())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash.get(TALLY, Counter())
    for dialect in sorted({dialect for dialect, _ in tally}):
        counts = {result: tally[dialect, result] for result in ("equal", "excused", "different")}
        told = ", ".join(f"{number} {result}" for result, number in counts.items())
        terminalreporter.write_line(f"recorded exchanges, {dialect}: {sum(counts.values())} run, {told}")


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Counter[tuple[str, str]]:
    """The counts of recorded exchanges, told at the end of the run."""
    return pytestconfig.stash.setdefault(TALLY, Counter())
