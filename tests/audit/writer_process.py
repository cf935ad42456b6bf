"""A process that records calls until it is told, or made, to end. It writes each acknowledged id to its output.

Arguments: directory, tasks at once, calls per task (0: until killed). Lines: `i ID` for an intent, `o ID` for an outcome.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from audit.recording import answer, ask
from veyra.audit import AuditLog


async def main() -> None:
    """Record."""
    directory, tasks, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    log = AuditLog(directory)

    async def worker() -> None:
        for _ in range(calls) if calls else itertools.count():
            intent = await ask(log)
            os.write(1, f"i {intent.id}\n".encode())
            outcome = await answer(log, intent)
            os.write(1, f"o {outcome.id}\n".encode())

    await asyncio.gather(*(worker() for _ in range(tasks)))
    await log.aclose()


if __name__ == "__main__":
    asyncio.run(main())
