"""Limits: what they take, what headers tell, and that no kind of server is ever asked for more than it allows."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.limited import RULES, Rule
from veyra.errors import InvalidRequestError
from veyra.policy.gauge import Ahead, Gauge, Ticket
from veyra.policy.limits import Limits
from veyra.policy.meter import DOUBT, LAG, LONGEST, PERIOD, Hold, Meter
from veyra.policy.readings import Reading, Readings, read

CORPUS = Path(os.environ.get("VEYRA_SHARED", "../shared")) / "corpus"


# -------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"concurrency": 0}, "concurrency=...) is an int, 1 or more, or None, not 0"),
        ({"concurrency": True}, "concurrency"),
        ({"requests_per_minute": 1.5}, "requests_per_minute"),
        ({"requests_per_minute": "60"}, "requests_per_minute"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"max_wait": -1}, "max_wait"),
        ({"max_wait": math.nan}, "max_wait"),
        ({"max_wait": math.inf}, "max_wait"),
        ({"max_waiting": -1}, "max_waiting=...) is an int, 0 or more, not -1"),
        ({"max_waiting": None}, "max_waiting"),
        ({"learn": 1}, "learn=...) is True or False, not 1"),
    ],
)
def test_a_wrong_value_is_named(values: Mapping[str, Any], words: str) -> None:
    """A value of another type or out of range is an error that names it and what it was."""
    with pytest.raises(InvalidRequestError) as caught:
        Limits(**values)
    assert words in str(caught.value)


# -------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("headers", "requests", "tokens"),
    [
        ({}, None, None),
        ({"retry-after": "3"}, None, None),
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            Reading(60, 59, 1.0),
            Reading(150_000, 149_984, 360.0),
        ),
        (
            {"x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "0"},
            Reading(5, 0, None),
            None,
        ),
        ({"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "58"}, Reading(60, 58, None), None),
        (
            {"x-ratelimit-limit-tokens-minute": "60000", "x-ratelimit-reset-tokens-minute": "33.5"},
            None,
            Reading(60_000, None, 33.5),
        ),
        (
            {
                "date": "Wed, 19 Aug 2026 14:34:10 GMT",
                "anthropic-ratelimit-requests-limit": "4000",
                "anthropic-ratelimit-requests-remaining": "3999",
                "anthropic-ratelimit-requests-reset": "2026-08-19T14:34:35Z",
                "anthropic-ratelimit-tokens-limit": "4800000",
                "anthropic-ratelimit-tokens-remaining": "4800000",
                "anthropic-ratelimit-tokens-reset": "2026-08-19T14:34:10Z",
                "anthropic-ratelimit-input-tokens-limit": "4000000",
                "anthropic-ratelimit-input-tokens-remaining": "4000000",
                "anthropic-ratelimit-output-tokens-limit": "800000",
                "anthropic-ratelimit-output-tokens-remaining": "1000",
                "anthropic-ratelimit-output-tokens-reset": "2026-08-19T14:35:00Z",
            },
            Reading(4000, 3999, 26.0),
            Reading(4_800_000, 1000, 51.0),
        ),
        ({"x-ratelimit-limit-requests-day": "5", "x-ratelimit-limit": "5", "x-ratelimit-reset": "2"}, None, None),
        ({"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "many"}, None, None),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}, Reading(None, 0, None), None),
    ],
)
def test_what_headers_tell(headers: Mapping[str, str], requests: Reading | None, tokens: Reading | None) -> None:
    """Every spelling is read; what is not understood, or is of another time than a minute, is not said."""
    assert read(headers) == Readings(requests, tokens)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("2", 2.0),
        ("59.999", 59.999),
        ("1754667660000", None),
        ("", None),
        ("soon", None),
        ("-1s", None),
        ("1s ", None),
        ("\N{ARABIC-INDIC DIGIT ONE}s", None),
        ("9" * 5000 + "s", None),
        ("2026-08-19T14:34:35Z", None),
        ("nan", None),
    ],
)
def test_resets(text: str, seconds: float | None) -> None:
    """A reset is a duration or a number of seconds; a time without the answer's own date is not understood."""
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": text}
    assert read(headers).requests == Reading(None, 1, seconds)


@given(
    st.dictionaries(
        st.sampled_from([*read.__globals__["_REQUESTS"][0], *read.__globals__["_TOKENS"][2], "date"]), st.text()
    )
)
def test_no_header_makes_reading_fail(headers: dict[str, str]) -> None:
    """Whatever the headers hold, what comes of them are counts from 0 and seconds from 0, or nothing."""
    for reading in read(headers):
        assert reading is None or all(value is None or 0 <= value < math.inf for value in reading)


