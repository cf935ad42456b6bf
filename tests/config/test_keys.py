"""The table of settings: its variables, its documentation, and the values that it is for."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from veyra import config
from veyra.audit import AuditLog
from veyra.audit.modes import MODES, ON_FAILURE
from veyra.config.document import check
from veyra.config.files import Bytes, Place
from veyra.config.keys import KEY_SOURCES, KEYS, VARIABLES, variable, written
from veyra.config.kinds import shown
from veyra.models.endpoints import ENDPOINTS
from veyra.models.wire import WireBackend
from veyra.policy.breaker import Breaker
from veyra.policy.budget import Budget
from veyra.policy.fallback import Fallback
from veyra.policy.limits import Limits
from veyra.policy.retry import Ambiguous, Retry
from veyra.policy.routing import Order

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "reference" / "configuration.md").read_text()
PAGES = [
    ROOT / "docs" / "reference" / "configuration.md",
    ROOT / "docs" / "how-to" / "configure.md",
    ROOT / "docs" / "reference" / "client.md",
]


@pytest.mark.parametrize("name", KEYS)
def test_every_setting_is_documented_as_it_is(name: tuple[str, ...]) -> None:
    """The reference has a row for each setting, with meaning, type, default and variable."""
    key = KEYS[name]
    default = "" if key.default is None else f"`{shown(key.default)}`"
    row = f"| `{name[-1] if '*' in name else written(name)}` | {key.what} | {key.kind.expected} | {default} |"
    assert f"\n{row}{'' if '*' in name else f' `{variable(name)}` |'}\n" in PAGE


def test_every_other_variable_is_documented() -> None:
    """Each variable of Veyra that the source names is that of a setting, or is in the table of the others."""
    for name, what in VARIABLES.items():
        assert f"\n| `{name}` | {what} |\n" in PAGE
    named: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r"\bVEYRA_[A-Z_]+\b", path.read_text()))
    assert named <= {*VARIABLES, *filter(None, map(variable, KEYS))}


def test_every_variable_stands_for_one_setting() -> None:
    """No two settings share a variable, and a key has none: whose it is would not show."""
    variables = [variable(name) for name in KEYS if variable(name)]
    assert len(set(variables)) == len(variables)
    assert not [name for name in KEYS if "*" in name and variable(name)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_the_pages_show_are_right(page: Path) -> None:
    """What a page shows of a file of settings can be copied from it."""
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        found = check(Place(page, "user"), Bytes(block.encode(), is_private=True))
        assert found.problems == ()
        assert found.settings


def test_the_settings_of_the_log_are_those_of_the_log() -> None:
    """What is set of the log is what `AuditLog` takes, in its words."""
    taken = inspect.signature(AuditLog.__init__).parameters
    ours = {name[1] for name in KEYS if name[0] == "audit"}
    assert ours == {"dir" if name == "directory" else name for name in taken} - {"self"}
    assert KEYS["audit", "mode"].kind.expected == f"one of {', '.join(MODES)}"
    assert KEYS["audit", "on_failure"].kind.expected == f"one of {', '.join(ON_FAILURE)}"
    shared = inspect.signature(AuditLog.shared).parameters
    assert set(config.load().audit_manner()) == set(shared) - {"directory"}
    for name in ("mode", "on_failure"):
        assert KEYS["audit", name].default == taken[name].default


def test_the_settings_of_a_backend_are_options_of_it() -> None:
    """What is set of a backend is what the backends on the network take, besides where its key is."""
    taken = set(inspect.signature(WireBackend).parameters)
    ours = {name[2] for name in KEYS if name[0] == "backends"}
    assert ours - taken == {"options", *KEY_SOURCES} - {"api_key"}
    assert taken - ours == {"endpoint", "transport", "facts"}
    apis = {api for endpoint in ENDPOINTS.values() for api in endpoint.apis}
    assert KEYS["backends", "*", "api"].kind.expected == f"one of {', '.join(sorted(apis))}"


@pytest.mark.parametrize(
    ("table", "kind"), [("retry", Retry), ("breaker", Breaker), ("limits", Limits), ("budget", Budget)]
)
def test_the_settings_of_a_policy_are_its_fields(table: str, kind: type[Retry | Breaker | Limits | Budget]) -> None:
    """Each table of a client has the fields of its policy, with their defaults, and its values make the policy."""
    ours = {name[2]: key for name, key in KEYS.items() if name[:2] == ("client", table)}
    assert {name: key.default for name, key in ours.items()} == {one.name: one.default for one in fields(kind)}
    text = "".join(f"client.{table}.{name} = {shown(key.default or 1)}\n" for name, key in ours.items())
    found = check(Place(Path("/p/veyra.toml"), "user"), Bytes(text.encode(), is_private=True))
    assert found.problems == ()
    kind(**{setting.name[-1]: setting.value for setting in found.settings})  # type: ignore[arg-type]  # checked


def test_the_words_of_a_client_are_those_of_its_policies() -> None:
    """What can be chosen of a client's policies can be set."""
    assert KEYS["client", "retry", "ambiguous"].kind.expected == f"one of {', '.join(get_args(Ambiguous))}"
    assert KEYS["client", "routing"].kind.expected == f"one of {', '.join(get_args(Order))}"
    assert {name[2] for name in KEYS if name[:2] == ("client", "fallback")} == {
        one.name for one in fields(Fallback)
    } - {"accept"}
