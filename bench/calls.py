"""What a call costs: CPU of the client per `generate`, beside the least possible and beside OpenAI's own SDK.

    scripts/bench            (installs the bench group first)
    python bench/calls.py    (with it installed)

Every contender runs in a process of its own against one fake provider on loopback, and their rounds take turns, each
beginning with another, so that what else the machine does falls on all of them alike. On Linux the clients share one core, and the provider has
another. What counts is ratios of medians within one run; the
microseconds are of this machine and this minute. Exits with 1 when a ratio is over its budget.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import IO, cast

from client import CONTENDERS

HERE = Path(__file__).parent
ROUNDS = 21
CALLS = 100
WARM_UP = 50
BUDGETS = {
    ("veyra-memory", "openai-sdk"): 0.45,
    ("veyra-client", "veyra-memory"): 1.25,
    ("veyra-durable", "openai-sdk"): 0.60,
}
"""Most that the first may cost as a share of the second."""


class Partner:
    """A process at the other end of two pipes, which ends when its standard input is closed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._in, self._out = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

    def hear(self) -> str:
        """Return the process's next line."""
        line = self._out.readline()
        if not line:
            sys.exit("a process of the measurement ended early; its own words are above")
        return line

    def measure(self, calls: int) -> float:
        """Have a client make so many calls; return the CPU seconds of one."""
        print(calls, file=self._in, flush=True)
        return float(self.hear()) / calls


@contextmanager
def _started(*arguments: str, core: int) -> Iterator[Partner]:
    """Start a program of this directory on a core: 0 is the first that we may use, -1 the last."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if sys.platform == "linux":
            os.sched_setaffinity(process.pid, {sorted(os.sched_getaffinity(0))[core]})
        yield Partner(process)


def measure() -> dict[str, float]:
    """Return the median CPU seconds of a call for every contender."""
    with ExitStack() as stack:
        provider = stack.enter_context(_started(str(HERE / "provider.py"), core=0))
        base_url = f"http://127.0.0.1:{int(provider.hear())}/v1"
        script = str(HERE / "client.py")
        clients = {name: stack.enter_context(_started(script, name, base_url, core=-1)) for name in CONTENDERS}
        for client in clients.values():
            client.measure(WARM_UP)
        names = list(clients)
        rounds: list[dict[str, float]] = []
        for number in range(ROUNDS):
            first = number % len(names)
            rounds.append({name: clients[name].measure(CALLS) for name in names[first:] + names[:first]})
    return {name: median(costs[name] for costs in rounds) for name in CONTENDERS}


def report(costs: dict[str, float]) -> bool:
    """Print costs and ratios; return whether every budget holds."""
    print(f"CPU of one call, median of {ROUNDS} rounds of {CALLS} calls, contenders in turn\n")
    print(f"{'contender':<15}{'us':>8}{'x floor':>10}{'x openai-sdk':>15}")
    for name, cost in costs.items():
        print(f"{name:<15}{cost * 1e6:>8.0f}{cost / costs['floor']:>10.2f}{cost / costs['openai-sdk']:>15.2f}")
    print()
    kept = True
    for (name, other), budget in BUDGETS.items():
        ratio = costs[name] / costs[other]
        kept = kept and ratio <= budget
        print(f"{name} / {other}: {ratio:.2f}, budget {budget:.2f}: {'ok' if ratio <= budget else 'OVER'}")
    return kept


if __name__ == "__main__":
    sys.exit(0 if report(measure()) else 1)