def test_the_headers_of_recorded_answers_are_read() -> None:
    """Of the recorded answers of OpenAI and Anthropic, those with such headers tell limits, and nearly all are of a minute."""
    if not CORPUS.is_dir():
        pytest.skip("the recorded traffic is not here: set VEYRA_SHARED")
    found = [read(headers) for headers in _recorded("openai-chat", "anthropic-messages")]
    told = [reading for readings in found for reading in readings if reading is not None]
    assert len(told) > 500
    assert all(reading.limit is not None and reading.remaining is not None for reading in told)
    longer = [reading for reading in told if reading.reset is None or reading.reset > PERIOD]
    assert len(longer) < 10


def _recorded(*names: str) -> Iterator[dict[str, str]]:
    for name in names:
        with gzip.open(CORPUS / f"{name}.jsonl.gz", "rt") as lines:
            for line in lines:
                headers = json.loads(line)["response"]["headers"]
                if any(header.endswith(("-remaining-requests", "-requests-remaining")) for header in headers):
                    yield headers


# --------------------------------------------------------------------------------------------------- a meter

calls = st.lists(
    st.tuples(
        st.floats(0.0, 30.0),  # seconds after the one before
        st.integers(1, 120),  # how much is estimated
        st.floats(0.0, 1.0),  # when it arrives, as a part of the time that it has for that
        st.floats(0.0, 90.0),  # how long it takes
        st.floats(0.0, 1.0),  # how much of the estimate is used
    ),
    max_size=60,
)


class Road:
    """Requests on their way to a server that counts what they use when they arrive, or when they end.

    A server that has no room for one when it arrives fails the test.
    """

    def __init__(self, meter: Meter, server: Rule, *, at_the_end: bool) -> None:
        self._meter = meter
        self._server = server
        self._counts = "ends" if at_the_end else "arrives"
        self._ahead: list[tuple[float, int, str, Hold, int]] = []
        self._number = 0

    def send(self, hold: Hold, *, arrives: float, ends: float, uses: int) -> None:
        self._number += 1
        self._ahead += [(arrives, self._number, "arrives", hold, uses), (ends, self._number, "ends", hold, uses)]
        self._ahead.sort(key=lambda event: event[:3])

    def go_on(self, now: float) -> None:
        """Let happen what does by now."""
        while self._ahead and self._ahead[0][0] <= now:
            at, _, what, hold, uses = self._ahead.pop(0)
            if what == "arrives":
                assert self._server.left(at) >= uses
            if what == self._counts:
                self._server.take(at, uses)
            if what == "ends":
                self._meter.settle(at, hold, uses)


@settings(max_examples=150)
@given(plan=calls, limit=st.integers(5, 100), rule=st.sampled_from(sorted(RULES)), at_the_end=st.booleans())
def test_no_server_is_asked_for_more(
    plan: list[tuple[float, int, float, float, float]], limit: int, rule: str, *, at_the_end: bool
) -> None:
    """Whenever requests arrive and however long they take, a server that counts in any way has room for each of them.

    Where it counts at the end, that holds for attempts that end before their estimate counts no more.
    """
    meter = Meter(limit)
    road = Road(meter, RULES[rule](limit), at_the_end=at_the_end)
    now = 0.0
    for gap, size, arrival, takes, share in plan:
        amount = min(size, limit)
        lasts = min(takes, LAG + PERIOD) if at_the_end else takes
        now += gap
        road.go_on(now)
        while not meter.fits(now, amount):
            now += max(meter.wait(now, amount), 0.001)
            road.go_on(now)
        arrives = now + arrival * min(lasts, LAG)
        road.send(meter.take(now, amount), arrives=arrives, ends=now + lasts, uses=math.ceil(amount * share))
    road.go_on(math.inf)
    assert meter.used >= 0
    assert meter.fits(now + 1000.0, limit)


def test_what_was_let_through_counts_for_a_minute_after_it_was_seen() -> None:
    """A place is free again a minute after the attempt ended, or after it can last have arrived."""
    meter = Meter(1)
    hold = meter.take(0.0, 1)
    assert meter.wait(0.0, 1) == pytest.approx(LAG + PERIOD, abs=0.2)
    meter.settle(3.0, hold, 1, once=True)
    assert meter.wait(3.0, 1) == pytest.approx(PERIOD, abs=0.2)
    assert not meter.fits(3.0 + PERIOD, 1)
    assert meter.fits(3.0 + PERIOD + 0.2, 1)


def test_a_long_attempt_counts_once_as_a_request() -> None:
    """The end of an attempt that arrived long ago does not count its request again; its tokens are counted then."""
    requests, tokens = Meter(1), Meter(100)
    first, second = requests.take(0.0, 1), tokens.take(0.0, 80)
    assert requests.fits(71.0, 1)
    assert tokens.fits(71.0, 80)
    requests.settle(71.0, first, 1, once=True)
    tokens.settle(71.0, second, 90)
    assert requests.fits(71.0, 1)
    assert not tokens.fits(71.0, 80)


