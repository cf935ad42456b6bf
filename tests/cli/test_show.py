from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.cli import show


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _become_terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    """Make standard output a terminal; to be called by the test itself, as pytest changes streams between phases."""
    stream = _Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_control_characters_do_not_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each control character but newline and tab shows as a symbol."""
    terminal = _become_terminal(monkeypatch)
    show.answer("a\tb\n\x1b]0;title\x07\r\x9b31m\x7f\x00")
    assert terminal.getvalue() == "a\tb\n␛]0;title␇␍\N{REPLACEMENT CHARACTER}31m␡␀"


@given(st.text())
def test_a_line_is_one_printable_line(text: str) -> None:
    """Whatever text is made printable, it has no control character, no newline and no invisible character left."""
    assert show.printable(text).isprintable()


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as their widest cell, numbers set to the right, and lines have no blanks at their end."""
    show.table(("NAME", "COUNT#", "NOTE"), [("a", "1", ""), ("longer", "1,000", "x\ny")])
    assert capsys.readouterr().out == "NAME    COUNT  NOTE\na           1\nlonger  1,000  x␊y\n"


def test_colour_is_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line is coloured on a terminal, but not where NO_COLOR is set, and never in a pipe."""
    show.line("fine", "green")
    assert capsys.readouterr().out == "fine\n"
    terminal = _become_terminal(monkeypatch)
    show.line("fine", "green")
    monkeypatch.setenv("NO_COLOR", "1")
    show.line("fine", "green")
    assert terminal.getvalue() == "\x1b[32mfine\x1b[0m\nfine\n"


def test_a_closed_stream_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the shell closed standard output, printing does nothing."""
    monkeypatch.setattr(sys, "stdout", None)
    show.answer("text")
    show.line("text")
