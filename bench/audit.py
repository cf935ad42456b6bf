"""CPU of verifying a log, level by level, of searching it, and of packing bodies; fails when a budget is missed.

A log of 40,000 entries is made, with bodies of 1 to 2 KB as ordinary chat calls have them. Each measure is the best of
several rounds, taken in turns, in leaves or bodies per second of CPU on one core. The floor is SHA-256 over the leaves
and over the nodes above them, and nothing else.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from veyra.audit import BodyPart, checkpoint, entry, segment, verify
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.coding import Packer
from veyra.audit.entry import Attempt, Draft, new_id, session_open
from veyra.audit.frame import encode
from veyra.audit.index import Index
from veyra.audit.segment import Head
from veyra.audit.session import Session
from veyra.audit.tree import Tree
from veyra.audit.verify import Level
from veyra.audit.walk import Walk

CALLS = 20_000
ROUNDS = 4
ORIGIN = "veyra-log/bench"
GOALS = {"tree": 300_000, "semantics": 80_000}
"""Leaves per second of CPU on one core of the machine this was built on."""
BUDGETS = {"tree": 0.30, "semantics": 0.10}
"""At least so much of the floor: what is judged, as machines differ."""
PACKING_US = 100
ASKED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "some-model",
    "server.address": "api.example.com",
    "server.port": 443,
    "veyra.dialect": "openai_chat",
    "veyra.messages": 2,
    "veyra.stream": False,
}
ANSWERED = {
    "gen_ai.response.id": "chatcmpl-abcdefghij",
    "gen_ai.response.model": "some-model-2026",
    "gen_ai.usage.input_tokens": 700,
    "gen_ai.usage.output_tokens": 200,
    "http.response.status_code": 200,
    "veyra.finish_reason": "stop",
    "veyra.request_id": "req_abcdefghij",
}


def bodies(chance: random.Random, count: int) -> list[bytes]:
    """Make bodies of 1 to 2 KB out of 2,000 words, which shrink as recorded ones do."""
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(2_000)]
    return [
        b'{"messages":[{"role":"user","content":"%b"}]}'
        % " ".join(chance.choices(words, k=chance.randint(150, 280))).encode()
        for _ in range(count)
    ]


def make(directory: Path, texts: list[bytes]) -> None:
    """Lay a log down at once: an intent with two bodies and an outcome with three for each call."""
    (directory / segment.FOLDER).mkdir(parents=True)
    session, tree = Session(Packer()), Tree()

    def add(draft: Draft) -> bytes:
        sealed = session.seal(draft)
        tree.append(sealed.hash)
        return encode(tree.size - 1, sealed)

    with segment.path(directory, 0).open("wb") as file:
        file.write(segment.encode(Head(origin=ORIGIN, index=0, first=0, peaks=(), created=1)))
        file.write(add(session_open(pid=1, mode="strict")))
        for number in range(CALLS):
            attempt, text = Attempt(new_id(), 1, "openai"), texts[number % len(texts)]
            parts = [BodyPart(name, text, "application/json") for name in ("request.messages", "request.wire")]
            intent = entry.intent(attempt, attributes=ASKED, parts=parts)
            file.write(add(intent))
            parts = [BodyPart(name, text, "application/json") for name in ("response.message", "response.wire")]
            parts.append(BodyPart("meta", b'{"status":200,"headers":{},"arrivals":[]}', "application/json"))
            file.write(
                add(
                    entry.outcome(
                        attempt, intent=intent.id, status="ok", latency_ns=10**9, attributes=ANSWERED, parts=parts
                    )
                )
            )
    (directory / checkpoint.FILE).write_bytes(checkpoint.encode(Checkpoint(ORIGIN, tree.size, tree.root())))


def floor(leaves: list[bytes]) -> None:
    """Hash leaves and nodes."""
    hashes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(hashes) > 1:
        hashes = [sha256(b"\1" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2], strict=False)]


def main() -> int:
    """Measure; return the number of budgets that were missed."""
    texts = bodies(random.Random(1), 1_000)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "log"
        make(directory, texts)
        leaves = [frame.leaf for _, frame in Walk(directory)]
        print(f"{len(leaves):,} leaves of {sum(map(len, leaves)) // len(leaves)} bytes on average")

        def level(name: Level) -> Callable[[], object]:
            def run() -> None:
                assert verify(directory, level=name).size == len(leaves)

            return run

        def indexed() -> None:
            (directory / "index.db").unlink(missing_ok=True)
            Index.open(directory).close()
            (directory / "index.db").unlink()

        packer = Packer()
        rates = measure(
            {
                "floor": (lambda: floor(leaves), len(leaves)),
                "tree": (level("tree"), len(leaves)),
                "semantics": (level("semantics"), len(leaves)),
                "bodies": (level("bodies"), len(leaves)),
                "index": (indexed, len(leaves)),
                "pack": (lambda: [packer.pack(text) for text in texts], len(texts)),
            }
        )
    for name, rate in rates.items():
        goal = f"   goal {GOALS[name]:,}" if name in GOALS else ""
        print(
            f"{name:<10} {rate:>9,.0f} /s   {rate / rates['floor']:.2f} x the floor   {1e6 / rate:6.2f} us each{goal}"
        )
    missed = [name for name, budget in BUDGETS.items() if rates[name] < budget * rates["floor"]]
    missed += ["pack"] if 1e6 / rates["pack"] * 2.5 > PACKING_US else []  # bodies that a record has on average
    for name in missed:
        print(f"over budget: {name}", file=sys.stderr)
    return len(missed)


def measure(tasks: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Return, for each task, how many of its items it does in a second of CPU: the best of the rounds."""
    best = dict.fromkeys(tasks, 0.0)
    for _ in range(ROUNDS):
        for name, (task, count) in tasks.items():
            began = time.process_time()
            task()
            best[name] = max(best[name], count / (time.process_time() - began))
    return best


if __name__ == "__main__":
    sys.exit(bool(main()))
