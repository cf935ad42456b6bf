"""On which line of a TOML text each key stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.config.lines import Name, lines

DOCUMENT = '''\
# a comment = 1
title = "a # [no] = comment"  # [neither]
"quoted.key" = 1
'lit"eral' . deep = 2
"\\u0061scii" = 3
text = """
[not.a.table]
no = "key"
"""
raw = \'\'\'
also = 'no key'
\'\'\'
ends = """two quotes"""""
when = 1979-05-27 07:32:00  # a date
list = [
  1,
  # 2,
  [ "]" ],
  { inner = 3 },
]
inline = { a = 1, b.c = [{ d = 2 }] }

[one.two]
key = 1

[ one . "th.ree" ]
key = 2

[[many]]
key = 1
[many.sub]
key = 2
[[many]]
[[many.deep]]
key = 3
'''
EXPECTED: dict[Name, int] = {
    ("title",): 2,
    ("quoted.key",): 3,
    ('lit"eral',): 4,
    ('lit"eral', "deep"): 4,
    ("ascii",): 5,
    ("text",): 6,
    ("raw",): 10,
    ("ends",): 13,
    ("when",): 14,
    ("list",): 15,
    ("list", 0): 16,
    ("list", 1): 18,
    ("list", 1, 0): 18,
    ("list", 2): 19,
    ("list", 2, "inner"): 19,
    ("inline",): 21,
    ("inline", "a"): 21,
    ("inline", "b"): 21,
    ("inline", "b", "c"): 21,
    ("inline", "b", "c", 0): 21,
    ("inline", "b", "c", 0, "d"): 21,
    ("one",): 23,
    ("one", "two"): 23,
    ("one", "two", "key"): 24,
    ("one", "th.ree"): 26,
    ("one", "th.ree", "key"): 27,
    ("many",): 29,
    ("many", 0): 29,
    ("many", 0, "key"): 30,
    ("many", 0, "sub"): 31,
    ("many", 0, "sub", "key"): 32,
    ("many", 1): 33,
    ("many", 1, "deep"): 34,
    ("many", 1, "deep", 0): 34,
    ("many", 1, "deep", 0, "key"): 35,
}


def _names(value: Any, name: Name = ()) -> Iterator[Name]:
    """Every place in a parsed document."""
    if name:
        yield name
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, below in items:
        yield from _names(below, (*name, part))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_key_is_found_on_its_line(newline: str) -> None:
    """Comments, strings over several lines, dates, arrays and inline tables do not fool the scan."""
    document = DOCUMENT.replace("\n", newline)
    assert set(_names(tomllib.loads(document))) == set(EXPECTED)
    assert lines(document) == EXPECTED


def test_an_empty_text_has_no_key() -> None:
    """A text without a key has no lines to tell."""
    assert lines("") == lines(" \n# a comment") == {}


# -------------------------------------------------------------------------------------- texts nobody thought of

KEYS = st.one_of(
    st.from_regex(r"\A[A-Za-z0-9_-]{1,4}\Z"),
    st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=4),
)
TRICKY = ["", "x", "# no", "[t]", 'a = "b"', "'", '"', "'''x", "a]b", "{a}", ",", "\\", "é☃"]
BASIC = st.sampled_from(TRICKY).map(json.dumps)
LITERAL = st.sampled_from([text for text in TRICKY if "'" not in text]).map("'{}'".format)
LONG_BASIC = st.lists(
    st.sampled_from(["a = 1", "[t]", '"', '""', "\\\\", '\\"', "'''", "# x", "]", ""]), max_size=4
).map(lambda rows: '"""\n' + "\n".join(rows) + ' """')
LONG_LITERAL = st.lists(st.sampled_from(["a = 1", "[t]", '"""', "'", "''", "\\", "# x", ""]), max_size=4).map(
    lambda rows: "'''" + "\n".join(rows) + " '''"
)
ENDS = st.sampled_from(['"""a"""', '"""a""""', '"""a"""""', "'''a''''", "'''a'''''", '""""""', "''''''", '"""\\""""'])
NUMBERS = st.sampled_from(
    ["1", "-1.5e3", "true", "inf", "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "0x_f".replace("_", "")]
)
SCALARS = st.one_of(BASIC, LITERAL, LONG_BASIC, LONG_LITERAL, ENDS, NUMBERS)
GAPS = st.sampled_from(["", " ", "\n", " # ]} comment\n", "\n\n  "])
BLANKS = st.sampled_from(["", " ", "\t"])


class _Writer:
    """Writes a document and notes where it puts each key."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.text = ""
        self.lines: dict[Name, int] = {}

    def note(self, name: Name) -> None:
        for length in range(1, len(name) + 1):
            self.lines.setdefault(name[:length], self.text.count("\n") + 1)

    def key(self, parts: tuple[str, ...]) -> None:
        dot = self.draw(BLANKS) + "." + self.draw(BLANKS)
        self.text += dot.join(map(self.part, parts)) + self.draw(BLANKS)

    def part(self, part: str) -> str:
        bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
        if bare and self.draw(st.booleans()):
            return part
        if part.isprintable() and "'" not in part and self.draw(st.booleans()):
            return f"'{part}'"
        return json.dumps(part).replace("\x7f", "\\u007f")

    def pairs(self, table: Name, depth: int, separator: str) -> None:
        names = self.draw(st.lists(KEYS, max_size=3, unique=True))
        for number, first in enumerate(names):
            if number:
                self.text += separator
            parts = (first, *self.draw(st.lists(KEYS, max_size=1)))
            self.note((*table, *parts))
            self.key(parts)
            self.text += "=" + self.draw(BLANKS)
            self.value((*table, *parts), depth)

    def value(self, name: Name, depth: int) -> None:
        form = self.draw(st.sampled_from(["scalar", "scalar", "array", "inline"])) if depth else "scalar"
        if form == "scalar":
            self.text += self.draw(SCALARS)
        elif form == "array":
            self.text += "[" + self.draw(GAPS)
            count = self.draw(st.integers(0, 3))
            for number in range(count):
                self.note((*name, number))
                self.value((*name, number), depth - 1)
                last = number == count - 1
                self.text += self.draw(GAPS) + ("," if not last or self.draw(st.booleans()) else "") + self.draw(GAPS)
            self.text += "]"
        else:
            self.text += "{ "
            self.pairs(name, depth - 1, ", ")
            self.text += " }"

    def document(self) -> None:
        self.text += self.draw(GAPS)
        self.pairs((), 2, "\n")
        for number in range(self.draw(st.integers(0, 4))):
            head = f"table{number}"
            elements = self.draw(st.integers(0, 2))
            for element in range(elements or 1):
                self.text += "\n" + self.draw(BLANKS)
                name: Name = (head, element) if elements else (head,)
                self.note(name)
                self.text += "[[" if elements else "["
                self.key((head,))
                self.text += ("]]" if elements else "]") + self.draw(st.sampled_from(["", " # [x]"])) + "\n"
                self.pairs(name, 2, "\n" + self.draw(BLANKS))
                self.text += "\n"
                self.note((*name, "be low", "x"))
                self.text += f"[{head} . 'be low' . x]\n"
                self.pairs((*name, "be low", "x"), 1, "\n")


@given(st.data())
def test_what_was_written_is_found_where_it_was_written(data: st.DataObject) -> None:
    """Whatever a valid document is made of, each of its keys, tables and elements is told on its own line."""
    writer = _Writer(data)
    writer.document()
    document = tomllib.loads(writer.text)
    assert set(_names(document)) == set(writer.lines)
    assert lines(writer.text) == writer.lines


def test_a_long_text_takes_its_length_in_time() -> None:
    """Fifty thousand keys are found at once: the text is walked once, and its lines counted once."""
    text = "\n".join(f"k{number} = '''\n'''" for number in range(50_000))
    assert lines(text)["k49999",] == 99_999