def test_what_was_not_used_is_free_at_once_and_more_is_owed() -> None:
    """The estimate makes way for what was used, be it less or more."""
    meter = Meter(100)
    meter.settle(1.0, meter.take(0.0, 100), 10)
    assert meter.fits(1.0, 90)
    meter.settle(2.0, meter.take(1.0, 90), 150)
    assert meter.used == 160
    assert not meter.fits(3.0, 1)
    assert meter.wait(3.0, 1) == pytest.approx(59.0, abs=0.3)


def test_more_than_the_whole_limit_goes_when_nothing_else_counts() -> None:
    """A request larger than the limit is not kept forever: it is let through once nothing else counts."""
    meter = Meter(100)
    meter.settle(0.0, meter.take(0.0, 1), 1)
    assert not meter.fits(1.0, 500)
    assert meter.fits(61.0, 500)


def test_the_wait_behind_others_is_told() -> None:
    """How long a place in line takes is worked out from what counts and what goes before, minute by minute."""
    meter = Meter(60)
    for second in range(60):
        meter.settle(float(second), meter.take(float(second), 1), 1)
    assert meter.wait(59.0, 1) == pytest.approx(1.0, abs=0.3)
    assert meter.wait(59.0, 1, ahead=9) == pytest.approx(10.0, abs=0.3)
    assert meter.wait(59.0, 1, ahead=60) == pytest.approx(61.0, abs=0.5)
    assert meter.wait(59.0, 1, ahead=129) == pytest.approx(130.0, abs=0.8)
    assert Meter().wait(0.0, 10**9, ahead=10**9) == 0.0


def test_what_a_server_says_is_left_counts_less_what_it_may_not_have_seen() -> None:
    """Its word goes down by what is under way, and holds until its reset; then only the limit counts."""
    meter = Meter()
    first, _, _ = meter.take(0.0, 1), meter.take(0.0, 1), meter.take(0.0, 1)
    meter.heard(1.0, first, Reading(None, 5, 30.0))
    assert [meter.fits(1.0, amount) for amount in (3, 4)] == [True, False]
    meter.take(1.0, 3)
    assert meter.wait(1.0, 1) == 30.0
    assert meter.fits(31.0, 4)


def test_an_old_word_does_not_go_before_a_newer_one() -> None:
    """What was said in answer to an earlier attempt is left aside while the newer word holds, and counts after that."""
    meter = Meter()
    old, new = meter.take(0.0, 1), meter.take(1.0, 1)
    meter.heard(2.0, new, Reading(None, 0, 10.0))
    meter.heard(3.0, old, Reading(None, 50, 60.0))
    assert not meter.fits(3.0, 1)
    meter.heard(13.0, old, Reading(None, 1, 60.0))
    assert not meter.fits(13.0, 2)


def test_a_word_of_hours_holds_for_minutes() -> None:
    """A reset that lies far ahead is not waited for in full: the word may have been misread."""
    meter = Meter()
    meter.heard(0.0, meter.take(0.0, 1), Reading(None, 0, 86_400.0))
    assert meter.wait(0.0, 1) == LONGEST
    assert meter.fits(LONGEST, 1)


def test_what_is_given_back_is_left_again() -> None:
    """An attempt that was never sent gives back what the server said was left, too."""
    meter = Meter(10)
    meter.heard(0.0, meter.take(0.0, 1), Reading(None, 1, 30.0))
    hold = meter.take(1.0, 1)
    assert not meter.fits(1.0, 1)
    meter.settle(2.0, hold, 0)
    assert meter.fits(2.0, 1)


def test_a_limit_is_guessed_from_refusals_and_doubted_later() -> None:
    """What a server let through in the minute before it refused is the limit, unless that was next to nothing."""
    meter = Meter()
    for number in range(4):
        meter.settle(float(number), meter.take(float(number), 1), 1)
    meter.refused(4.0)
    assert meter.in_force(4.0) is None
    meter.settle(5.0, meter.take(5.0, 1), 1)
    meter.refused(6.0)
    assert meter.in_force(6.0) == 5
    assert not meter.fits(6.0, 1)
    assert meter.in_force(6.0 + DOUBT) == 10
    meter.limit = 7
    assert meter.in_force(6.0 + DOUBT) == 7


# --------------------------------------------------------------------------------------------------- a gauge


def entered(gauge: Gauge, now: float = 0.0, tokens: int = 100) -> Ticket:
    return gauge.enter(now, lambda: tokens, gauge.tokens(lambda: tokens))


