"""The mock's script: which answer a request gets.

1. A script is a list of rules. The first rule that fits a request, and is not used up, answers it.
2. What is compared is the text of the conversation's last user message: the results of tools do not change it.
3. A rule with a prompt fits that text alone; one with a pattern, every text in which the pattern is found; one with neither,
   every text.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from heapq import nlargest
from threading import Lock
from typing import Protocol, TypeAlias, cast

from veyra.errors import InvalidRequestError, excerpt
from veyra.models.mock_reply import Scripted, is_scripted
from veyra.types import Request

Answering: TypeAlias = Callable[[Request], Scripted | Awaitable[Scripted | None] | None]
"""A function that answers a request; None is the mock's own answer."""
Entry: TypeAlias = Scripted | Answering
_Entries: TypeAlias = Entry | Sequence[Entry]
Keyed: TypeAlias = Mapping[str | re.Pattern[str], _Entries]
Replies: TypeAlias = "_Entries | Keyed | _Keyed"

_COMPARED = 300
"""Characters that are compared to find what is nearest."""


class _Keyed(Protocol):
    """A mapping by prompts alone or by patterns alone, which is none by either to a type checker."""

    def items(self) -> Iterable[tuple[str | re.Pattern[str], _Entries]]:
        """Return keys and entries."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An answer, and the requests that it answers.

    Attributes:
        answer: the answer, or a function that gives it.
        prompt: fits the request with exactly this text.
        pattern: fits the requests in whose text it is found.
        times: how often it answers; None is without limit.
    """

    answer: Entry
    prompt: str | None = None
    pattern: re.Pattern[str] | None = None
    times: int | None = None

    def __str__(self) -> str:
        if self.prompt is not None:
            return repr(excerpt(self.prompt[:_COMPARED]))
        return "any prompt" if self.pattern is None else f"/{excerpt(self.pattern.pattern[:_COMPARED])}/"

    @property
    def key(self) -> str | None:
        """What a request's text is compared with; None where any fits."""
        return self.prompt if self.pattern is None else self.pattern.pattern

    def fits(self, text: str) -> bool:
        """Tell whether a request with this text may be answered so."""
        if self.pattern is not None:
            return self.pattern.search(text) is not None
        return self.prompt is None or self.prompt == text


class Script:
    """Rules, and how often each has answered. Safe to use from several threads."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._live = list(self._rules)
        self._left = {id(rule): rule.times for rule in rules}
        self._used: set[int] = set()
        self._asked = 0
        self._lock = Lock()

    def take(self, request: Request) -> Entry:
        """Return what answers a request.

        Raises:
            InvalidRequestError: nothing does; the message names the rules that come nearest.
        """
        text = text_of(request)
        with self._lock:
            self._asked += 1
            for place, rule in enumerate(self._live):
                if rule.fits(text):
                    self._use(rule, place)
                    return rule.answer
            raise InvalidRequestError(self._complaint(text))

    def unused(self) -> list[Rule]:
        """Return the rules that have not answered, or not as often as they can, in their order."""
        return [rule for rule in self._rules if id(rule) not in self._used or self._left[id(rule)]]

    def _use(self, rule: Rule, place: int) -> None:
        self._used.add(id(rule))
        left = self._left[id(rule)]
        if left is not None:
            self._left[id(rule)] = left - 1
            if left == 1:
                del self._live[place]

    def _complaint(self, text: str) -> str:
        if all(rule.key is None for rule in self._rules):
            replies = sum(rule.times or 0 for rule in self._rules)
            return f"the mock has {replies} replies and was called {self._asked} times"
        keys = {str(rule): rule for rule in self._rules}
        near = nlargest(3, keys, key=lambda name: _likeness(keys[name].key or "", text))
        shown = [f"{name} (used up)" if keys[name].fits(text) else name for name in near]
        return f"the mock has no reply for {excerpt(text[:_COMPARED])!r}; nearest of its {len(keys)} rules: {', '.join(shown)}"


def rules_of(replies: object) -> list[Rule]:
    """Return the rules that some replies stand for.

    Raises:
        InvalidRequestError: they are of another type.
    """
    if _answers(replies):
        return [Rule(answer=cast("Entry", replies))]
    if isinstance(replies, Mapping):
        return [rule for key, answer in replies.items() for rule in _keyed(key, answer)]
    return [Rule(answer=entry, times=1) for entry in _entries(replies)]


def text_of(request: Request) -> str:
    """Return the text of a request's last user message, or of its last message where it has none of a user.

    A request without a message, which a server may be sent, has its system text.
    """
    asked = [message for message in request.messages if message.role == "user"] or request.messages
    return asked[-1].text if asked else request.system or ""


def _keyed(key: object, answer: object) -> Iterator[Rule]:
    if not isinstance(key, str | re.Pattern) or (isinstance(key, re.Pattern) and isinstance(key.pattern, bytes)):
        msg = f"replies are found by a prompt (a str) or a pattern (re.compile of a str), not by {key!r:.80}"
        raise InvalidRequestError(msg)
    pattern, prompt = (key, None) if isinstance(key, re.Pattern) else (None, key)
    if _answers(answer):
        yield Rule(answer=cast("Entry", answer), prompt=prompt, pattern=pattern)
        return
    for entry in _entries(answer):
        yield Rule(answer=entry, prompt=prompt, pattern=pattern, times=1)


def _answers(value: object) -> bool:
    """Tell whether a value is an answer, or a function that gives one; a class is neither."""
    return is_scripted(value) or (callable(value) and not isinstance(value, type))


def _entries(replies: object) -> list[Entry]:
    if not isinstance(replies, Sequence) or isinstance(replies, bytes | bytearray):
        msg = (
            "replies are a str, a MockReply, a ToolCall, a ModelResponse, an exception, a fault, a function, a sequence of them, "
            f"or a mapping from prompts and patterns to them, not {type(replies).__name__}"
        )
        raise InvalidRequestError(msg)
    for number, entry in enumerate(replies, 1):
        if not _answers(entry):
            msg = (
                f"reply {number} of the script is of the type {type(entry).__name__}, which the mock cannot answer with"
            )
            raise InvalidRequestError(msg)
    return list(replies)


def _likeness(key: str, text: str) -> float:
    return SequenceMatcher(None, key[:_COMPARED], text[:_COMPARED], autojunk=False).ratio()
