"""What is wrong with a file of settings, and on which line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import Write
from veyra import config
from veyra.config.document import check
from veyra.config.files import MAX_LINE, Bytes, Place
from veyra.config.keys import KEYS
from veyra.errors import ConfigError

SECRET = "sk-canary-81f2"
PLACE = Place(Path("/p/veyra.toml"), "user")


def _problems(text: str | bytes, *, is_private: bool = True, place: Place = PLACE) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    found = check(place, Bytes(data, is_private)).problems
    assert SECRET not in repr(found)
    return [str(problem) for problem in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bakend = 'mock'", "1: unknown key 'bakend'; did you mean 'backend' or 'backends'?"),
        ("\n[audit]\n\nmod = 'strict'", "4: unknown key 'audit.mod'; did you mean 'mode'?"),
        ("[audti]\nmode = 'strict'", "1: unknown key 'audti'; did you mean 'audit'?"),
        ("mode = 'strict'", "1: unknown key 'mode': it belongs in [audit]."),
        ("[audit]\nbackend = 'mock'", "2: unknown key 'audit.backend': it belongs at the top of the file"),
        ("base_url = 'http://h'", "1: unknown key 'base_url': it belongs in [backends.NAME]."),
        ("[backends.openai]\nbase-url = 'x'", "2: unknown key 'backends.openai.base-url'; did you mean 'base_url'"),
        ("[client.retry]\nattemps = 3", "2: unknown key 'client.retry.attemps'; did you mean 'attempts'?"),
        ("zzz = 1", "1: unknown key 'zzz'."),
        ("backend = 3", "1: backend is one line of text, which this number is not"),
        ("backend = ''", "1: backend is one line of text, which this text is not"),
        ('backend = "a\\u0000b"', "1: backend is one line of text"),
        ("audit = 'strict'", "1: audit is a table: [audit]"),
        ("[[audit]]\nmode = 'strict'", "1: audit is a table: [audit]"),
        ("[audit.mode]\nx = 1", "1: audit.mode is one of strict, ordered, async, which this table is not"),
        ("backends.openai = 1", "1: backends.openai is a table: [backends.openai]"),
        ('backends."a b" = 1', '1: backends."a b" is a table: [backends."a b"]'),
        ("[audit]\nmode = 'loose'", "2: audit.mode is one of strict, ordered, async, which this text is not"),
        ("[audit]\nany_filesystem = 1", "2: audit.any_filesystem is true or false, which this number is not"),
        ("[audit]\ndir = '~nobody-has-this-name/log'", "2: audit.dir is a path"),
        ('[audit]\ndir = "a\\u0000b"', "2: audit.dir is a path"),
        (
            "[audit]\nkey = 1979-05-27",
            "2: audit.key is a path (`~` being a home that is known), which this date or time",
        ),
        ("[client.retry]\nattempts = 0", "2: client.retry.attempts is a whole number, 1 or more, which this number is"),
        (
            "[client.retry]\nattempts = true",
            "2: client.retry.attempts is a whole number, 1 or more, which this boolean",
        ),
        ("[client.retry]\nattempts = 2.0", "2: client.retry.attempts is a whole number"),
        ("[client.retry]\nbase = nan", "2: client.retry.base is a number of 0 or more"),
        ("[client.retry]\nbase = -1", "2: client.retry.base is a number of 0 or more"),
        (f"[client.retry]\nbase = 1{'0' * 400}", "2: client.retry.base is a number of 0 or more"),
        ("[backends.x]\ntimeout = 0", "2: backends.x.timeout is a number above 0"),
        ("[client.budget]\nday = -1", "2: client.budget.day is an amount of US dollars, 0 or more, which this number"),
        ("[client.budget]\nday = 'ten'", "2: client.budget.day is an amount of US dollars"),
        ("[client.budget]\nday = 1e300", "2: client.budget.day is an amount of US dollars"),
        ("[client.budget]\nday = nan", "2: client.budget.day is an amount of US dollars"),
        ("[client]\ntargets = 'a'", "2: client.targets is a list of lines of text, which this text is not"),
        ("[client]\ntargets = ['a', 1]", "2: client.targets is a list of lines of text, which this list is not"),
        ("[backends.x]\nbase_url = 'host:80'", "2: backends.x.base_url is an http or https URL with a host"),
        (f"[backends.x]\nbase_url = 'https://u:{SECRET}@h'", "2: backends.x.base_url is an http or https URL"),
        (f"[backends.x]\nbase_url = 'https://h/?key={SECRET}'", "2: backends.x.base_url is an http or https URL"),
        ("[backends.x]\nbase_url = 'https://h:99999'", "2: backends.x.base_url is an http or https URL"),
        (f"[backends.x]\nproxy = 'socks5://u:{SECRET}@h'", "2: backends.x.proxy is the address of a proxy"),
        (f"[backends.x]\napi_key = ['{SECRET}']", "2: backends.x.api_key is a key in text: one line of ASCII, which"),
        (f'[backends.x]\napi_key = "{SECRET}\\n"', "2: backends.x.api_key is a key in text"),
        (f"[backends.x]\napi_key = '{SECRET}é'", "2: backends.x.api_key is a key in text"),
        ("[backends.x]\napi_key_keyring = 'no-colon'", "2: backends.x.api_key_keyring is service:user"),
        ("[backends.x]\napi_key_env = 'A'\napi_key_file = 'b'", "3: backends.x.api_key_file and api_key_env exclude"),
        ("[backends.x.options]\nwhen = 1979-05-27", "1: backends.x.options is a table of texts, numbers"),
        ("[backends.x.options]\nmodel = 'm'", "2: model stands outside of backends.x.options"),
        (f"[backends.x.options]\n{'a.' * 40}b = 1", "1: backends.x.options is a table of texts"),
        ("profiles = 1", "1: profiles is a table of profiles: [profiles.NAME]"),
        ("[profiles]\ntest = 1", "2: a profile is a table: [profiles.test]"),
        ("[profiles.test]\ntrusted = ['/']", "2: trusted stands at the top of a file, not in a profile"),
        ("[profiles.test.audit]\n'mod' = 1", "2: unknown key 'audit.mod'; did you mean 'mode'?"),
        ("backend = 'a'\nbackend = 'b'", "2: is not TOML: Cannot overwrite a value"),
        (f"[backends.x]\napi_key = {SECRET}", "2: is not TOML: Invalid value"),
        (f"[backends.x]\napi_key = '{SECRET}", "2: is not TOML: "),
        ("backend", "1: is not TOML: Expected '=' after a key in a key/value pair"),
        ("backend = 1\n\n[audit", "3: is not TOML: "),
        ("a = 1\nb = '\0'", "2: is not TOML: "),
        (f"a = {'1' * 1500}{'9' * 400}{SECRET}", "1: is not TOML: "),
        ("x = " + "[" * 900, "nested too deep"),
        ("x = " + "{a=" * 600, "nested too deep"),
        ("a = 1\nb = " + "1" * MAX_LINE, f"2: is longer than {MAX_LINE:,} characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, expected: str) -> None:
    """A wrong key or value is told with file, line, what would be right, and nothing of the value."""
    assert expected in _problems(text)[0]
    assert _problems(text)[0].startswith("/p/veyra.toml:")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"backend = 'mock'\n# \xff", "/p/veyra.toml:2: is not UTF-8"),
        ("backend = 'mock'".encode("utf-16"), "/p/veyra.toml:1: is not UTF-8"),
        (b"\x00" * 100, "/p/veyra.toml:1: is not TOML"),
    ],
)
def test_what_is_no_text_is_told(data: bytes, expected: str) -> None:
    """Bytes that are not UTF-8, or are no text, are told by their line."""
    assert _problems(data)[0].startswith(expected)


def test_everything_is_told_in_the_order_of_the_file() -> None:
    """All that is wrong is found at once, not the first of it only."""
    text = "[audit]\nmode = 1\ndri = 'x'\n[profiles.p.client.retry]\ncap = 'x'\n[backends.x]\nmodel = 1"
    assert [problem.split(":")[1] for problem in _problems(text)] == ["2", "3", "5", "7"]


def test_a_mark_at_the_beginning_and_other_line_ends_are_taken() -> None:
    """A file that an editor on Windows wrote is as good as any."""
    assert _problems(b"\xef\xbb\xbfbackend = 'mock'\r\n[audit]\r\nmode = 'async'\r\n") == []


def test_a_key_in_a_file_that_others_can_read_is_refused() -> None:
    """The key itself stands only where its owner alone can read it; the place of a key may stand anywhere."""
    text = f"[backends.x]\napi_key = '{SECRET}'\n[backends.y]\napi_key_env = 'X'"
    assert _problems(text) == []
    assert _problems(text, is_private=False) == [
        "/p/veyra.toml:2: backends.x.api_key stands in a file that others can read: chmod 600 it, or use api_key_env"
    ]


def test_trust_is_not_given_by_a_file_that_was_found() -> None:
    """A file that was merely found cannot say that it is trusted."""
    found = Place(Path("/p/veyra.toml"), "found")
    assert "counts in the user's own file" in _problems("trusted = ['/']", place=found)[0]
    assert _problems("trusted = ['/']") == []


def test_one_wrong_key_stops_all(write: Write) -> None:
    """Nothing of a file is used that has something wrong in it, and the error says how much more there is."""
    path = write("backend = 'mock'\n[audit]\nmod = 'x'\nmode = 1\n")
    with pytest.raises(
        ConfigError, match=r"veyra.toml:3: unknown key 'audit.mod'.* \(1 more: see veyra config"
    ) as told:
        config.load()
    assert (told.value.path, told.value.line) == (path, 3)


def test_every_setting_can_be_written(write: Write, problems: Callable[[], list[str]]) -> None:
    """A file with every setting in it is right, whatever the type."""
    samples = {
        "true or false": "false",
        "service:user": "'a:b'",
        "an http": "'https://h/v1'",
        "the address": "'http://p:3128'",
        "a list": "['a']",
        "a table": "{ a = 1, b = ['c'], d = { e = true } }",
        "an amount": "2.5",
        "a whole": "7",
        "a number": "1.5",
    }
    rows = []
    for name, key in KEYS.items():
        expected = key.kind.expected
        value = next((sample for start, sample in samples.items() if expected.startswith(start)), "'a'")
        if expected.startswith("a list of some"):
            value = f"['{expected.split()[-1]}']"
        elif expected.startswith("one of"):
            value = f"'{expected.split()[-1]}'"
        if name[-1] not in {"api_key_env", "api_key_file", "api_key_keyring", "trusted"}:
            rows.append(f"{'.'.join(name).replace('*', 'mock')} = {value}")
    write("\n".join(rows))
    assert problems() == []
    assert len(list(config.load().settings())) == len(rows)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_told(data: bytes) -> None:
    """No file raises anything: what it is, is a value."""
    check(PLACE, Bytes(data, is_private=True))


VALUES = st.recursive(
    st.one_of(st.integers(-5, 5), st.booleans(), st.sampled_from(["''", "'strict'", "1.5", "inf", "07:32:00"])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["mode", "a"]), inner, max_size=2),
    max_leaves=4,
)


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
        case _:
            return str(value)


@given(name=st.sampled_from([*KEYS, ("audit",), ("client", "retry"), ("profiles",), ("backends", "*")]), value=VALUES)
def test_any_value_of_any_key_is_taken_or_told_by_its_line(name: tuple[str, ...], value: object) -> None:
    """Whatever stands behind a key is either a setting or a problem, and both say line 2."""
    found = check(PLACE, Bytes(f"\n{'.'.join(name).replace('*', 'x')} = {_toml(value)}".encode(), is_private=True))
    told = [setting.origin for setting in found.settings] + [problem.origin for problem in found.problems]
    assert {origin.line for origin in told} <= {2}


def test_a_setting_does_not_show_its_secret(write: Write) -> None:
    """Neither the repr of what was read nor what is masked of it holds a key, a password or an option's value."""
    write(
        f"[backends.openai]\napi_key = '{SECRET}'\nproxy = 'http://me:{SECRET}@h:1'\n"
        f"[backends.shout.options]\ntoken = '{SECRET}'\n"
    )
    settings = list(config.load().settings())
    assert len(settings) == 3
    shown = [
        repr(config.load()),
        repr(config.documents()),
        repr(settings),
        *(repr(setting.masked) for setting in settings),
    ]
    assert SECRET not in "".join(shown)
    assert "'http://***@h:1'" in shown
