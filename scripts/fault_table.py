"""What the providers' own SDKs make of each fault, as a table in Markdown: see docs/testing/faults.md.

    scripts/fault-table > table.md

Each SDK, for Python and for JavaScript, meets each fault on every try of one call, streamed and not. A cell says how many times it
asked, what it raised or gave in the end, and how long that took where it was more than a second and a half. An SDK gets a timeout of two
seconds, where it takes one, and is left otherwise as it comes; who has come to no end after ten seconds is given up.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sdks import SDKS, Job, Language, MissingError, run, versions
from veyra.models.mock import MockBackend
from veyra.testing.server import FaultServer

ANSWER = "It is ☀ outside, I am told."
TIMEOUT, DEADLINE = 2.0, 10.0
SLOWER = 1.5
"""Seconds from which on a cell tells them."""

LANGUAGES: tuple[Language, ...] = ("python", "javascript")
TITLES = {
    "openai_chat": "OpenAI, Chat Completions",
    "openai_responses": "OpenAI, Responses",
    "anthropic": "Anthropic, Messages",
    "ollama": "Ollama",
}
_BOTH = (True, False)
_STREAMED = (True,)
_WHOLE = (False,)
FAULTS: dict[str, tuple[bool, ...]] = {
    "ok": _BOTH,
    "refuse": _BOTH,
    "reset": _BOTH,
    "slow-head@seconds=1": _BOTH,
    "stall": _BOTH,
    "stall@event=6": _STREAMED,
    "stall@byte=60": _BOTH,
    "ping-only@every=0.2": _BOTH,
    "cut@event=6": _STREAMED,
    "cut@byte=60": _BOTH,
    "truncate@event=6": _STREAMED,
    "truncate@byte=60": _BOTH,
    "error@event=0": _BOTH,
    "error@event=6": _STREAMED,
    "duplicate@event=6": _STREAMED,
    "reorder@event=6": _STREAMED,
    "split-utf8@seed=7": _BOTH,
    "invalid-json@event=1": _BOTH,
    "invalid-json@event=6": _STREAMED,
    "html-502": _BOTH,
    "rate-limit": _BOTH,
    "rate-limit@after=1": _BOTH,
    "rate-limit@ms=300": _BOTH,
    "rate-limit@date=2": _BOTH,
    "rate-limit@after=9999": _BOTH,
    "quota": _BOTH,
    "spend-limit": _BOTH,
    "overloaded": _BOTH,
    "failure@status=401": _BOTH,
    "failure@status=404": _BOTH,
    "content-type": _BOTH,
    "endless@every=0.05": _BOTH,
}
"""Each fault, and the answers that it is about: streamed, whole, or both. In event 6 every format is in the middle of its text."""


def main() -> int:
    """Print the table for whichever language there is."""
    told: dict[tuple[str, bool, str, Language], str] = {}
    found: dict[Language, dict[str, str]] = {}
    for language in LANGUAGES:
        try:
            found[language] = versions(language)
            told |= _cells(language)
        except MissingError as error:
            print(f"{language}: {error}", file=sys.stderr)
    for line in _page(told, found):
        print(line)
    return 0 if len(found) == len(LANGUAGES) else 1


def _cells(language: Language) -> dict[tuple[str, bool, str, Language], str]:
    """Return what came of each call; each SDK makes two before, as the first takes longer than the others."""
    cells: dict[tuple[str, bool, str, Language], str] = {}
    with FaultServer(MockBackend(ANSWER)) as server:
        warm = [(sdk, suffix, stream) for sdk, suffix in SDKS.items() for stream in _BOTH]
        jobs = [Job(id=-1, sdk=sdk, url=server.url + suffix, stream=stream) for sdk, suffix, stream in warm]
        for sdk, suffix in SDKS.items():
            for fault, modes in FAULTS.items():
                address = server.refusing_url if fault == "refuse" else server.url
                for stream in modes:
                    job = Job(id=len(jobs), sdk=sdk, url=address + suffix, stream=stream, fault=fault)
                    jobs.append(replace(job, timeout=TIMEOUT, deadline=DEADLINE))
        seen = run(language, jobs)
        tries = Counter(entry.headers.get("x-job") for entry in server.journal)
    for job in jobs[len(warm) :]:
        cells[job.sdk, job.stream, job.fault, language] = _cell(seen[job.id], tries[str(job.id)])
    return cells


def _cell(seen: dict[str, Any], tries: int) -> str:
    """Write what came of a call."""
    parts: list[str] = []
    if tries > 1:
        parts.append(f"{tries} tries")
    if seen["waits"]:
        parts.append("**no end**")
    elif seen["error"]:
        parts.append(f"`{seen['error']}`" + (f" {seen['status']}" if seen["status"] else ""))
    elif seen["finish"] in {None, "failed"}:
        parts.append(f"**no error**, finish {seen['finish'] or 'missing'}")
    elif seen["text"] == ANSWER:
        parts.append("whole")
    else:
        parts.append("**no error, wrong text**")
    if seen["text"] and seen["text"] != ANSWER:
        shown = seen["text"] if len(seen["text"]) < 40 else seen["text"][:20] + "..."
        parts.append(f'"{shown.strip()}"')
    if seen["seconds"] >= SLOWER and not seen["waits"]:
        parts.append(f"{seen['seconds']:.0f} s")
    return ", ".join(parts)


def _page(told: dict[tuple[str, bool, str, Language], str], found: dict[Language, dict[str, str]]) -> Iterable[str]:
    names = {"python": "Python", "javascript": "JavaScript"}
    for language, versions_found in found.items():
        listed = ", ".join(f"{name} {version}" for name, version in versions_found.items())
        yield f"- {names[language]}: {listed}"
    for sdk, title in TITLES.items():
        columns = [(stream, language) for stream in (True, False) for language in found]
        yield ""
        yield f"### {title}"
        yield ""
        heads = [f"{names[language]}, {'streamed' if stream else 'whole'}" for stream, language in columns]
        yield f"| fault | {' | '.join(heads)} |"
        yield "|---" * (len(columns) + 1) + "|"
        for fault in FAULTS:
            cells = [told.get((sdk, stream, fault, language), "") for stream, language in columns]
            yield f"| `{fault}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
