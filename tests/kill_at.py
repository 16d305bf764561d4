"""Run a management command in this process, and have it killed, or stopped, at a step of the flush.

    python -m tests.kill_at SIGNAL "STEP" COMMAND [ARGUMENT ...]

A step is a call to Redis or the database, before or after it, or a statement inside a transaction; "before confirm" is
the first of its name, "before confirm 2" the second. SIGNAL is KILL or STOP.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import django
from django.core.management import call_command

SIGNAL, STEP = signal.Signals[f"SIG{sys.argv[1]}"], sys.argv[2]
taken: Counter[str] = Counter()


def step(name: str) -> None:
    """Take a step, and get the signal when it is the one."""
    taken[name] += 1
    if (name if taken[name] == 1 else f"{name} {taken[name]}") == STEP:
        os.kill(os.getpid(), SIGNAL)


def stepping(module: Any, name: str) -> None:
    """Put a step before and after a function of a module."""
    function: Callable[..., Any] = getattr(module, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        step(f"before {name}")
        result = function(*args, **kwargs)
        step(f"after {name}")
        return result

    setattr(module, name, call)


def main() -> None:
    """Install the steps and run the command."""
    django.setup()
    from django.conf import settings

    from videos import counters, ledger
    from videos.ledger import sql

    settings.VIDEOS_SHARDS = int(os.environ.get("KILL_AT_SHARDS", "1"))
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = int(os.environ.get("KILL_AT_CHUNK_FIELDS", "1000"))
    for name in ("claim", "make_durable", "confirm", "close", "resync", "beat"):
        stepping(counters, name)
    for name in ("newest_batch", "open_batch", "apply", "finish_batch", "settle"):
        stepping(ledger, name)
    for name in ("insert_likes", "delete_likes", "add_counts", "add_hours"):
        stepping(sql, name)
    call_command(*sys.argv[3:])


if __name__ == "__main__":
    main()
