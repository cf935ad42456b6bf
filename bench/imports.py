"""What an import costs, in fresh interpreters that take turns: `import veyra` beside `import httpx`.

    scripts/bench              (installs the bench group first)
    python bench/imports.py    (with it installed)

Each import runs in an interpreter of its own, which measures its CPU time (user and system) from just before to just
after. What counts is the ratio of medians within one run. Exits with 1 when a ratio is over its budget.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

ROUNDS = 25
FIRST_CALL = "veyra.models.registry, veyra.models.wire, veyra.wire.openai_chat, veyra.transport.http"
"""What `get_backend("openai")` and its first call load."""
BUDGETS = {
    ("veyra", "httpx"): 0.25,
    (FIRST_CALL, "aiohttp"): 1.5,
}
"""Most that the first import may cost as a share of the second."""

_PROGRAM = "import time; start = time.process_time_ns(); import {}; print(time.process_time_ns() - start)"


def cost(modules: str) -> int:
    """Return the CPU nanoseconds that a fresh interpreter spends on importing `modules`."""
    command = [sys.executable, "-I", "-c", _PROGRAM.format(modules)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report() -> bool:
    """Measure and print every pair; return whether every budget holds."""
    kept = True
    print(f"CPU of an import, median of {ROUNDS} fresh interpreters each, in turn\n")
    for pair, budget in BUDGETS.items():
        rounds = [[cost(modules) for modules in pair] for _ in range(ROUNDS + 1)][1:]  # the first writes bytecode
        ours, theirs = (median(column) for column in zip(*rounds, strict=True))
        ratio = ours / theirs
        kept = kept and ratio <= budget
        print(f"{pair[0]}: {ours / 1e6:.1f} ms; {pair[1]}: {theirs / 1e6:.1f} ms")
        print(f"    ratio {ratio:.2f}, budget {budget:.2f}: {'ok' if ratio <= budget else 'OVER'}")
    return kept


if __name__ == "__main__":
    sys.exit(0 if report() else 1)