def headers(*, limit: int, left: int, reset: str = "60s", of: str = "requests") -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{of}": f"{limit}",
        f"x-ratelimit-remaining-{of}": f"{left}",
        f"x-ratelimit-reset-{of}": reset,
    }


def test_nothing_is_measured_before_tokens_are_limited() -> None:
    """The estimate is asked for once a limit on tokens is known, and then of what is under way, too."""
    gauge, asked = Gauge(Limits()), []

    def measure() -> int:
        asked.append(1)
        return 400

    first, second = gauge.enter(0.0, measure, gauge.tokens(measure)), gauge.enter(0.0, measure, gauge.tokens(measure))
    assert not asked
    gauge.answered(1.0, first, headers(limit=1000, left=600, of="tokens"))
    assert len(asked) == 2
    assert not gauge.fits(1.0, 201)
    gauge.leave(1.0, first, sent=True, tokens=400)
    gauge.leave(1.0, second, sent=True, tokens=100)
    assert gauge.fits(1.0, 500)
    assert not gauge.fits(1.0, 501)


def test_a_limit_that_is_learned_counts_what_was_asked_before() -> None:
    """Attempts that ended before the limit was known, and those under way, are among what counts."""
    gauge = Gauge(Limits())
    for second in range(5):
        gauge.leave(float(second), entered(gauge, float(second)), sent=True, tokens=1)
    ticket, _ = entered(gauge, 5.0), entered(gauge, 5.0)
    gauge.answered(6.0, ticket, {"x-ratelimit-limit-requests": "8"})
    assert gauge.fits(6.0, 1)
    entered(gauge, 6.0)
    assert not gauge.fits(6.0, 1)
    assert gauge.wait(6.0, 1, Ahead(0, 0)) == pytest.approx(54.0, abs=0.3)


def test_a_number_that_was_given_goes_before_one_that_is_told() -> None:
    """A header does not change a limit that the user set, and what is left is followed all the same."""
    gauge = Gauge(Limits(requests_per_minute=5))
    gauge.answered(0.0, entered(gauge), headers(limit=1000, left=900))
    for _ in range(4):
        assert gauge.fits(0.0, 1)
        entered(gauge)
    assert not gauge.fits(0.0, 1)
    other = Gauge(Limits(requests_per_minute=5))
    other.answered(0.0, entered(other), headers(limit=1000, left=0))
    assert not other.fits(0.0, 1)


def test_a_refusal_closes_the_target_for_as_long_as_it_says() -> None:
    """After a 429 with a time nothing is let through until then, for 5 minutes at most; without a time nothing is learned."""
    gauge = Gauge(Limits())
    gauge.leave(0.0, entered(gauge), sent=False, tokens=None)
    gauge.refused(0.0, None, told=False)
    assert gauge.fits(0.0, 1)
    gauge.refused(0.0, 20.0, told=True)
    assert not gauge.fits(19.9, 1)
    assert gauge.fits(20.0, 1)
    gauge.refused(20.0, 9999.0, told=True)
    assert gauge.wait(20.0, 1) == LONGEST


def test_nothing_is_learned_where_that_is_not_wanted() -> None:
    """With learn=False neither headers nor refusals change anything."""
    gauge = Gauge(Limits(learn=False))
    gauge.answered(0.0, entered(gauge), headers(limit=1, left=0))
    gauge.refused(0.0, 60.0, told=False)
    assert gauge.fits(0.0, 10**9)


def test_what_was_never_sent_counts_for_nothing() -> None:
    """An attempt that was not sent gives back its request and its tokens."""
    gauge = Gauge(Limits(requests_per_minute=1, tokens_per_minute=100, concurrency=1))
    ticket = entered(gauge)
    assert not gauge.fits(0.0, 100)
    gauge.leave(1.0, ticket, sent=False, tokens=None)
    assert gauge.fits(1.0, 100)
    assert gauge.in_flight == 0


def test_tokens_that_are_not_stated_stay_estimated() -> None:
    """Where the usage is not known the estimate counts on."""
    gauge = Gauge(Limits(tokens_per_minute=100))
    gauge.leave(1.0, entered(gauge), sent=True, tokens=None)
    assert not gauge.fits(1.0, 1)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(requests_per_minute=1), "its limit of 1 requests a minute is used up"),
        (Limits(tokens_per_minute=100), "its limit of 100 tokens a minute is used up"),
        (Limits(concurrency=1), "the limit of 1 at a time is reached"),
    ],
)
def test_the_narrowest_limit_is_named(limits: Limits, words: str) -> None:
    """What an attempt has to wait for is said in words."""
    gauge = Gauge(limits)
    entered(gauge)
    assert gauge.narrowest(0.0, 100) == words
