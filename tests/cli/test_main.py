from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

import veyra as package

Run = Callable[..., Result]
COMMANDS = [
    ["generate"],
    ["backends"],
    ["health"],
    ["audit"],
    ["audit", "list"],
    ["audit", "show"],
    ["audit", "verify"],
]


@pytest.mark.parametrize("words", [[], *COMMANDS])
def test_every_command_has_a_help_with_an_example(veyra: Run, words: list[str]) -> None:
    """`--help` explains each command and shows how it is typed."""
    result = veyra(*words, "--help")
    assert result.exit_code == 0
    assert "Example:\n    veyra " in result.stdout


def test_the_help_lists_every_command(veyra: Run) -> None:
    """The list of commands, which is kept beside them, names each with a line of what it does."""
    top = veyra("--help").stdout
    below = veyra("audit", "--help").stdout
    for *group, name in COMMANDS:
        assert f"\n  {name} " in (below if group else top)


def test_the_version_is_the_package_s(veyra: Run) -> None:
    """`--version` prints name and version."""
    assert veyra("--version").stdout == f"veyra {package.__version__}\n"


@pytest.mark.parametrize("words", [["genrate"], ["audit", "verfy"], ["--no-such"]])
def test_an_unknown_command_or_option_is_wrong_use(veyra: Run, words: list[str]) -> None:
    """What is not known ends with 2; a near name is proposed."""
    result = veyra(*words)
    assert result.exit_code == 2
    assert "No such" in result.stderr
