"""The README and the documentation: what they show runs, what they name exists, what exists is named."""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import veyra
from veyra import errors, types
from veyra.cli.main import cli
from veyra.config import document
from veyra.config.files import Bytes, Place
from veyra.models import registry
from veyra.models.endpoints import ENDPOINTS
from veyra.models.wire import WireBackend

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"])
DECISIONS = sorted((ROOT / "docs" / "adr").glob("0*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_BLOCK = re.compile(
    r"(?:<!-- (?P<help>veyra[^>]*) --help -->\n)?^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; `expected` is what a block of text right after it says that it prints."""

    language: str
    text: str
    line: int
    help: str | None
    expected: str | None = None


def blocks(page: Path) -> list[Block]:
    """Return a page's blocks in order."""
    text = page.read_text()
    found = list(_BLOCK.finditer(text))
    result = []
    for match, following in zip_longest(found, found[1:]):
        directly = following is not None and not text[match.end() : following.start()].strip()
        output = following["text"] if following is not None and directly and following["language"] == "text" else None
        line = text.count("\n", 0, match.start()) + 2
        result.append(Block(match["language"], match["text"], line, match["help"], output))
    return result


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from _commands(below, f"{name} {word}")


COMMANDS = dict(_commands(cli, "veyra"))
RUNNING = [
    name
    for name, page in zip(NAMES, PAGES, strict=True)
    if page not in DECISIONS and {block.language for block in blocks(page)} & {"python", "sh"}
]
"""Pages with something to run. A decision is a text of its day, and its code a sketch."""


@pytest.fixture(scope="module")
def providers() -> Iterator[str]:
    """Run the stand-in for three providers and return its address."""
    command = [sys.executable, str(ROOT / "examples" / "loopback_providers.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture
def reader(providers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where a reader stands who has set up the three providers: an own directory, keys, addresses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VEYRA_CONFIG")
    for name in ("OPENAI", "ANTHROPIC", "OLLAMA"):
        monkeypatch.setenv(f"{name}_API_KEY", "no-real-key")
    monkeypatch.delenv("VEYRA_SHARED", raising=False)  # of the tests, and none of the settings
    monkeypatch.setenv("OPENAI_BASE_URL", f"{providers}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", providers)
    monkeypatch.setenv("OLLAMA_HOST", providers)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def _run_python(block: Block, page: Path, names: dict[str, Any]) -> str:
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, names)
    return output.getvalue()


def _run_shell(block: Block) -> str:
    result = subprocess.run(
        ["sh", "-eu", "-c", block.text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=45,
        check=False,
    )
    assert result.returncode == 0, f"line {block.line}: {result.stdout}"
    return result.stdout


@pytest.mark.timeout(120)  # a page starts a dozen commands, one after the other
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("name", RUNNING)
def test_a_page_does_what_it_shows(name: str) -> None:
    """The Python and shell blocks of a page run in their order and print what the page says they print."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(ROOT / name):
        if block.language == "python":
            output = _run_python(block, ROOT / name, names)
        elif block.language == "sh":
            output = _run_shell(block)
        else:
            continue
        if block.expected is not None:
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(block.expected, output, flags), f"line {block.line}: {output}"


def test_every_block_says_what_it_is() -> None:
    """Every block is of a kind that is run, compared, or plainly not to be run."""
    known = {"python", "sh", "text", "toml", "console"}
    strange = [f"{page}:{block.line}" for page in PAGES for block in blocks(page) if block.language not in known]
    assert strange == []


def test_what_is_shown_as_output_is_compared() -> None:
    """A block of text is a help page or stands right behind what prints it; the rest is listed here, with its reason."""
    strange = []
    for name, page in zip(NAMES, PAGES, strict=True):
        printed = None
        for block in blocks(page):
            if block.language == "text" and not block.help and block.text != printed:
                strange.append(f"{name}: {block.text.splitlines()[0]}")
            runs = name in RUNNING and block.language in {"python", "sh"}
            printed = block.expected if runs else None
    assert strange == [
        "CONTRIBUTING.md: cli/                      the command; show.py is the only module that prints",  # a drawing
        "docs/how-to/operate-the-log.md: it has 10 entries, but 14 were signed: it was rolled back.",  # takes a disaster
    ]


def test_settings_that_are_shown_are_right(tmp_path: Path) -> None:
    """Each block of TOML is what it is for: settings without a fault, replies of the mock, or a table of pyproject.toml."""
    seen = {"settings": 0, "replies": 0, "pyproject": 0}
    for page in PAGES:
        for block in blocks(page):
            if block.language != "toml":
                continue
            keys = tomllib.loads(block.text).keys()
            path = tmp_path / "shown.toml"
            path.write_text(block.text)
            if keys <= {"project", "tool"}:
                seen["pyproject"] += 1
            elif keys == {"reply"}:
                seen["replies"] += 1
                assert veyra.MockBackend.from_file(path)
            else:
                seen["settings"] += 1
                found = document.check(Place(path, "user"), Bytes(block.text.encode(), is_private=True))
                assert list(map(str, found.problems)) == []
                assert found.settings
    assert min(seen.values()) > 0


def _shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield where a command is shown that is not run, and its words, up to the first redirection."""
    for name, page in zip(NAMES, PAGES, strict=True):
        for block in blocks(page):
            if block.language == "console":
                lines = re.findall(r"^\$ (veyra .*)$", block.text, re.MULTILINE)
                yield from ((name, shlex.split(line)) for line in lines)
    for name, command in COMMANDS.items():
        example = (command.help or "").partition("Example:\n")[2].replace("\\\n", " ")
        for line in re.findall(r"^ *(veyra .*)$", example, re.MULTILINE):
            words = shlex.split(line)
            yield f"{name} --help", list(itertools.takewhile(lambda word: word[0] not in "|<>", words))


class _ReadersFileError(Exception):
    """A command names a file that only its reader has."""


def _given(command: click.Command, words: list[str]) -> None:
    try:
        command.make_context(command.name, words, **cli.context_settings).close()
    except click.BadParameter as error:
        if "does not exist" in error.message:
            raise _ReadersFileError from error
        raise


def test_commands_that_are_shown_and_not_run_can_be_given() -> None:
    """Their options and arguments are those of the command: in blocks that show a dialogue, and in every help page."""
    seen = set()
    for place, words in _shown_commands():
        seen.add(place)
        name = next(" ".join(words[:n]) for n in range(len(words), 0, -1) if " ".join(words[:n]) in COMMANDS)
        assert not isinstance(COMMANDS[name], click.Group), (place, words)
        with contextlib.suppress(_ReadersFileError):
            _given(COMMANDS[name], words[len(name.split()) :])
    assert {"docs/how-to/chat.md", "docs/testing/server.md", "veyra --help", "veyra chat --help"} <= seen


def test_the_scripts_that_are_named_are_there() -> None:
    """Each command of a console block that lies in the repository is there and can be run."""
    lines = [
        line
        for page in PAGES
        for block in blocks(page)
        if block.language == "console"
        for line in block.text.splitlines()
    ]
    scripts = {match[1] for line in lines if (match := re.match(r"\$ ((?:\./|\.ci/)\S+)", line))}
    assert {"./scripts/demo", "./scripts/test"} <= scripts
    assert [script for script in scripts if not os.access(ROOT / script, os.X_OK)] == []


def test_the_readme_starts_with_the_demo_and_the_tests() -> None:
    """The first two commands of the README are the demo and the tests."""
    first = next(block for block in blocks(ROOT / "README.md") if block.language == "console")
    assert first.text == "$ ./scripts/demo\n$ ./scripts/test\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_shown_as_it_is(command: str) -> None:
    """The command's reference shows the help of every command, letter by letter; so does the README for the first."""
    result = CliRunner().invoke(cli, [*command.split()[1:], "--help"], prog_name="veyra", terminal_width=80)
    shown = [block.text for block in blocks(ROOT / "docs" / "reference" / "cli.md") if block.help == command]
    assert shown == [result.output]
    if command == "veyra":
        assert [block.text for block in blocks(ROOT / "README.md") if block.help] == [result.output]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    """Every link within the repository leads to a file that is there, and to a heading that is in it."""
    page = ROOT / name
    for path, anchor in _LINK.findall(_BLOCK.sub("", page.read_text())):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in _anchors(target), f"{path}#{anchor}"


def _anchors(page: Path) -> set[str]:
    prose = _BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _words(*pages: str) -> set[str]:
    """Return every identifier that stands between backticks on these pages."""
    text = "".join(_BLOCK.sub("", (ROOT / page).read_text()) for page in pages)
    return {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", span)}


def test_every_public_name_is_documented() -> None:
    """The Python reference names what `veyra` hands out, the values, their fields, and every option."""
    values = [cls for _, cls in inspect.getmembers(types, inspect.isclass) if cls.__module__ == types.__name__]
    public = {*veyra.__all__, *(cls.__name__ for cls in values), *types.Options.__annotations__}
    shown = (types.ModelResponse, types.Usage, types.Timeouts, types.Receipt, types.AttemptRecord, types.ToolCall)
    beside = (types.EmbeddingResponse, types.ModelInfo, types.TokenCount)
    public |= {field.name for cls in (*shown, *beside) for field in fields(cls) if field.name != "_"}
    public |= types.EmbedOptions.__annotations__.keys()
    public |= set(inspect.signature(WireBackend).parameters) - {"endpoint"}
    public |= {name for name, _ in inspect.getmembers(veyra.AuditLog) if not name.startswith("_")} - {
        "intent",
        "outcome",
        "blocked",
        "cache_hit",
    }
    assert public - _words("docs/reference/python.md") == set()


def test_every_error_is_documented() -> None:
    """The page of errors has every error, and of a failed attempt its kind and what is usual of it."""
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    for name, cls in inspect.getmembers(errors, inspect.isclass):
        if issubclass(cls, errors.ProviderError):
            usual = ["yes" if flag else "no" for flag in (cls.default_retryable, cls.default_ambiguous)]
            assert f"| `{name}` | `{cls.kind}` | {usual[0]} | {usual[1]} |" in page
        else:
            assert f"`{name}`" in page


def test_every_variable_is_documented() -> None:
    """The reference lists every environment variable that the source names."""
    named = {row for e in ENDPOINTS.values() for row in (e.key_variable, e.base_url_variable) if row}
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r"\b(?:VEYRA_[A-Z_]+|NO_COLOR)\b", path.read_text()))
    assert named - _words(*(f"docs/reference/{page}.md" for page in ("python", "backends", "configuration"))) == set()


def test_every_backend_is_documented() -> None:
    """The page of backends has a row for each built-in one, and no other, with its variables; the README's are among them."""
    page = (ROOT / "docs" / "reference" / "backends.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \|(.+)$", page, re.MULTILINE))
    assert set(rows) == {"mock", *ENDPOINTS}
    for name, endpoint in ENDPOINTS.items():
        variables = {endpoint.key_variable, endpoint.base_url_variable} - {None}
        assert set(re.findall(r"`([A-Z_]+)`", rows[name])) == variables
    in_readme = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(in_readme) <= set(rows)


def test_a_backend_fits_on_a_page() -> None:
    """The backend that the how-to shows, registered and asked, takes at most 25 lines."""
    shown = blocks(ROOT / "docs" / "how-to" / "write-a-backend.md")[0]
    assert len([line for line in shown.text.splitlines() if line.strip()]) <= 25


def test_the_entry_point_is_the_one_that_is_read() -> None:
    """The how-to's entry point stands in the group that the registry reads."""
    page = blocks(ROOT / "docs" / "how-to" / "write-a-backend.md")
    shown = next(block for block in page if block.language == "toml")
    assert list(tomllib.loads(shown.text)["project"]["entry-points"]) == [registry.GROUP]


def test_versions_agree() -> None:
    """The package, pyproject.toml and the head of the changelog name the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert veyra.__version__ == project["version"] == newest[1]


def test_every_dependency_has_its_reason() -> None:
    """docs/dependencies.md names every requirement of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    page = (ROOT / "docs" / "dependencies.md").read_text()
    wanted = [
        *project["project"]["dependencies"],
        *(r for group in project["dependency-groups"].values() for r in group if isinstance(r, str)),
    ]
    names = [re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in wanted]
    assert [name for name in names if not re.search(rf"^\|[^|]*\b{re.escape(name)}\b", page, re.MULTILINE)] == []


def test_every_decision_is_listed_and_whole() -> None:
    """Each decision is in the index, and says its status, date, context, decision, consequences and alternatives."""
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    for decision in DECISIONS:
        assert f"({decision.name})" in index
        text = decision.read_text().lower()
        for part in ("status", "date", "context", "decision", "consequences", "alternatives considered"):
            assert f"\n## {part}\n" in text, (decision.name, part)
